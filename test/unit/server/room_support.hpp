#pragma once
// Rooms without a server: a hub over the test's own shard, and members whose far end is driven by
// hand or is a session itself.

#include "unit/session/support.hpp"

#include <chorus/async/runtime_core.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/room_core.hpp>

#include <string>
#include <vector>

namespace chorus {
inline std::ostream &operator<<(std::ostream &out, delivery d) { return out << to_string(d); }
} // namespace chorus

namespace chorus::test {

using detail::hub;

inline std::shared_ptr<hub> make_hub(shard &home, detail::room_complaints complaints = {}) {
  auto core = std::make_shared<detail::runtime_core>();
  core->shards.push_back(home.shared_from_this());
  return std::make_shared<hub>(std::move(core), std::move(complaints));
}

// A member and its peer at the other end of an in-memory connection.
inline by_hand member_of(shard &home, const session_options &options = quiet(),
                         std::size_t capacity = 64 * 1024) {
  return session_and_peer(home, role::server, options, capacity);
}

inline task<seat> seated(room r, session s) {
  auto joined = co_await r.join(std::move(s));
  BOOST_REQUIRE_MESSAGE(joined.has_value(), "join failed: " + joined.error().message());
  co_return std::move(*joined);
}

// The payloads of the next `count` data frames; fewer when the connection ends before.
inline task<std::vector<std::string>> next_texts(raw_peer &from, std::size_t count) {
  std::vector<std::string> all;
  while (all.size() < count) {
    auto f = co_await from.next();
    if (f.op != 1 && f.op != 2)
      break;
    all.push_back(std::move(f.payload));
  }
  co_return all;
}

// True when nothing has arrived that was not taken.
inline bool silent(raw_peer &peer) {
  peer.pump();
  return peer.buffered.empty();
}

template <class... Text> std::vector<std::string> texts(Text... text) { return {text...}; }

inline void check_equal(const std::vector<std::string> &got, const std::vector<std::string> &want) {
  BOOST_CHECK_EQUAL_COLLECTIONS(got.begin(), got.end(), want.begin(), want.end());
}

// The next data frames are these.
inline task<> expect(raw_peer &from, std::vector<std::string> want) {
  check_equal(co_await next_texts(from, want.size()), want);
}

inline std::vector<std::string> numbered(int from, int to) {
  std::vector<std::string> all;
  for (int i = from; i < to; ++i)
    all.push_back("m" + std::to_string(i));
  return all;
}

// The outcome of one member in a report; delivered when it is not listed.
inline delivery outcome_of(const broadcast_report &report, const session &s) {
  for (const auto &m : report.members)
    if (m.id == s.id())
      return m.outcome;
  return delivery::delivered;
}

} // namespace chorus::test
