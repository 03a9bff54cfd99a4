#pragma once
// What a session can be told, in either role. Trivially destructible aggregates: they may stand as
// temporaries in a `co_await` expression. Members are only ever added at the end.

#include <chorus/protocol/deflate.hpp>
#include <chorus/protocol/framing.hpp>

#include <chrono>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace chorus {

// What happens to a message that would make the outgoing queue exceed its bound. Policies act on
// whole messages that have not begun to be written.
enum class overflow : unsigned char {
  wait, // `send` waits; `try_send` says queue_full; a room's `publish` closes the member (1013)
  drop_newest, // the new message is dropped and counted
  drop_oldest, // the oldest waiting messages are dropped and counted
  latest,      // a waiting message of the same key is replaced; without one like drop_oldest
  close,       // the connection is closed (1013)
};
std::string_view to_string(overflow) noexcept;

// In which order the messages leave that wait for one connection. Within a lane the order is that of
// sending. Lanes act on whole messages that have not begun to be written.
enum class lane : unsigned char {
  reliable, // the usual one
  // Goes ahead of the others, but starves nobody: of nine messages in a row at least one is of another
  // lane as long as one waits there. When the queue is full it meets the policy like any other.
  control,
  // Goes after the others (of nine reliable or latest messages in a row one is of this lane, when one
  // waits). A waiting one of the same key is replaced in its place. When the queue is full these are
  // dropped first, whatever the policy; one that finds no room itself is dropped: it never waits.
  latest,
};
std::string_view to_string(lane) noexcept;

// A time of a year or more means never.
struct heartbeat_options {
  // A ping is sent this often: it measures the round trip and confirms what was sent before. Zero
  // sends none. Like pong_wait for WebSocket only: framed streams have no pings.
  std::chrono::milliseconds ping_interval{30'000};
  // The peer is taken for dead when nothing was received for this long; zero never, and never without
  // pings: a good peer may have nothing to say but its pongs. Must exceed ping_interval for the same
  // reason. Time during which this side itself does not read (its inbox is full) does not count.
  std::chrono::milliseconds pong_wait{60'000};
  // The peer is taken for dead when it takes no byte of what is queued for this long; zero never.
  std::chrono::milliseconds write_wait{20'000};
  // The connection is closed (1001) when no message passed in either direction for this long; zero
  // never.
  std::chrono::milliseconds idle_limit{0};
};

namespace detail {
// What is wrong with them, as a sentence; empty when they can be used.
std::string_view complaint_about(const heartbeat_options &) noexcept;
} // namespace detail

struct session_options {
  overflow on_overflow = overflow::wait;
  std::size_t queue_bytes = std::size_t{1} << 20; // bound of the outgoing queue, in bytes of frames
  std::size_t queue_messages = 0;                 // and in messages; 0 for no such bound
  std::size_t max_message = std::size_t{16} << 20;  // bytes of a received message, decompressed
  std::size_t inbox_bytes = std::size_t{256} << 10; // received but not taken; then TCP pushes back
  std::size_t inbox_messages = 1024;
  heartbeat_options heartbeat{};
  // How long a close waits for the queue to drain and the peer to answer before it aborts; a year at
  // most.
  std::chrono::milliseconds close_timeout{5'000};
  deflate_options compression{};     // permessage-deflate, off by default
  framing frame = framing::length32; // of tcp:// and tls:// connections
  bool check_utf8 = true;            // of received text (RFC 6455 section 8.1)
};
static_assert(std::is_trivially_destructible_v<session_options>);

struct send_options {
  // For overflow::latest and lane::latest: a waiting message with the same key is replaced by this one.
  std::string_view key{};
  // A message that still waits after this long is dropped and counted; zero keeps it.
  std::chrono::milliseconds time_to_live{0};
  chorus::lane lane = chorus::lane::reliable;
};
static_assert(std::is_trivially_destructible_v<send_options>);

} // namespace chorus
