#pragma once
// Shared by the protocol tests: frames built byte by byte from the RFC, without the code under test,
// and readers driven over streams that are cut in any way.

#include <chorus/protocol/deflate.hpp>
#include <chorus/protocol/framing.hpp>
#include <chorus/protocol/reader.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace protocol_test {

namespace protocol = chorus::protocol;
using protocol::role;
using protocol::violation;
using event = protocol::event;

// Compression that starts each message afresh, and that goes on from one to the next.
inline const protocol::deflate_params stateless{true, true, 15, 15};
inline const protocol::deflate_params stateful{false, false, 15, 15};

inline std::span<const std::byte> bytes_of(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}
inline std::string_view text_of(std::span<const std::byte> s) {
  return {reinterpret_cast<const char *>(s.data()), s.size()};
}
inline std::string text_of(const chorus::byte_buffer &b) { return std::string(text_of(b.span())); }

struct frame_spec {
  unsigned first = 0x82; // FIN, RSV and opcode
  std::string payload;
  int length_bytes = -1;                // 0, 2 or 8; -1: the shortest
  std::uint64_t announced = UINT64_MAX; // instead of the payload's size
};

// The frame as `sender` writes it.
inline std::string build(role sender, const frame_spec &f) {
  const std::uint64_t size = f.announced == UINT64_MAX ? f.payload.size() : f.announced;
  const int width = f.length_bytes >= 0 ? f.length_bytes : size < 126 ? 0 : size < 65536 ? 2 : 8;
  const unsigned mask = sender == role::client ? 0x80 : 0;
  std::string out;
  out += static_cast<char>(f.first);
  out += static_cast<char>(mask | (width == 0   ? static_cast<unsigned>(size)
                                   : width == 2 ? 126U
                                                : 127U));
  for (int i = width - 1; i >= 0; --i)
    out += static_cast<char>(size >> (8 * i));
  if (mask == 0)
    return out + f.payload;
  const std::string key = {'\x37', static_cast<char>(0xfa), '\x21',
                           static_cast<char>(f.payload.size() * 7 + 1)};
  out += key;
  for (std::size_t i = 0; i < f.payload.size(); ++i)
    out += static_cast<char>(f.payload[i] ^ key[i % 4]);
  return out;
}
inline std::string build(role sender, unsigned first, std::string payload) {
  return build(sender, frame_spec{first, std::move(payload), -1, UINT64_MAX});
}
inline role other(role r) { return r == role::client ? role::server : role::client; }

inline std::string random_bytes(std::size_t n, unsigned seed = 1) {
  std::mt19937 rng(seed);
  std::string s(n, '\0');
  for (auto &c : s)
    c = static_cast<char>(rng());
  return s;
}

// What an event said.
struct record {
  event what = event::need_more;
  chorus::message_kind kind = chorus::message_kind::text;
  std::string payload;
  unsigned code = 0;
  violation why = violation::none;

  friend bool operator==(const record &, const record &) = default;
  friend std::ostream &operator<<(std::ostream &out, const record &r) {
    return out << "{event " << static_cast<int>(r.what) << ", kind " << static_cast<int>(r.kind)
               << ", " << r.payload.size() << " bytes \"" << r.payload.substr(0, 40) << "\", code "
               << r.code << ", violation " << static_cast<int>(r.why) << "}";
  }
};

template <class Reader> record record_of(Reader &r, event e) {
  record out;
  out.what = e;
  if (e == event::message || e == event::ping || e == event::pong)
    out.payload = text_of(r.payload());
  if (e == event::message) {
    out.kind = r.kind();
    if (r.owned()) {
      // As a message would: adopt the storage, then look at it again.
      const auto before = r.payload();
      const chorus::buffer kept = r.take_storage();
      if (kept.data() != before.data() || before.size() > kept.capacity())
        out.payload = "the storage is not the payload's";
      else
        out.payload = text_of({kept.data(), before.size()});
    }
  }
  if (e == event::violation)
    out.why = r.why();
  if constexpr (requires { r.close_code(); })
    if (e == event::close) {
      out.code = static_cast<unsigned>(r.close_code());
      out.payload = r.close_reason();
    }
  return out;
}

// Drives a reader with one chunk after the other. Each chunk lies in memory of its own that is
// overwritten afterwards, so that a reader that keeps a pointer is found out.
template <class Reader> class driver {
public:
  driver(Reader &r, bool direct) : reader_(r), direct_(direct) {}

  void feed(std::string_view chunk) {
    if (direct_)
      for (auto room = reader_.tail(); !room.empty() && !chunk.empty(); room = reader_.tail()) {
        const std::size_t n = std::min(room.size(), chunk.size());
        std::memcpy(room.data(), chunk.data(), n);
        chunk.remove_prefix(n);
        ++direct_reads;
        if (const event e = reader_.commit(n); e != event::need_more)
          events.push_back(record_of(reader_, e));
      }
    std::vector<std::byte> memory(chunk.size());
    std::copy_n(bytes_of(chunk).data(), chunk.size(), memory.data());
    std::span<std::byte> input(memory);
    for (;;) {
      const event e = reader_.next(input);
      if (e == event::need_more)
        break;
      events.push_back(record_of(reader_, e));
    }
    if (!input.empty())
      events.push_back({event::violation, {}, "input was left", 0, {}});
    std::fill(memory.begin(), memory.end(), std::byte{0xee});
  }

  std::vector<record> events;
  std::size_t direct_reads = 0;

private:
  Reader &reader_;
  bool direct_;
};

// The events of `stream` cut at the given positions (ascending).
template <class Reader, class Options>
std::vector<record> events_of(const Options &options, std::string_view stream,
                              const std::vector<std::size_t> &cuts = {}, bool direct = false) {
  Reader reader(options);
  driver<Reader> d(reader, direct);
  std::size_t from = 0;
  for (const std::size_t cut : cuts) {
    d.feed(stream.substr(from, cut - from));
    from = cut;
  }
  d.feed(stream.substr(from));
  return std::move(d.events);
}

inline std::vector<std::size_t> every(std::size_t step, std::size_t size) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = step; i < size; i += step)
    cuts.push_back(i);
  return cuts;
}

} // namespace protocol_test
