#pragma once
// A nats-server with JetStream of a test's own.

#include "support/server_process.hpp"

#include <string>
#include <vector>

namespace test_support {

class nats_process : public server_process {
public:
  // `lines`: of its configuration. Returns when it answers.
  explicit nats_process(std::vector<std::string> lines = {});

  std::string url() const; // nats://127.0.0.1:PORT
  // Where JetStream keeps its data, while the server does not run.
  std::filesystem::path data() const { return folder() / "data"; }

  // As a client of NATS' own would: the answer to a request, "(no answer)" if none comes within ten seconds.
  std::string ask(const std::string &subject, const std::string &body) const;
  // Returns when the server has it. `headers`: as on the wire, each with its \r\n.
  void say(const std::string &subject, const std::string &body,
           const std::string &headers = {}) const;
  struct words {
    std::string subject, body, headers{};
  };
  void say(const std::vector<words> &all) const; // in this order

  // On the same port; returns when it answers.
  void start();
  void restart(bool with_its_data = true); // kills it first if it runs

private:
  std::vector<std::string> lines_;
};

} // namespace test_support
