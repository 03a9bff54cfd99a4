#pragma once
// RESP2 as bytes: commands are written, replies are read by hiredis' parser. No socket, no clock.

#include <chorus/base/result.hpp>
#include <chorus/cluster/redis_reply.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

// A command is its number of words and its words.
void write_redis_count(std::string &out, std::size_t words);
void write_redis_word(std::string &out, std::string_view word);
void write_redis_command(std::string &out, std::span<const std::string> words);
void write_redis_command(std::string &out, std::initializer_list<std::string_view> words);

// Memory grows with the bytes that have come, never with an announced length.
class redis_reader {
public:
  // Of one reply; Redis' own limit of a string is 512 MiB.
  static constexpr std::size_t max_reply = std::size_t{768} << 20;

  redis_reader();
  ~redis_reader();
  redis_reader(redis_reader &&) noexcept;
  redis_reader &operator=(redis_reader &&) noexcept;

  // What has come in; read by `next`.
  void feed(std::string_view bytes);
  // The next whole reply; nothing: more is needed. Fails for good with `protocol` on what is no RESP2, with
  // message_too_big on a reply beyond the bound.
  result<std::optional<redis_reply>> next();
  // Bytes of a reply that is not whole.
  bool in_the_middle() const noexcept { return pending_ != 0; }

private:
  struct parser;
  std::unique_ptr<parser> parser_;
  std::size_t pending_ = 0; // fed since the last reply was whole
};

bool is_redis_error(const redis_reply &r, std::string_view code) noexcept;

// The value of a line "name:value" in what INFO says; empty when there is none.
std::string_view redis_info(std::string_view text, std::string_view name) noexcept;

// CRC16 of the key's hash tag, or of the key: 0 to 16383.
inline constexpr unsigned redis_slots = 16384;
std::uint16_t redis_slot(std::string_view key) noexcept;

} // namespace chorus::detail
