#pragma once
// The demo's clients: each reconnects by itself, listens to the room, sends a numbered message to the
// server now and then and measures round trips.

#include "demo_ledger.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace demo {

// Durations of many, gathered by several threads.
class samples {
public:
  void add(std::chrono::nanoseconds d);
  // In milliseconds; 0 without any. `part` of 0.99 is the 99th percentile.
  double percentile(double part);
  // The same of those added since the last call.
  double recent(double part);
  std::size_t size();

private:
  std::mutex mutex_;
  std::vector<float> all_;
  std::size_t seen_ = 0;
};

class fleet {
public:
  fleet(chorus::runtime &rt, ledger &book, std::uint16_t port, std::uint64_t seed);

  // Closes all clients in order; completes when all their coroutines have ended.
  chorus::task<> close();
  // Ends the clients' own messages, so that what is under way can arrive.
  void stop_talking() noexcept { talking_ = false; }

  std::size_t connected() const;
  std::uint64_t reconnects() const;
  // Clients that got the last message.
  std::size_t finished() const noexcept { return finished_; }
  samples &round_trips() noexcept { return round_trips_; }
  samples &latencies() noexcept { return latencies_; }

private:
  chorus::task<> listen(std::size_t i);
  chorus::task<> talk(std::size_t i, std::uint64_t seed);
  chorus::task<> close_one(std::size_t i);

  chorus::runtime &runtime_;
  ledger &book_;
  std::vector<std::unique_ptr<chorus::client>> clients_;
  std::atomic<bool> talking_{true};
  std::atomic<std::size_t> running_{0};
  std::atomic<std::size_t> finished_{0};
  samples round_trips_;
  samples latencies_;
};

// A published message: its number, the time, and whether it is the last one.
chorus::message make_news(std::uint64_t number, bool last);

} // namespace demo
