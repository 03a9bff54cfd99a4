#pragma once
// The PROXY protocol, versions 1 and 2, as a receiver (proxy-protocol.txt of HAProxy): the header with
// which a proxy begins a connection to tell whose it is. Sans-I/O. What comes after the header belongs
// to TLS or HTTP, so it is told how many bytes may be read without reading past the header's end.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace chorus::detail {

class proxy_header_reader {
public:
  enum class progress : std::uint8_t { need_more, complete, failed };
  // Of version 1, its line break included.
  static constexpr std::size_t longest_line = 107;

  // While more is needed: no header ends within fewer bytes. Never 0 then.
  std::size_t wanted() const noexcept;
  // Takes all of `bytes`, at most `wanted()`; not after `complete` or `failed`.
  progress feed(std::string_view bytes);

  // After `complete`: "192.0.2.1:5060", "[2001:db8::1]:80". Empty when the connection is the proxy's own
  // (LOCAL) or of a family that has no such address (UNKNOWN, unix sockets, datagrams).
  const std::string &source() const noexcept { return source_; }
  // After `failed`: what is wrong, as a sentence.
  std::string_view why() const noexcept { return why_; }

private:
  progress fail(std::string_view why) noexcept;
  progress step();
  progress step_line();
  progress step_binary();
  progress parse_line();
  progress parse_addresses();

  std::string text_;        // at most longest_line, or 16 + 36
  std::size_t kept_ = 0;    // of version 2: how long `text_` becomes
  std::size_t skipped_ = 0; // bytes to be skipped now
  std::size_t pending_ = 0; // and after the addresses
  std::string source_;
  std::string_view why_;
};

} // namespace chorus::detail
