#pragma once
// What a server counts for whoever observes it, beyond server_stats. One of each for every shard,
// written on that shard's thread only.

#include <chorus/base/failure.hpp>
#include <chorus/base/histogram.hpp>
#include <chorus/session/counter.hpp>
#include <chorus/session/session.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
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

// What rooms count, when somebody wants to know.
class room_measures {
public:
  struct of_shard {
    histogram members{member_bounds};         // of the room, of each message
    histogram fan_out_seconds{time_bounds};   // of each message here, if the room has members here
    histogram broadcast_seconds{time_bounds}; // of each awaited broadcast that began here
  };

  explicit room_measures(std::size_t shards) : shards_(shards) {}
  bool on() const noexcept { return on_.load(std::memory_order_relaxed); }
  void turn_on() noexcept { on_.store(true, std::memory_order_relaxed); }
  of_shard &at(std::size_t index) noexcept { return shards_[index]; }
  std::size_t size() const noexcept { return shards_.size(); }

private:
  std::atomic<bool> on_{false};
  std::vector<of_shard> shards_;
};

inline double in_seconds(std::chrono::nanoseconds d) noexcept {
  return std::chrono::duration<double>(d).count();
}

} // namespace chorus::detail
