#pragma once
// A server that answers as a test says, and a relay in front of a real one that can hold what passes.

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace pool_test {

// Each connection and its commands are told in turn, from one thread; the answer is sent as it is, nothing
// closes the connection, an empty one leaves it waiting.
class fake_redis {
public:
  using words = std::vector<std::string>;
  using responder = std::function<std::optional<std::string>(unsigned connection, const words &)>;
  explicit fake_redis(responder answer);
  ~fake_redis();
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  unsigned connections() const { return connections_; }

private:
  void run();
  responder answer_;
  std::uint16_t port_ = 0;
  int listener_ = -1;
  std::atomic<unsigned> connections_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// What a working Redis answers to a login.
std::string good_answer(const fake_redis::words &command, const std::string &run = "run1");

class relay {
public:
  explicit relay(std::uint16_t to);
  ~relay();
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  // From here on what comes from clients on the connections that there are stays here, and their ends, too.
  void hold();
  // All of it goes on.
  void release();
  std::size_t held() const { return held_; }     // bytes
  std::size_t passed() const { return passed_; } // from clients, after a hold
  std::size_t broken() const { return broken_; } // held ones that Redis did not take

private:
  struct pair {
    int client = -1;
    int server = -1;
    bool holding = false;
    std::string kept;
  };
  void run();
  std::uint16_t port_ = 0;
  int listener_ = -1;
  std::uint16_t to_;
  std::mutex mutex_;
  std::vector<pair> pairs_;
  std::atomic<std::size_t> held_{0};
  std::atomic<std::size_t> passed_{0};
  std::atomic<std::size_t> broken_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

} // namespace pool_test
