#pragma once
// The clients of the cluster demo. Each reconnects by itself, to any of the nodes, under the resume
// protocol, and writes down what it gets of its room. Some publish there too, one message after the other:
// the next when the outcome of the last is known, or nothing was heard of it for a while.

#include "cluster_account.hpp"

#include <chorus/chorus.hpp>

#include <boost/asio/steady_timer.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cluster_demo {

// Times from publishing to delivery, in powers of a quarter more than a microsecond.
class delays {
public:
  void add(std::chrono::nanoseconds d) noexcept;
  // In milliseconds, of those since the last call of `begin`; 0 without any.
  double percentile(double part) const noexcept;
  void begin() noexcept;

private:
  static constexpr std::size_t steps = 96;
  std::array<std::atomic<std::uint64_t>, steps> counts_{};
};

// What a self-test does to watch the account, or the demo, fail.
enum class fault : std::uint8_t {
  none,
  drop, // to what client 0 gets: these three
  twice,
  swap,
  echo,  // to what the first plain reader gets
  crash, // of a node
  away,  // Redis stays so
};

class fleet {
public:
  // `nodes`: the URLs of all that there will be; a client begins with one of the first `at_first`.
  fleet(chorus::runtime &rt, account &books, const std::vector<std::string> &nodes,
        std::size_t at_first, std::uint64_t seed, double per_second, fault wrong);

  void publish(bool on) noexcept { publishing_ = on; }
  // Publishers that wait for the outcome of a message.
  std::size_t waiting() const noexcept { return waiting_; }
  // Closes all clients; completes when all coroutines have ended.
  chorus::task<> close();

  std::size_t connected() const;
  // Those that are connected to the node at this address, and how many of them publish.
  struct presence {
    std::size_t clients = 0;
    std::size_t publishers = 0;
  };
  presence at(const std::string &address) const;
  chorus::client_stats totals() const; // of those members that are sums
  const delays &latencies() const noexcept { return latencies_; }
  delays &latencies() noexcept { return latencies_; }

private:
  struct member {
    std::unique_ptr<chorus::client> client{};
    unsigned shard = 0;
    // Of a publisher, on its shard.
    std::unique_ptr<boost::asio::steady_timer> answer{};
    message_id asked{};
    bool answered = false;
    // For a fault.
    std::uint64_t heard = 0;
    chorus::placed_message held{};
  };
  chorus::task<> listen(std::size_t i);
  chorus::task<> talk(std::size_t i, std::uint64_t seed);
  chorus::task<> close_one(std::size_t i);
  void take(std::size_t i, const chorus::placed_message &m);
  void write_down(std::size_t i, const chorus::placed_message &m);
  void confirmed(std::size_t i, std::string_view text);

  chorus::runtime &runtime_;
  account &books_;
  const double pause_; // seconds between a publisher's messages, on average
  const fault wrong_;
  std::vector<member> members_;
  std::atomic<bool> publishing_{false};
  std::atomic<bool> closing_{false};
  std::atomic<std::size_t> waiting_{0};
  std::atomic<std::size_t> running_{0};
  delays latencies_;
};

} // namespace cluster_demo
