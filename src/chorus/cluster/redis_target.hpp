#pragma once
// Where Redis is, as its URL says: see `redis`.

#include <chorus/base/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

struct redis_address {
  std::string host{}; // of a unix socket empty
  std::string port{};
  std::string path{}; // of a unix socket
  friend bool operator==(const redis_address &, const redis_address &) = default;
};
std::string to_string(const redis_address &where); // "127.0.0.1:6379", "unix:/run/x"

struct redis_target {
  enum class kind : unsigned char { single, sentinel, cluster };
  kind is = kind::single;
  bool tls = false;
  std::vector<redis_address> addresses{}; // one of a single; at least one
  std::string user{};
  std::string password{};
  unsigned database = 0;
  std::string master{}; // of Sentinel: its name for it
};

// bad_url with a sentence that repeats no password.
result<redis_target> parse_redis_url(std::string_view url);

} // namespace chorus::detail
