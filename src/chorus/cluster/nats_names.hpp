#pragma once
// How rooms, members, nodes and policies become tokens of NATS' subjects, and where the URL points.

#include <chorus/base/result.hpp>
#include <chorus/cluster/nats.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

// Letters, digits, - and _ only, and never longer than 241: a long name is told by its SHA-256.
std::string nats_token(std::string_view name);

// Which stream a room's messages are kept in: one for each number of messages and age. "-": not known.
std::string nats_policy(const room_options &keep);
struct nats_policy_terms {
  std::uint64_t messages = 0;     // of each room; 0: any
  std::uint64_t milliseconds = 0; // 0: any age
};
result<nats_policy_terms> parse_nats_policy(std::string_view policy);

struct nats_target {
  std::vector<std::string> servers{}; // as libnats takes them
  bool secure = false;
  std::string user{}, password{}; // or `token`
  std::string token{};
};
result<nats_target> parse_nats_target(std::string_view url, const nats_options &options);

// The parts of a subject or another text.
std::vector<std::string_view> split(std::string_view text, char at);
std::uint64_t to_number(std::string_view digits) noexcept; // 0 for anything else

} // namespace chorus::detail
