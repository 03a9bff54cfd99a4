#include <chorus/cluster/redis_topology.hpp>

#include <chorus/cluster/redis_protocol.hpp>

#include <charconv>
#include <string>

namespace chorus::detail {

namespace {

// A node that does not know its own name says nothing, or a question mark.
redis_address address_of(std::string_view host, std::string_view port, const redis_address &asked) {
  redis_address found;
  found.host = host.empty() || host == "?" ? asked.host : std::string(host);
  found.port = port;
  return found;
}

template <class Number> bool read_number(std::string_view text, Number &to) {
  const auto *end = text.data() + text.size();
  const auto [rest, ec] = std::from_chars(text.data(), end, to);
  return ec == std::errc() && rest == end;
}

bool usual_port(std::int64_t n) noexcept { return n >= 1 && n <= 65535; }

failure unreadable_slots() {
  return failure(error::protocol, stage::connect, "the answer to CLUSTER SLOTS is none");
}

} // namespace

result<std::vector<redis_slot_range>> read_redis_slots(const redis_reply &r,
                                                       const redis_address &asked) {
  using type = redis_reply::type;
  if (r.is != type::list)
    return unreadable_slots();
  std::vector<redis_slot_range> found;
  for (const auto &range : r.items) {
    if (range.is != type::list || range.items.size() < 3)
      return unreadable_slots();
    const auto first = range.items[0].number;
    const auto last = range.items[1].number;
    const auto &master = range.items[2];
    if (range.items[0].is != type::number || range.items[1].is != type::number || first < 0 ||
        last < first || last >= static_cast<std::int64_t>(redis_slots) || master.is != type::list ||
        master.items.size() < 2 || !usual_port(master.items[1].number))
      return unreadable_slots();
    found.push_back(
        {static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last),
         address_of(master.items[0].text, std::to_string(master.items[1].number), asked)});
  }
  if (found.empty())
    return failure(error::not_open, stage::connect,
                   "the cluster serves no slots yet: create it with redis-cli --cluster create");
  return found;
}

std::optional<redis_redirect> read_redis_redirect(std::string_view text,
                                                  const redis_address &asked) {
  const auto first = text.find(' ');
  const auto second = text.find(' ', first + 1);
  const auto colon = text.rfind(':');
  if (first == text.npos || second == text.npos || colon == text.npos || colon < second)
    return std::nullopt;
  redis_redirect found;
  const auto slot = text.substr(first + 1, second - first - 1);
  const auto port = text.substr(colon + 1);
  std::int64_t number = 0;
  if (!read_number(slot, found.slot) || found.slot >= redis_slots || !read_number(port, number) ||
      !usual_port(number))
    return std::nullopt;
  found.to = address_of(text.substr(second + 1, colon - second - 1), port, asked);
  return found;
}

} // namespace chorus::detail
