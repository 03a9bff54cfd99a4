// Nodes' leases. One whose lease has ended is claimed by one engine at a time, which empties its rooms, each
// by a script that tells every change once; an engine that stops in the middle of that leaves the claim to
// lapse, and the next one goes on.

#include <chorus/cluster/redis_broker.hpp>

#include <chorus/server/history.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr const char *claim_lasts = "30000"; // ms
constexpr const char *rooms_at_a_time = "100";
// A lease that has lapsed here lapses at Redis a little later; then it is looked for so often.
constexpr std::chrono::milliseconds lapse_slack{20};
constexpr std::chrono::seconds between_sweeps{1};
constexpr unsigned most_sweeps = 3;

} // namespace

struct redis_engine::claim {
  std::string name; // "INCARNATION NODE", as Redis has it
  std::string node{};
  std::string incarnation{};
  std::function<void()> done{};
  std::size_t open = 0; // rooms of this step
  bool progress = false;
};

void redis_engine::renew(const std::string &node, std::chrono::milliseconds alive,
                         redis_owed<bool> answer) {
  const bool ends = alive.count() <= 0;
  const auto until = home_->now() + alive;
  if (ends)
    drop_lease(node, failure(error::not_open, stage::none, "the lease of the node has been ended"));
  else
    ++leases_[node].renewing;
  const auto &names = shared_->names;
  pool_->script(
      all_redis_scripts().renew,
      {names.nodes(":leases"), names.nodes(":inc"), names.nodes(":count"), names.nodes(":ended")},
      {node, std::to_string(ends ? 0 : alive.count()), claiming_ || ends ? "0" : "1", claim_lasts},
      then([answer, node, until, ends](redis_engine &self, const redis_outcome &o) {
        auto why = why_not(o);
        if (!why.code() && o.reply.items.size() != 3)
          why = redis_nonsense();
        if (!ends)
          self.renewed(node, until, why.code() ? redis_reply() : o.reply);
        if (why.code()) {
          (*answer)(std::move(why));
          return;
        }
        const bool had = o.reply.items[0].number != 0;
        const auto &claimed = o.reply.items[2].text;
        if (ends && !claimed.empty()) { // its own: answered when nobody is there by its word
          self.work(claimed, [answer, had] { (*answer)(had); });
          return;
        }
        (*answer)(had);
        if (!claimed.empty()) {
          self.claiming_ = true;
          self.work(claimed, {});
        }
      }));
}

// Without items: it failed.
void redis_engine::renewed(const std::string &node, time_point until, const redis_reply &r) {
  const auto found = leases_.find(node);
  if (found == leases_.end())
    return;
  auto &lease = found->second;
  if (lease.renewing != 0)
    --lease.renewing;
  if (r.items.size() == 3) {
    const auto &incarnation = r.items[1].text;
    if (lease.incarnation != incarnation) {
      const failure fresh(error::not_open, stage::none,
                          "the lease of the node " + node + " has begun anew: enter again");
      auto rooms = std::exchange(lease.rooms, {});
      lease.incarnation = incarnation;
      for (auto &[room, state] : rooms)
        for (const auto &f : state.held)
          f(&fresh);
    }
    lease.until = std::max(lease.until, until);
    lease.swept = 0;
    start_sweep();
  }
  run_held(node);
}

void redis_engine::run_held(const std::string &node) {
  const auto found = leases_.find(node);
  if (found == leases_.end())
    return;
  auto held = std::exchange(found->second.held, {});
  if (found->second.incarnation.empty() && found->second.renewing == 0)
    leases_.erase(found);
  for (const auto &f : held)
    f();
}

void redis_engine::drop_lease(const std::string &node, const failure &why) {
  const auto found = leases_.find(node);
  if (found == leases_.end())
    return;
  auto lease = std::move(found->second);
  leases_.erase(found);
  if (lease.renewing != 0) // an answer is on its way
    leases_[node].renewing = lease.renewing;
  for (auto &[room, state] : lease.rooms)
    for (const auto &f : state.held)
      f(&why);
  for (const auto &f : lease.held)
    f();
}

// The next lease that this process has renewed may lapse while nobody else renews any.
void redis_engine::start_sweep() {
  auto next = time_point::max();
  for (const auto &[node, lease] : leases_)
    if (!lease.incarnation.empty())
      next = std::min(next, lease.until + lapse_slack + lease.swept * between_sweeps);
  if (next != time_point::max())
    home_->start(lapse_, std::max(next, home_->now()));
}

void redis_engine::sweep() {
  std::vector<std::string> over;
  for (auto &[node, lease] : leases_)
    if (!lease.incarnation.empty() && lease.until + lapse_slack <= home_->now() &&
        ++lease.swept > most_sweeps)
      over.push_back(node);
  for (const auto &node : over)
    drop_lease(node, failure(error::not_open, stage::none, "the node's lease has ended"));
  start_sweep();
  look_for_dead();
}

void redis_engine::look_for_dead() {
  const auto &names = shared_->names;
  pool_->script(
      all_redis_scripts().renew,
      {names.nodes(":leases"), names.nodes(":inc"), names.nodes(":count"), names.nodes(":ended")},
      {"", "0", claiming_ ? "0" : "1", claim_lasts},
      then([](redis_engine &self, const redis_outcome &o) {
        if (why_not(o).code() || o.reply.items.size() != 3 || o.reply.items[2].text.empty())
          return;
        self.claiming_ = true;
        self.work(o.reply.items[2].text, {});
      }));
}

void redis_engine::work(std::string claimed, std::function<void()> done) {
  auto c = std::make_shared<claim>();
  const auto space = claimed.find(' ');
  c->incarnation = claimed.substr(0, space);
  c->node = space == std::string::npos ? std::string() : claimed.substr(space + 1);
  c->name = std::move(claimed);
  c->done = std::move(done);
  if (const auto lease = leases_.find(c->node);
      lease != leases_.end() && lease->second.incarnation == c->incarnation)
    drop_lease(c->node, failure(error::not_open, stage::none, "the node's lease has ended"));
  take_rooms(c);
}

void redis_engine::take_rooms(const std::shared_ptr<claim> &c) {
  pool_->script(all_redis_scripts().take_rooms, {shared_->names.rooms(c->node, c->incarnation)},
                {rooms_at_a_time}, then([c](redis_engine &self, const redis_outcome &o) {
                  if (why_not(o).code()) {
                    self.end_claim(c); // it lapses
                    return;
                  }
                  if (o.reply.items.empty()) {
                    const auto key = self.shared_->names.nodes(":ended");
                    self.pool_->command(key, {"ZREM", key, c->name}, [](const redis_outcome &) {});
                    self.end_claim(c);
                    if (!c->done)
                      self.look_for_dead();
                    return;
                  }
                  c->open = o.reply.items.size();
                  c->progress = false;
                  for (const auto &room : o.reply.items)
                    self.empty_room(c, room.text, "0");
                }));
}

void redis_engine::empty_room(const std::shared_ptr<claim> &c, const std::string &room,
                              std::string cursor) {
  const auto &names = shared_->names;
  pool_->script(all_redis_scripts().remove,
                {names.key(room, ":p"), names.key(room, ":c"), names.key(room, ":d")},
                {c->incarnation, std::move(cursor), names.channel(room), verb(), random_epoch()},
                then([c, room](redis_engine &self, const redis_outcome &o) {
                  if (why_not(o).code())
                    self.emptied(c, room, false);
                  else if (o.reply.text == "0")
                    self.emptied(c, room, true);
                  else
                    self.empty_room(c, room, o.reply.text);
                }));
}

// Rooms that can't be emptied now stay in the set: when nothing goes on, the claim lapses.
void redis_engine::emptied(const std::shared_ptr<claim> &c, const std::string &room, bool done) {
  if (done) {
    c->progress = true;
    const auto key = shared_->names.rooms(c->node, c->incarnation);
    pool_->command(key, {"SREM", key, room}, [](const redis_outcome &) {});
  }
  if (--c->open == 0) {
    if (c->progress)
      take_rooms(c);
    else
      end_claim(c);
  }
}

void redis_engine::end_claim(const std::shared_ptr<claim> &c) {
  if (c->done)
    c->done();
  else
    claiming_ = false;
}

} // namespace chorus::detail
