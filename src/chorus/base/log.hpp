#pragma once
// The library's log: events in the life of servers, clients and connections, told to a sink of the
// user's. Null by default; with a sink a level is checked first, on cold paths only.
//
// What a record never holds: payloads, headers, queries, the reason text of a close, anything else
// that a peer wrote but its address. A path is shown without its query.

#include <array>
#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace chorus {

enum class log_level : std::uint8_t { trace, debug, info, warn, error, off };
std::string_view to_string(log_level) noexcept;

// Which room of the library speaks; `program` is for who embeds it.
enum class log_room : std::uint8_t {
  base,
  protocol,
  async,
  transport,
  session,
  json,
  client,
  server,
  cluster,
  observe,
  program,
};
inline constexpr std::size_t log_rooms = 11;
std::string_view to_string(log_room) noexcept;

// What a field holds. A string_view is valid only while the record is written.
class log_value {
public:
  enum class kind : std::uint8_t { text, number, count, real, flag };

  log_value(std::string_view text) noexcept : kind_(kind::text), text_(text) {}
  log_value(const char *text) noexcept : log_value(std::string_view(text)) {}
  log_value(const std::string &text) noexcept : log_value(std::string_view(text)) {}
  log_value(bool flag) noexcept : kind_(kind::flag), count_(flag) {}
  log_value(std::floating_point auto real) noexcept
      : kind_(kind::real), real_(static_cast<double>(real)) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) log_value(T number)
  noexcept
      : kind_(std::is_signed_v<T> ? kind::number : kind::count),
        count_(static_cast<std::uint64_t>(number)) {}

  kind what() const noexcept { return kind_; }
  std::string_view text() const noexcept { return text_; }
  std::int64_t number() const noexcept { return static_cast<std::int64_t>(count_); }
  std::uint64_t count() const noexcept { return count_; }
  double real() const noexcept { return real_; }
  bool flag() const noexcept { return count_ != 0; }

private:
  kind kind_;
  std::string_view text_;
  std::uint64_t count_ = 0;
  double real_ = 0;
};

struct log_field {
  std::string_view key; // snake_case
  log_value value;
};

struct log_record {
  log_level level = log_level::info;
  log_room room = log_room::program;
  // The connection that it is about, the same from its accept to its end, and the id of its session;
  // 0 when it is about none.
  std::uint64_t connection = 0;
  std::string_view event; // "accepted", "closed", ...
  std::span<const log_field> fields;
};

// Which level each room speaks from.
struct log_levels {
  explicit log_levels(log_level all = log_level::info) noexcept { rooms.fill(all); }
  log_level &operator[](log_room r) noexcept { return rooms[static_cast<std::size_t>(r)]; }
  log_level operator[](log_room r) const noexcept { return rooms[static_cast<std::size_t>(r)]; }

  std::array<log_level, log_rooms> rooms;
};
// "info", "session=debug,server=off", or a level for all and then rooms: "warn,session=debug". Nothing
// when it is none of these.
std::optional<log_levels> parse_log_levels(std::string_view text);

// Where records go. Outlives nothing: servers and clients share it.
class log_sink {
public:
  explicit log_sink(log_levels levels = log_levels()) noexcept;
  virtual ~log_sink() = default;
  log_sink(const log_sink &) = delete;
  log_sink &operator=(const log_sink &) = delete;

  // A record that its room's level lets through. From the thread of any shard, several at once;
  // whatever it blocks on holds up every connection of that shard.
  virtual void write(const log_record &record) noexcept = 0;

  bool wants(log_room r, log_level l) const noexcept {
    return l >= levels_[static_cast<std::size_t>(r)].load(std::memory_order_relaxed);
  }
  // At any time, from any thread.
  void set_levels(const log_levels &levels) noexcept;

private:
  std::array<std::atomic<log_level>, log_rooms> levels_;
};

using log_time = std::chrono::system_clock::time_point;

// A record as one line, without its end: "session closed connection=7 code=1000 by=peer". Texts that
// hold anything but plain characters are quoted, control characters escaped: a record can't become
// two lines.
std::string to_text_line(const log_record &record);
// As a JSON object in one line (RFC 8259; invalid UTF-8 is replaced): "time" (ISO 8601, UTC,
// milliseconds), "level", "room", "connection" when there is one, "event", and the fields.
std::string to_json_line(const log_record &record, log_time at);
// "2030-01-31T12:59:59.123Z"
std::string to_iso8601(log_time at);

namespace detail {

// The sink if it wants such a record, else null.
template <class Pointer> log_sink *log_for(const Pointer &sink, log_room r, log_level l) noexcept {
  return sink && sink->wants(r, l) ? &*sink : nullptr;
}

void write_log(log_sink &sink, log_level l, log_room r, std::uint64_t connection,
               std::string_view event, std::initializer_list<log_field> fields) noexcept;

// A request target without what may hold secrets: no query, no fragment, at most 128 bytes.
std::string_view loggable_path(std::string_view target) noexcept;

} // namespace detail

} // namespace chorus
