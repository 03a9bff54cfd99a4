#pragma once
// The processes of the cluster demo, and its temporary directory. Each is ended by its id when its object
// goes, and by the kernel if this process should die before.

#include <chorus/chorus.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace cluster_demo {

// Removed with what is in it.
class directory {
public:
  directory();
  ~directory();
  directory(const directory &) = delete;
  directory &operator=(const directory &) = delete;
  const std::string &path() const noexcept { return path_; }

private:
  std::string path_;
};

// A free port of 127.0.0.1, which nobody is dealt meanwhile: whoever listens there has to allow the
// address to be used again, as servers do.
class port {
public:
  port();
  ~port();
  port(const port &) = delete;
  port &operator=(const port &) = delete;
  std::uint16_t number() const noexcept { return number_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(number_); }

private:
  int socket_ = -1;
  std::uint16_t number_ = 0;
};

class process {
public:
  process() = default;
  // What it says goes to the file `log`. Throws std::runtime_error when it can't be started. To be
  // called on a thread that lasts as long as the process is to live.
  process(const std::vector<std::string> &command, std::string log);
  ~process();
  process(process &&other) noexcept;
  process &operator=(process &&other) noexcept;

  bool running() noexcept;
  void signal(int number) noexcept;
  // SIGKILL, and waits for the end.
  void kill() noexcept;
  // Completes when it has ended: false when it still runs after so long.
  chorus::task<bool> ended(std::chrono::steady_clock::duration within);
  pid_t pid() const noexcept { return pid_; }
  int status() const noexcept { return status_; } // of waitpid, when it has ended
  // The last lines of what it said.
  std::string last_words() const;

private:
  pid_t pid_ = -1;
  int status_ = 0;
  std::string log_;
};

// Where a program is: `given` if it is one, else `name` on the PATH. Empty: nowhere.
std::string find_program(const std::string &given, const std::string &name);
// Whether something listens there. Does not wait.
bool accepts(std::uint16_t port);

} // namespace cluster_demo
