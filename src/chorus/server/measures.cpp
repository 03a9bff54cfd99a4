#include <chorus/server/measures.hpp>

#include <chorus/session/session_core.hpp>

#include <algorithm>

namespace chorus::detail {

namespace {

constexpr std::array<std::string_view, close_codes> code_labels{
    "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008",
    "1009", "1010", "1011", "1012", "1013", "1014", "1015", "3xxx", "4xxx"};

struct ending {
  error code;
  std::string_view label;
};
constexpr std::array<ending, endings - 1> known_endings{{
    {error::closed, "closed"},
    {error::lost, "lost"},
    {error::timed_out, "timed_out"},
    {error::write_timeout, "write_timeout"},
    {error::aborted, "aborted"},
    {error::protocol, "protocol"},
    {error::message_too_big, "message_too_big"},
    {error::evicted, "evicted"},
    {error::shut_down, "shut_down"},
}};

} // namespace

std::string_view to_string(refusal r) noexcept {
  constexpr std::array<std::string_view, refusals> names{
      "malformed",  "not_found",       "origin",       "unauthorized", "limit",    "address_limit",
      "user_limit", "handshake_limit", "proxy_header", "descriptors",  "draining", "unavailable",
      "other"};
  return names[static_cast<std::size_t>(r)];
}

// 1006 stands for whatever is no code: no close frame came.
std::size_t close_code_index(std::uint16_t code) noexcept {
  if (code >= 1000 && code <= 1015)
    return code - std::size_t{1000};
  if (code >= 3000 && code < 4000)
    return 16;
  return code >= 4000 && code < 5000 ? 17 : 6;
}

std::string_view close_code_label(std::size_t index) noexcept { return code_labels[index]; }

std::size_t ending_index(const failure &why) noexcept {
  // A peer of another protocol breaks this one.
  const auto code = why == error::no_protocol ? failure(error::protocol) : why;
  std::size_t i = 0;
  while (i < known_endings.size() && !(code == known_endings[i].code))
    ++i;
  return i;
}

std::string_view ending_label(std::size_t index) noexcept {
  return index < known_endings.size() ? known_endings[index].label : "other";
}

void session_sums::add(const session &s) noexcept {
  const auto stats = s.core()->stats();
  messages_received += stats.messages_received;
  messages_sent += stats.messages_sent;
  bytes_received += stats.bytes_received;
  bytes_sent += stats.bytes_sent;
  messages_dropped += stats.messages_dropped;
  const auto &out = s.core()->out();
  messages_expired += out.messages_expired;
  dropped_oldest += out.dropped_oldest;
  dropped_newest += out.dropped_newest;
}

void session_sums::operator+=(const session_sums &other) noexcept {
  messages_received += other.messages_received;
  messages_sent += other.messages_sent;
  bytes_received += other.bytes_received;
  bytes_sent += other.bytes_sent;
  messages_dropped += other.messages_dropped;
  messages_expired += other.messages_expired;
  dropped_oldest += other.dropped_oldest;
  dropped_newest += other.dropped_newest;
}

// Who comes to the lock late brings a time before `changed_`.
std::chrono::nanoseconds
engine_counts::until(std::chrono::steady_clock::time_point now) const noexcept {
  return over_ + static_cast<std::int64_t>(rooms_) *
                     std::max(now - changed_, std::chrono::steady_clock::duration(0));
}

void engine_counts::begin_degraded(std::chrono::steady_clock::time_point now) noexcept {
  std::lock_guard lock(mutex_);
  over_ = until(now);
  changed_ = std::max(changed_, now);
  ++rooms_;
}

void engine_counts::end_degraded(std::chrono::steady_clock::time_point now) noexcept {
  std::lock_guard lock(mutex_);
  over_ = until(now);
  changed_ = std::max(changed_, now);
  --rooms_;
}

std::chrono::nanoseconds
engine_counts::degraded(std::chrono::steady_clock::time_point now) const noexcept {
  std::lock_guard lock(mutex_);
  return until(now);
}

std::size_t engine_counts::degraded_rooms() const noexcept {
  std::lock_guard lock(mutex_);
  return rooms_;
}

std::chrono::microseconds wall_time(std::chrono::nanoseconds ago) noexcept {
  return std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::system_clock::now().time_since_epoch() - ago);
}

// Clocks that differ make it come before it went.
void room_measures::note_delivery(std::size_t index, std::chrono::microseconds published) noexcept {
  if (published.count() <= 0)
    return;
  const std::chrono::duration<double> took = wall_time({}) - published;
  shards_[index].delivery_seconds.observe(std::max(0.0, took.count()));
}

void shard_measures::note_end(const session &s) noexcept {
  const auto why = s.end();
  closed[close_code_index(why.detail().close_code)][why.detail().by_peer ? 1 : 0] += 1;
  ended[ending_index(why)] += 1;
  over.add(s);
}

} // namespace chorus::detail
