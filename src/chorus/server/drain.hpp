#pragma once
// `server::drain`: how a server leaves while its clients find another. See server.hpp.

#include <chrono>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace chorus {

struct drain_options {
  // Sessions are closed evenly over this time; zero: all at once.
  std::chrono::milliseconds window{10'000};
  // Instead of the window: so many a second, however long that takes. 0: by the window.
  double per_second = 0;
  // When the clients should come back, counted from their close.
  std::chrono::milliseconds retry_after{1'000};
  // Later, where needed: they come back at no more than this many a second. 0: they come back as they
  // are closed, which under a window of zero is all at once.
  double returns_per_second = 0;
  // The listeners are given up at once: another process accepts there. By default they stay, so that
  // plain HTTP goes on being answered until the last session has gone. Connections that wait in the
  // backlog of a tcp port that nobody else listens on are reset.
  bool release_listeners = false;
  std::chrono::milliseconds stop_deadline{10'000}; // of the stop at the end
};
static_assert(std::is_trivially_destructible_v<drain_options>);

// closed + left + aborted == sessions
struct drain_report {
  drain_report() noexcept {} // no aggregate: g++ 12

  std::size_t sessions = 0;           // open at the call, or opened by upgrades that were under way
  std::size_t closed = 0;             // by this side, in order
  std::size_t left = 0;               // by their peers, in order
  std::size_t aborted = 0;            // not in order: no answer within close_timeout, or lost
  std::size_t handlers_cancelled = 0; // at the deadline of the stop
  std::size_t upgrades_refused = 0;
  bool interrupted = false; // `stop` was called before every session had its close
  std::vector<std::size_t>
      begun{}; // closes begun in each second of the drain, by the server's clock
};

} // namespace chorus
