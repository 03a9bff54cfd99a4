#pragma once
// What a server counts for whoever observes it, beyond server_stats. One of each for every shard,
// written on that shard's thread only.

#include <chorus/base/failure.hpp>
#include <chorus/base/histogram.hpp>
#include <chorus/session/counter.hpp>
#include <chorus/session/session.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

namespace chorus::detail {

// Why a connection did not become a session.
enum class refusal : unsigned char {
  malformed,       // no valid upgrade request
  not_found,       // no such path, or one for plain HTTP
  origin,          // a browser's page from elsewhere
  unauthorized,    // the authorisation said no
  limit,           // as many sessions as the server takes
  address_limit,   // as many of this address
  user_limit,      // as many of this user
  handshake_limit, // as many handshakes at a time as the server takes
  proxy_header,    // it should have begun with a header of the PROXY protocol
  descriptors,     // the process has no file descriptor left
  draining,
  unavailable, // stopping, or the authorisation took too long
  other,       // the authorisation failed
};
inline constexpr std::size_t refusals = 13;
std::string_view to_string(refusal) noexcept;

// How sessions ended: the code of the close frame, those of applications and of libraries together.
inline constexpr std::size_t close_codes = 18;
std::size_t close_code_index(std::uint16_t code) noexcept;
std::string_view close_code_label(std::size_t index) noexcept; // "1000" ... "1015", "3xxx", "4xxx"

// How sessions ended: the kind of error that they ended with.
inline constexpr std::size_t endings = 10;
std::size_t ending_index(const failure &why) noexcept;
std::string_view ending_label(std::size_t index) noexcept;

// Of sessions, summed.
struct session_sums {
  std::uint64_t messages_received = 0;
  std::uint64_t messages_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t messages_dropped = 0; // those below among them
  std::uint64_t messages_expired = 0;
  std::uint64_t dropped_oldest = 0;
  std::uint64_t dropped_newest = 0;

  void add(const session &s) noexcept;
  void operator+=(const session_sums &other) noexcept;
};

struct shard_measures {
  std::array<counter, refusals> refused;
  std::array<std::array<counter, 2>, close_codes> closed; // by this side, by the peer
  std::array<counter, endings> ended;
  histogram tls_seconds{time_bounds}; // of the completed
  histogram round_trips{time_bounds};
  session_sums over; // of the sessions that have ended

  void note(refusal why) noexcept { refused[static_cast<std::size_t>(why)] += 1; }
  void note_end(const session &s) noexcept;
};

// Of all rooms of a server, about the engine that they share. From any thread.
class engine_counts {
public:
  std::atomic<std::uint64_t> refused{0};     // messages
  std::atomic<std::uint64_t> waited{0};      // that were put off until the engine is back
  std::atomic<std::uint64_t> unnumbered{0};  // that members here got without a place
  std::atomic<std::uint64_t> unconfirmed{0}; // of which nobody knows
  std::atomic<std::uint64_t> replayed{0};    // read from the history for members who were there
  std::atomic<std::size_t> waiting{0};       // now
  std::atomic<std::size_t> waiting_bytes{0};
  std::size_t most_bytes = 0; // that may wait; 0: no bound. Before there are rooms
  // Rooms that stay, with members or without, until the engine is told to end their epochs.
  std::atomic<std::size_t> owing{0};
  std::size_t most_owing = 0; // 0: no bound. Before there are rooms

  // One more room gives its members messages without a place, and one less.
  void begin_degraded(std::chrono::steady_clock::time_point now) noexcept;
  void end_degraded(std::chrono::steady_clock::time_point now) noexcept;
  // Of all rooms, those too that still are.
  std::chrono::nanoseconds degraded(std::chrono::steady_clock::time_point now) const noexcept;
  std::size_t degraded_rooms() const noexcept;

private:
  std::chrono::nanoseconds until(std::chrono::steady_clock::time_point now) const noexcept;

  mutable std::mutex mutex_;
  std::size_t rooms_ = 0;
  std::chrono::steady_clock::time_point changed_{}; // when there were last more or less
  std::chrono::nanoseconds over_{0};                // of all rooms until then
};

// What rooms count, when somebody wants to know.
class room_measures {
public:
  engine_counts engine; // always

  struct of_shard {
    histogram members{member_bounds};         // of the room, of each message
    histogram fan_out_seconds{time_bounds};   // of each message here, if the room has members here
    histogram broadcast_seconds{time_bounds}; // of each awaited broadcast that began here
    // Of each message that came back from the engine: from its publish here to its delivery here.
    histogram engine_seconds{time_bounds};
    // Of each live message of another server, if the room has members here: from its publish there, by
    // that server's clock, to its delivery here.
    histogram delivery_seconds{time_bounds};
  };

  explicit room_measures(std::size_t shards) : shards_(shards) {}
  bool on() const noexcept { return on_.load(std::memory_order_relaxed); }
  void turn_on() noexcept { on_.store(true, std::memory_order_relaxed); }
  of_shard &at(std::size_t index) noexcept { return shards_[index]; }
  std::size_t size() const noexcept { return shards_.size(); }
  // On the shard `index`: one of another server is delivered.
  void note_delivery(std::size_t index, std::chrono::microseconds published) noexcept;

private:
  std::atomic<bool> on_{false};
  std::vector<of_shard> shards_;
};

// By the wall clock: since 1970, so long ago.
std::chrono::microseconds wall_time(std::chrono::nanoseconds ago) noexcept;

inline double in_seconds(std::chrono::nanoseconds d) noexcept {
  return std::chrono::duration<double>(d).count();
}

} // namespace chorus::detail
