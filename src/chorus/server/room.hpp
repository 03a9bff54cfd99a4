#pragma once
// `room`: a set of sessions to which messages are published. Members may live on any shard; the
// room's home shard numbers what is published, and every member gets that order, each message at
// most once.
//
// Handles are cheap and may be used from any thread. A room exists as long as it has members or
// handles.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/server/member.hpp>
#include <chorus/server/presence.hpp>
#include <chorus/session/session.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace chorus {

namespace detail {
class room_core;
class membership;
} // namespace detail

// Bytes of one room's messages that may be on their way between shards: from a verb on another thread
// to the room's home shard, and from there to other shards with members. A message counts until the
// last of them has delivered it, with its payload, its `except` and `key`, and 512 bytes besides. One
// that does not fit is refused for all members and counted (room_stats::refused); a larger one goes
// when nothing else is on its way. What stays on the home shard's own thread does not count.
inline constexpr std::size_t room_transit_bytes = 16 * 1024 * 1024;

struct publish_options {
  exclusion except{};
  member_filter only{};
  std::string_view key{}; // for overflow::latest and lane::latest; of this room alone
  std::chrono::milliseconds time_to_live{0}; // as in send_options; zero: as the room's options say
  std::optional<chorus::lane> lane{};        // none: as the room's options say
  std::string_view except_user{}; // no member of this name gets it; empty: nobody is meant
};
static_assert(std::is_trivially_destructible_v<publish_options>);

// Members are only ever added at the end.
struct join_options {
  // How many of the room's last messages a newcomer is sent before the new ones: as many as the room
  // has kept, and, for a peer that does not speak the resume protocol, as its queue has room for.
  std::size_t history = 0;
  // What the room knows the member by: empty for `session.user()`, the name that the authorisation hook
  // has given. UTF-8. Not trusted by itself: say here what the service has checked.
  std::string_view user{};
  // Member data: a JSON text of at most room_options::max_member_data bytes.
  std::string_view data{};
};
static_assert(std::is_trivially_destructible_v<join_options>);

struct broadcast_options {
  exclusion except{};
  member_filter only{};
  // Members whose copy is not with the kernel by then are reported as pending. Zero: no deadline but
  // the members' own write_wait.
  std::chrono::milliseconds deadline{0};
  bool list_delivered = false; // name those who got it, too
  // As in publish_options; a copy that is dropped for its age is reported as dropped.
  std::chrono::milliseconds time_to_live{0};
  std::optional<chorus::lane> lane{};
  std::string_view except_user{};
};
static_assert(std::is_trivially_destructible_v<broadcast_options>);

enum class delivery : std::uint8_t {
  delivered, // with the kernel, whole
  dropped,   // by the member's overflow policy, or because its time to live had passed
  failed,    // the member's session ended first; it has left the room
  pending,   // queued, not yet with the kernel at the deadline; it stays queued
};
std::string_view to_string(delivery) noexcept;

struct member_delivery {
  session_id id = 0;
  delivery outcome = delivery::delivered;
  // Of a failed one what its session says of its end (evicted, lost, timed_out, closed with code and
  // reason …), or not_open while that session is still closing; of a dropped one queue_full, or timed_out when
  // its time to live had passed.
  failure why{};
};

struct broadcast_report {
  std::size_t delivered = 0;
  std::size_t dropped = 0;
  std::size_t failed = 0;
  std::size_t pending = 0;
  std::vector<member_delivery> members{}; // all but the delivered, unless they were asked for
  std::size_t total() const noexcept { return delivered + dropped + failed + pending; }
};

// Of members under the resume protocol (docs/protocol.md).
struct resume_stats {
  // They named a position, and got all that was published after it …
  std::uint64_t recovered = 0;
  // … or were told why not.
  std::uint64_t lost_epoch = 0;
  std::uint64_t lost_trimmed = 0;
  std::uint64_t lost_ahead = 0;
  std::uint64_t lost_no_history = 0;
  std::uint64_t acks = 0; // acknowledgements received
};

struct room_stats {
  std::size_t members = 0;
  std::uint64_t published = 0;  // messages, broadcasts included
  std::uint64_t deliveries = 0; // copies handed to members' connections
  std::uint64_t dropped = 0;    // copies dropped by a member's policy
  std::uint64_t evicted = 0;    // members closed because their queue was full
  std::uint64_t expired = 0;    // copies that a member's queue dropped after their time to live
  // Times an `only` filter threw; each left one member out of one message.
  std::uint64_t filter_failures = 0;
  // Messages that nobody got: more than room_transit_bytes on their way; or nobody on this server, since
  // others sent them faster than it could take them, and they are not kept.
  std::uint64_t refused = 0;
  resume_stats resume{};
  // Messages that the server's broker did not take: nobody got them where the room keeps history, else
  // only its members on this server.
  std::uint64_t broker_failures = 0;
  // Of rooms that keep history, with a broker; see away_policy.
  std::size_t waiting = 0;       // messages, now, for the broker's engine to come back
  std::uint64_t unconfirmed = 0; // of which the broker does not know whether anybody gets them
  std::uint64_t unnumbered = 0;  // that members here got without a place, and nobody else
  // These two and `unnumbered` are all that a member who was there all the time got of what gets a place.
  std::uint64_t relayed = 0;  // that came from the engine as they were published, here or elsewhere
  std::uint64_t replayed = 0; // read from the history for members who were there
  std::chrono::milliseconds degraded{0}; // how long members got messages without a place
};

class seat;

class room {
public:
  room() noexcept = default;
  explicit room(std::shared_ptr<detail::room_core> core) noexcept : core_(std::move(core)) {}

  const std::string &name() const noexcept;
  // Makes `s` a member until the seat is destroyed or the session ends. It gets everything that is
  // published from the completion on. Joining twice gives two seats and one copy of each message.
  // A member that joins again is known by what it said last. Fails with not_open when the session is
  // over, also when it ends while a join hook runs; with room_closed when the server is stopping, with
  // join_refused when a hook refuses, with bad_option when the member data is too long or no JSON,
  // or the room's name is no UTF-8 where it has to be told to members (presence, the resume protocol);
  // with queue_full when over 64 MiB of other rooms' histories wait for a peer under that protocol.
  task<result<seat>> join(session s, join_options options = {});

  // Sends to every member; never waits, and returns nothing since it may have to cross to other
  // shards: see `stats()`. A member whose queue is full meets its overflow policy; under
  // overflow::wait it is closed (1013, counted as evicted). Faster than the shards deliver, from
  // another thread or to members elsewhere, it is refused (room_transit_bytes).
  void publish(message m, publish_options options = {});
  // Sends to every member and completes when each copy went to the kernel, was dropped or failed, or
  // at the deadline. Members under overflow::wait whose queue is full are waited for until the
  // deadline, then reported as dropped. Beyond room_transit_bytes it does not wait but is refused, and
  // all members are reported as dropped, with queue_full. Cancelling stops waiting; what is queued
  // stays queued.
  task<broadcast_report> broadcast(message m, broadcast_options options = {});

  std::size_t size() const noexcept; // members, as of the last turn of each shard
  task<std::vector<session_id>> members() const;
  // Members with what is known of them, in no particular order: each shard's as of one moment.
  task<std::vector<member_entry>> member_list() const;
  // Who is present, those too that are expected back within the grace period; nobody unless
  // room_options::presence is on.
  task<std::vector<presence_entry>> presence() const;
  room_stats stats() const noexcept;

  explicit operator bool() const noexcept { return core_ != nullptr; }
  friend bool operator==(const room &a, const room &b) noexcept { return a.core_ == b.core_; }
  const std::shared_ptr<detail::room_core> &core() const noexcept { return core_; }

private:
  std::shared_ptr<detail::room_core> core_;
};

// A membership. Leaving is its destructor, from any thread.
class seat {
public:
  seat() noexcept = default;
  explicit seat(std::shared_ptr<detail::membership> m) noexcept;
  seat(seat &&) noexcept = default;
  seat &operator=(seat &&other) noexcept;
  ~seat();

  chorus::room room() const;
  void leave() noexcept;
  void publish(message m, publish_options options = {});
  task<broadcast_report> broadcast(message m, broadcast_options options = {});
  // Replaces the member data, soon; with presence on, the others are told. Fails with bad_option as
  // `join` does, with not_open when the seat has been left.
  result<> update(std::string_view data);

private:
  std::shared_ptr<detail::membership> membership_;
};

} // namespace chorus
