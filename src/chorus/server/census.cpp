#include <chorus/server/census.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/server/server_core.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>

namespace chorus::detail {

void census::operator+=(const census &other) noexcept {
  for (std::size_t i = 0; i < refusals; ++i)
    refused[i] += other.refused[i];
  for (std::size_t i = 0; i < close_codes; ++i)
    for (std::size_t k = 0; k < 2; ++k)
      closed[i][k] += other.closed[i][k];
  for (std::size_t i = 0; i < endings; ++i)
    ended[i] += other.ended[i];
  tls_seconds += other.tls_seconds;
  round_trips += other.round_trips;
  members += other.members;
  fan_out_seconds += other.fan_out_seconds;
  broadcast_seconds += other.broadcast_seconds;
  engine_seconds += other.engine_seconds;
  delivery_seconds += other.delivery_seconds;
  sessions += other.sessions;
  queued_bytes += other.queued_bytes;
  queued_messages += other.queued_messages;
  oldest = std::max(oldest, other.oldest);
}

census_walk::census_walk(server_shard &where) noexcept
    : where_(where), at_(where.sessions_.next), next_walk_(where.walks_) {
  where_.walks_ = this;
  below_ = where_.last_number_ + 1;
  const auto &measures = where_.measures;
  for (std::size_t i = 0; i < refusals; ++i)
    counted_.refused[i] = measures.refused[i];
  for (std::size_t i = 0; i < close_codes; ++i)
    for (std::size_t k = 0; k < 2; ++k)
      counted_.closed[i][k] = measures.closed[i][k];
  for (std::size_t i = 0; i < endings; ++i)
    counted_.ended[i] = measures.ended[i];
  counted_.tls_seconds = measures.tls_seconds.now();
  counted_.round_trips = measures.round_trips.now();
  counted_.sessions = measures.over;
}

census_walk::~census_walk() {
  auto **link = &where_.walks_;
  while (*link != this)
    link = &(*link)->next_walk_;
  *link = next_walk_;
}

bool census_walk::go_on() noexcept {
  const auto now = where_.home().now();
  for (std::size_t i = 0; i < census::step; ++i) {
    if (at_ == &where_.sessions_)
      return false;
    const auto &live = static_cast<const live_session &>(*at_);
    at_ = at_->next;
    below_ = live.number;
    if (!live.open)
      continue; // only its handler still runs
    counted_.sessions.add(live.handle);
    auto &out = live.handle.core()->out();
    counted_.queued_bytes += out.queued_bytes();
    counted_.queued_messages += out.queued_messages();
    if (const auto since = out.oldest_since(); since != time_point::max())
      counted_.oldest = std::max<std::chrono::nanoseconds>(counted_.oldest, now - since);
  }
  return at_ != &where_.sessions_;
}

void census_walk::on_ended(const live_session &live, const session &s) noexcept {
  if (live.number < below_)
    counted_.sessions.add(s);
}

void census_walk::on_unlink(const list_hook &live) noexcept {
  if (at_ == &live)
    at_ = live.next;
}

namespace {

task<result<census>> walk(std::shared_ptr<server_shard> where) {
  census_walk way(*where);
  for (bool more = way.go_on(); more; more = way.go_on())
    co_await boost::asio::post(where->home().executor(), boost::asio::use_awaitable);
  co_return way.counted();
}

} // namespace

census::of_engine engine_census(const server_core &core) {
  census::of_engine e;
  const auto &rooms = core.setup()->rooms;
  const auto &node = rooms->node();
  if (!node)
    return e;
  e.any = true;
  e.state = node->watch().look();
  e.stats = node->engine()->stats();
  e.requests_dropped = node->commands_dropped();
  const auto &all = rooms->measures().engine;
  e.refused = all.refused.load(std::memory_order_relaxed);
  e.waited = all.waited.load(std::memory_order_relaxed);
  e.unnumbered = all.unnumbered.load(std::memory_order_relaxed);
  e.unconfirmed = all.unconfirmed.load(std::memory_order_relaxed);
  e.replayed = all.replayed.load(std::memory_order_relaxed);
  e.waiting = all.waiting.load(std::memory_order_relaxed);
  e.waiting_bytes = all.waiting_bytes.load(std::memory_order_relaxed);
  e.degraded_rooms = all.degraded_rooms();
  e.degraded = all.degraded(std::chrono::steady_clock::now());
  return e;
}

task<result<census>> take_census(std::shared_ptr<server_core> core) {
  census all;
  all.counts = core->counters();
  for (const auto &where : core->shards())
    where->add_to(all.drained);
  all.rooms = core->setup()->rooms->size();
  all.history_bytes = core->setup()->rooms->budget().bytes();
  auto &rooms = core->setup()->rooms->measures();
  for (std::size_t i = 0; i < rooms.size(); ++i) {
    all.members += rooms.at(i).members.now();
    all.fan_out_seconds += rooms.at(i).fan_out_seconds.now();
    all.broadcast_seconds += rooms.at(i).broadcast_seconds.now();
    all.engine_seconds += rooms.at(i).engine_seconds.now();
    all.delivery_seconds += rooms.at(i).delivery_seconds.now();
  }
  all.engine = engine_census(*core);
  for (const auto &where : core->shards()) {
    auto home = where->home().shared_from_this();
    auto work = walk(where);
    auto part = co_await on_shard(std::move(home), std::move(work));
    if (!part)
      co_return part.error();
    all += *part;
  }
  co_return all;
}

} // namespace chorus::detail
