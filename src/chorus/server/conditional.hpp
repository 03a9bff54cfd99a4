#pragma once
// Conditional and partial requests (RFC 9110 sections 13 and 14), as decisions without I/O.

#include <chorus/server/request.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace chorus::detail {

struct validators {
  std::string etag;                     // with its quotes; a strong one
  std::optional<std::int64_t> modified; // seconds since 1970
};

enum class precondition : unsigned char {
  holds,
  not_modified, // 304
  failed,       // 412
};

// Of a GET or HEAD, in the order of RFC 9110 section 13.2.2.
precondition check_preconditions(const request &r, const validators &current, std::int64_t now);

struct byte_range {
  std::uint64_t first = 0;
  std::uint64_t size = 0;
};
enum class range_verdict : unsigned char {
  whole,         // nothing was asked for that a server has to heed
  part,          // 206
  unsatisfiable, // 416
};

// What of `size` bytes is asked for. Only one range is ever served: several, other units, what is
// malformed and what an If-Range takes back are answered with everything.
range_verdict choose_range(const request &r, const validators &current, std::uint64_t size,
                           std::int64_t now, byte_range &part);

} // namespace chorus::detail
