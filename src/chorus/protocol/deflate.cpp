#include <chorus/protocol/deflate.hpp>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <climits>
#include <new>
#include <utility>
#include <vector>

namespace chorus::protocol {

namespace detail {
void inflate_deleter::operator()(z_stream_s *s) const noexcept {
  inflateEnd(s);
  delete s;
}
void deflate_deleter::operator()(z_stream_s *s) const noexcept {
  deflateEnd(s);
  delete s;
}
} // namespace detail

namespace {

using inflate_stream = std::unique_ptr<z_stream_s, detail::inflate_deleter>;
using deflate_stream = std::unique_ptr<z_stream_s, detail::deflate_deleter>;

constexpr std::array<Bytef, 4> flush_marker = {0x00, 0x00, 0xff, 0xff};

// Raw streams of zlib have windows of 2^9 bytes at least. For a window of 2^8 a compressor of 2^9
// will do: zlib keeps 262 bytes of its window as lookahead, so that it never refers further back
// than 250.
int zlib_window_bits(int bits) noexcept { return std::clamp(bits, 9, 15); }

inflate_stream make_inflate(int bits) {
  auto plain = std::make_unique<z_stream>();
  if (inflateInit2(plain.get(), -zlib_window_bits(bits)) != Z_OK)
    throw std::bad_alloc();
  return inflate_stream(plain.release());
}

deflate_stream make_deflate(int bits, int level, int mem_level) {
  auto plain = std::make_unique<z_stream>();
  if (deflateInit2(plain.get(), level, Z_DEFLATED, -zlib_window_bits(bits), mem_level,
                   Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
  return deflate_stream(plain.release());
}

// The thread's decoder. Null before its first use, and while a message in parts has it.
inflate_stream &spare_inflate() noexcept {
  thread_local inflate_stream stream;
  return stream;
}

// A decoder with the largest window reads every stream.
z_stream &lent_inflate() {
  auto &stream = spare_inflate();
  if (!stream)
    stream = make_inflate(15);
  else
    inflateReset2(stream.get(), -15);
  return *stream;
}

z_stream &lent_deflate(int bits, int level, int mem_level) {
  struct entry {
    int bits, level, mem_level;
    deflate_stream stream;
  };
  constexpr std::size_t kept = 4; // parameter sets; more than one is rare in one program
  thread_local std::vector<entry> entries;
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const entry &e) {
    return e.bits == bits && e.level == level && e.mem_level == mem_level;
  });
  if (found != entries.end()) {
    deflateReset(found->stream.get());
    return *found->stream;
  }
  auto stream = make_deflate(bits, level, mem_level);
  if (entries.size() == kept)
    entries.erase(entries.begin());
  entries.push_back({bits, level, mem_level, std::move(stream)});
  return *entries.back().stream;
}

// zlib does not write to its input.
Bytef *input_of(const void *p) noexcept { return static_cast<Bytef *>(const_cast<void *>(p)); }

uInt counted(std::size_t n) noexcept {
  return static_cast<uInt>(std::min<std::size_t>(n, UINT_MAX));
}

// Starts the next block after a final one, which a sender may write at any time (RFC 7692 section
// 7.2.3.4), with the window that the messages before it left.
bool restart(z_stream &s) {
  std::array<Bytef, 32768> window;
  uInt size = 0;
  return inflateGetDictionary(&s, window.data(), &size) == Z_OK && inflateReset(&s) == Z_OK &&
         (size == 0 || inflateSetDictionary(&s, window.data(), size) == Z_OK);
}

// Everything was decoded: between two blocks, without a bit left over.
bool at_block_boundary(const z_stream &s) noexcept { return (s.data_type & 0x9f) == 0x80; }

struct expansion {
  z_stream &stream;
  std::size_t left; // bytes that may still come out
  utf8_validator *text;
  byte_buffer &out;

  violation run(std::span<const std::byte> in) {
    while (!in.empty()) {
      stream.next_in = input_of(in.data());
      stream.avail_in = counted(in.size());
      const auto offered = stream.avail_in;
      const auto v = drain();
      in = in.subspan(offered - stream.avail_in);
      if (v != violation::none)
        return v;
    }
    return violation::none;
  }

  // Ends the message. `begun`: it had any bytes.
  violation finish(bool begun) {
    if (stream.total_in == 0 && begun)
      return violation::none; // the last byte ended a final block
    const std::size_t size = out.size();
    if (const auto v = run(std::as_bytes(std::span(flush_marker))); v != violation::none)
      return v;
    // A payload that was cut off takes the marker for its missing bytes.
    const bool whole = at_block_boundary(stream) && out.size() == size;
    return whole ? violation::none : violation::bad_compressed_data;
  }

private:
  // Until the input is used up and nothing more comes out of it.
  violation drain() {
    for (;;) {
      // One byte more than allowed tells a message that is too long from one that just fits.
      const std::size_t free = out.storage().capacity() - out.size();
      const std::size_t wanted =
          free != 0 ? free : std::max<std::size_t>({256, out.size(), stream.avail_in});
      const uInt room = counted(std::min(wanted, left + 1));
      std::byte excess;
      std::byte *const at = left != 0 ? out.grow(room) : &excess;
      stream.next_out = reinterpret_cast<Bytef *>(at);
      stream.avail_out = room;
      const int status = ::inflate(&stream, Z_NO_FLUSH);
      const std::size_t produced = room - stream.avail_out;
      if (text && !text->feed({at, std::min(produced, left)}))
        return violation::invalid_utf8;
      if (produced > left)
        return violation::inflated_too_big;
      left -= produced;
      out.advance(produced);
      if (status == Z_STREAM_END) {
        if (!restart(stream))
          return violation::bad_compressed_data;
        return violation::none;
      }
      if (status != Z_OK && status != Z_BUF_ERROR)
        return violation::bad_compressed_data;
      if (stream.avail_out != 0)
        return stream.avail_in == 0 ? violation::none : violation::bad_compressed_data;
    }
  }
};

} // namespace

inflater::inflater(role side, const deflate_params &params) noexcept
    : takeover_(side == role::server ? !params.client_no_context_takeover
                                     : !params.server_no_context_takeover),
      window_bits_(static_cast<std::uint8_t>(
          side == role::server ? params.client_max_window_bits : params.server_max_window_bits)) {}

violation inflater::inflate(std::span<const std::byte> payload, std::size_t limit,
                            utf8_validator *text, byte_buffer &out) {
  expansion e{takeover_ ? own() : lent_inflate(), std::min<std::size_t>(limit, SIZE_MAX - 1), text,
              out};
  const auto v = e.run(payload);
  return v == violation::none ? e.finish(!payload.empty()) : v;
}

z_stream &inflater::own() {
  if (own_)
    return *own_;
  if (!takeover_ && spare_inflate()) {
    own_ = std::move(spare_inflate());
    inflateReset2(own_.get(), -zlib_window_bits(window_bits_));
  } else {
    own_ = make_inflate(window_bits_);
  }
  return *own_;
}

violation inflater::part(std::span<const std::byte> payload, std::size_t limit,
                         utf8_validator *text, byte_buffer &out) {
  begun_ = begun_ || !payload.empty();
  expansion e{own(), std::min<std::size_t>(limit, SIZE_MAX - 1) - out.size(), text, out};
  return e.run(payload);
}

violation inflater::finish(std::size_t limit, utf8_validator *text, byte_buffer &out) {
  expansion e{own(), std::min<std::size_t>(limit, SIZE_MAX - 1) - out.size(), text, out};
  const auto v = e.finish(std::exchange(begun_, false));
  if (!takeover_) {
    if (!spare_inflate())
      spare_inflate() = std::move(own_);
    own_.reset();
  }
  return v;
}

deflater::deflater(role side, const deflate_params &params, const deflate_options &options) noexcept
    : takeover_(side == role::server ? !params.server_no_context_takeover
                                     : !params.client_no_context_takeover),
      window_bits_(static_cast<std::uint8_t>(side == role::server ? params.server_max_window_bits
                                                                  : params.client_max_window_bits)),
      level_(static_cast<std::uint8_t>(std::clamp(options.level, 1, 9))),
      mem_level_(static_cast<std::uint8_t>(std::clamp(options.mem_level, 1, 9))) {}

void deflater::compress(std::span<const std::byte> payload, byte_buffer &out) {
  if (payload.empty()) {
    // RFC 7692 section 7.2.3.6; zlib would refuse to flush twice without input.
    *out.grow(1) = std::byte{0};
    out.advance(1);
    return;
  }
  if (takeover_ && !own_)
    own_ = make_deflate(window_bits_, level_, mem_level_);
  z_stream &stream = takeover_ ? *own_ : lent_deflate(window_bits_, level_, mem_level_);
  do {
    const auto piece = payload.first(counted(payload.size()));
    payload = payload.subspan(piece.size());
    stream.next_in = input_of(piece.data());
    stream.avail_in = static_cast<uInt>(piece.size());
    const int flush = payload.empty() ? Z_SYNC_FLUSH : Z_NO_FLUSH;
    do {
      const std::size_t free = out.storage().capacity() - out.size();
      const uInt room = counted(free >= 64 ? free : std::max<std::size_t>(256, piece.size() / 4));
      stream.next_out = reinterpret_cast<Bytef *>(out.grow(room));
      stream.avail_out = room;
      ::deflate(&stream, flush);
      out.advance(room - stream.avail_out);
    } while (stream.avail_out == 0);
  } while (!payload.empty());
  out.truncate(out.size() - flush_marker.size());
}

} // namespace chorus::protocol
