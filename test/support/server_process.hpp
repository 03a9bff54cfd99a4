#pragma once
// A server of a test's own as a process: on a free port of loopback, in a temporary directory, for as long
// as the object lives and never longer than the thread that started it. What goes wrong throws
// std::runtime_error with the end of the server's log.
//
// Belongs to one thread, which is also the one that starts it.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace test_support {

// Stays the test's while nobody listens there: a server that allows the address to be used again gets it.
class reserved_port {
public:
  reserved_port();
  ~reserved_port();
  reserved_port(const reserved_port &) = delete;
  reserved_port &operator=(const reserved_port &) = delete;
  std::uint16_t number() const noexcept { return number_; }

private:
  int socket_;
  std::uint16_t number_ = 0;
};

class server_process {
public:
  // By its name on the path. It does not run yet.
  explicit server_process(std::string program);
  ~server_process();
  server_process(const server_process &) = delete;
  server_process &operator=(const server_process &) = delete;

  std::uint16_t port() const noexcept { return port_.number(); }
  const std::filesystem::path &folder() const noexcept { return folder_; }
  pid_t pid() const noexcept { return pid_; } // -1: it does not run
  std::filesystem::path log_file() const { return folder_ / "log"; }
  std::string log() const; // what it has written there

  void kill();      // -9
  void terminate(); // SIGTERM, and waits till it has ended: it saves what it was told to save
  void pause();     // SIGSTOP: connections stay, and the kernel goes on to accept them
  void resume();

protected:
  // Returns when it answers. Until then `ask` gives what it did instead; when it does, nothing.
  void start(std::vector<std::string> arguments, const std::function<std::string()> &ask);

private:
  void reap();
  std::string end_of_log() const;

  const std::string program_;
  std::filesystem::path folder_;
  const reserved_port port_;
  pid_t pid_ = -1;
};

} // namespace test_support
