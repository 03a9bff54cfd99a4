// What comes from Redis is read the same however it is cut, or refused by name; so is what a cluster says of
// itself, and a URL. The first byte says how it is cut.
#include <chorus/cluster/redis_protocol.hpp>
#include <chorus/cluster/redis_target.hpp>
#include <chorus/cluster/redis_topology.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

using chorus::detail::redis_reply;

void require(bool holds) {
  if (!holds)
    std::abort();
}

bool same(const redis_reply &a, const redis_reply &b) {
  return a.is == b.is && a.number == b.number && a.text == b.text &&
         std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), same);
}

struct outcome {
  std::vector<redis_reply> replies;
  bool refused = false;
};

outcome read(std::string_view bytes, std::size_t most) {
  outcome o;
  chorus::detail::redis_reader reader;
  while (!bytes.empty() && !o.refused) {
    const auto piece = bytes.substr(0, most);
    bytes.remove_prefix(piece.size());
    reader.feed(piece);
    for (;;) {
      auto next = reader.next();
      if (!next) {
        require(next.error() == chorus::error::protocol && !next.error().message().empty());
        o.refused = true;
        break;
      }
      if (!*next)
        break;
      o.replies.push_back(std::move(**next));
    }
  }
  return o;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size == 0)
    return 0;
  const std::string_view bytes(reinterpret_cast<const char *>(data) + 1, size - 1);
  const auto whole = read(bytes, SIZE_MAX);
  const auto cut = read(bytes, 1U + data[0] % 16U);
  require(whole.refused == cut.refused);
  require(std::equal(whole.replies.begin(), whole.replies.end(), cut.replies.begin(),
                     cut.replies.end(), same));
  const chorus::detail::redis_address asked{"127.0.0.1", "7000", ""};
  for (const auto &r : whole.replies) {
    if (const auto ranges = chorus::detail::read_redis_slots(r, asked))
      for (const auto &range : *ranges)
        require(range.first <= range.last && range.last < chorus::detail::redis_slots);
    if (const auto to = chorus::detail::read_redis_redirect(r.text, asked))
      require(to->slot < chorus::detail::redis_slots);
  }
  if (const auto target = chorus::detail::parse_redis_url(bytes))
    require(!target->addresses.empty());
  else
    require(target.error() == chorus::error::bad_url);
  return 0;
}
