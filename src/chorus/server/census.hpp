#pragma once
// Everything that a server counts, summed. Taken on each shard in turn, in steps of so many sessions
// that whoever else lives on the shard hardly waits, so a census of thousands costs them no more than
// one of a few.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/server/engine_watch.hpp>
#include <chorus/server/measures.hpp>
#include <chorus/server/server.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace chorus::detail {

class server_core;
class server_shard;
struct list_hook;
struct live_session;

struct census {
  // Sessions looked at before others on the shard have their turn; one takes some 100 ns.
  static constexpr std::size_t step = 256;

  server_stats counts{}; // its sums over sessions aside: those are `sessions`
  drain_report drained{};
  std::size_t rooms = 0;
  std::size_t history_bytes = 0;

  std::array<std::uint64_t, refusals> refused{};
  std::array<std::array<std::uint64_t, 2>, close_codes> closed{};
  std::array<std::uint64_t, endings> ended{};
  histogram_sum tls_seconds;
  histogram_sum round_trips;
  histogram_sum members;
  histogram_sum fan_out_seconds;
  histogram_sum broadcast_seconds;
  histogram_sum engine_seconds;
  histogram_sum delivery_seconds;

  struct of_engine {
    bool any = false; // without a broker all else is nothing
    engine_state state{};
    broker_stats stats{};
    std::uint64_t requests_dropped = 0;
    std::uint64_t refused = 0;
    std::uint64_t waited = 0;
    std::uint64_t unnumbered = 0;
    std::uint64_t unconfirmed = 0;
    std::uint64_t replayed = 0;
    std::size_t waiting = 0;
    std::size_t waiting_bytes = 0;
    std::size_t degraded_rooms = 0;
    std::chrono::nanoseconds degraded{0};
  } engine{};

  session_sums sessions; // of live ones and of those that have ended
  std::size_t queued_bytes = 0;
  std::size_t queued_messages = 0;
  std::chrono::nanoseconds oldest{0}; // how long the oldest queued message has waited

  void operator+=(const census &other) noexcept;
};

// The way through the sessions of one shard, from the newest to the oldest. One that ends before it
// was reached is counted as it ends; none is counted twice, so that no sum ever goes back.
class census_walk {
public:
  explicit census_walk(server_shard &where) noexcept;
  ~census_walk();
  census_walk(const census_walk &) = delete;
  census_walk &operator=(const census_walk &) = delete;

  // Looks at the next `census::step`; false when there are none left.
  bool go_on() noexcept;
  const census &counted() const noexcept { return counted_; }

  // `live` has ended, and then: leaves the list.
  void on_ended(const live_session &live, const session &s) noexcept;
  void on_unlink(const list_hook &live) noexcept;
  census_walk *next() const noexcept { return next_walk_; }

private:
  server_shard &where_;
  list_hook *at_;       // the next to be looked at
  std::uint64_t below_; // numbers of the sessions that are still to be looked at
  census counted_;
  census_walk *next_walk_;
};

// From any thread.
census::of_engine engine_census(const server_core &core);

// On any thread of the runtime. Fails with shut_down when a shard has gone.
task<result<census>> take_census(std::shared_ptr<server_core> core);

} // namespace chorus::detail
