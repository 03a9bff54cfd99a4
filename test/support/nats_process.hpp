#pragma once
// A nats-server with JetStream of a test's own: on a free port of loopback, with its data in a temporary
// directory, for as long as the object lives and never longer than the thread that started it. What goes
// wrong throws std::runtime_error with the end of the server's log.
//
// Belongs to one thread, which is also the one that starts it.

#include <cstdint>
#include <filesystem>
#include <string>
#include <sys/types.h>
#include <vector>

namespace test_support {

class nats_process {
public:
  // `lines`: of its configuration. Returns when it answers.
  explicit nats_process(std::vector<std::string> lines = {});
  ~nats_process();
  nats_process(const nats_process &) = delete;
  nats_process &operator=(const nats_process &) = delete;

  std::uint16_t port() const noexcept { return port_; }
  std::string url() const; // nats://127.0.0.1:PORT
  const std::filesystem::path &folder() const noexcept { return folder_; }
  // Where JetStream keeps its data, while the server does not run.
  std::filesystem::path data() const { return folder_ / "data"; }
  pid_t pid() const noexcept { return pid_; } // -1: it does not run
  std::string log() const;

  // As a client of NATS' own would: the answer to a request, "(no answer)" if none comes within ten seconds.
  std::string ask(const std::string &subject, const std::string &body) const;
  // Returns when the server has it. `headers`: as on the wire, each with its \r\n.
  void say(const std::string &subject, const std::string &body,
           const std::string &headers = {}) const;

  void kill();  // -9
  void pause(); // SIGSTOP: connections stay, and the kernel goes on to accept them
  void resume();
  // On the same port; returns when it answers.
  void start();
  void restart(bool with_its_data = true); // kills it first if it runs

private:
  void await_answers();
  void reap();

  std::vector<std::string> lines_;
  std::filesystem::path folder_;
  int reserved_ = -1; // holds the port while nobody listens there
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
};

} // namespace test_support
