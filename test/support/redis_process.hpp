#pragma once
// A redis-server of a test's own, which listens at a unix socket, too.

#include "support/server_process.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace test_support {

struct redis_process_options {
  std::vector<std::string> lines{}; // as in redis.conf: "appendonly yes", "requirepass secret"
  bool sentinel = false;
  bool cluster = false; // in cluster mode; its bus has a port of its own
  // The port speaks TLS; the unix socket does not. PEM files, see test/certs.
  std::string certificate_file{};
  std::string key_file{};
  std::string ca_file{};
  bool client_certificate = false; // is asked for
};

class redis_process : public server_process {
public:
  // Returns when it answers.
  explicit redis_process(redis_process_options options);
  explicit redis_process(std::vector<std::string> lines = {});

  std::string url() const;         // redis://127.0.0.1:PORT, or rediss://
  std::string socket_path() const; // of the unix socket
  std::string unix_url() const;    // redis+unix://PATH

  // Where it was, on the same port; kills it first if it runs. Returns when it answers.
  void restart(bool with_its_data = true);
  // From the next restart on.
  void add_line(std::string line) { options_.lines.push_back(std::move(line)); }

  // As redis-cli would, on a connection of its own by the unix socket; logs in with `requirepass` if a line
  // has it. A list comes as lines, nil as "(nil)", an error as "(error) NOAUTH …", and "(no answer)" if
  // none comes within ten seconds.
  std::string ask(const std::vector<std::string> &words) const;
  // Several on one connection, one after the other: the last one's answer.
  std::string ask_all(const std::vector<std::vector<std::string>> &commands) const;

private:
  void start();

  redis_process_options options_;
  std::optional<reserved_port> bus_; // of a cluster
};

// Masters without replicas, with the slots dealt out evenly.
class redis_cluster {
public:
  explicit redis_cluster(unsigned masters = 3, std::vector<std::string> lines = {});

  std::size_t size() const noexcept { return nodes_.size(); }
  redis_process &operator[](std::size_t i) { return *nodes_[i]; }
  std::string url() const;                // of the first one
  std::size_t owner(unsigned slot) const; // by the word of the first one that answers
  // Moves a slot with its keys. In between, when `half` is given, the slot is "migrating" and `half` runs.
  void move_slot(unsigned slot, std::size_t from, std::size_t to,
                 const std::function<void()> &half = {});
  const std::string &id(std::size_t i) const { return ids_[i]; }

private:
  std::vector<std::unique_ptr<redis_process>> nodes_;
  std::vector<std::string> ids_;
};

} // namespace test_support
