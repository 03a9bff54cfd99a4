#include <chorus/cluster/redis_broker.hpp>
#include <chorus/cluster/redis_protocol.hpp>
#include <chorus/cluster/wire.hpp>

#include <chorus/server/history.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

using namespace std::chrono_literals;

// Bounds of a page of history, and of what is looked at in one go, as far as the last messages allow.
constexpr const char *page_messages = "500";
constexpr const char *page_bytes = "1048576";
// By so much the clocks of this machine and of Redis may drift apart while an outcome is looked up.
constexpr std::chrono::milliseconds drift = 5s;

std::string number(std::uint64_t n) { return std::to_string(n); }

failure nobody_listens(const std::string &room) {
  return failure(error::not_open, stage::none, "nobody listens to " + room);
}

failure unconfirmed(const std::string &why) {
  return failure(error::unconfirmed, stage::none,
                 "whether the message was published is not known: " + why);
}

// Refused when it wanted to write: by then it had found that the first attempt is not there.
bool has_looked(const redis_reply &refusal) {
  return is_redis_error(refusal, "OOM") || is_redis_error(refusal, "MISCONF") ||
         is_redis_error(refusal, "NOREPLICAS");
}

const std::string &text_at(const redis_reply &r, std::size_t i) {
  static const std::string none;
  return i < r.items.size() ? r.items[i].text : none;
}
std::uint64_t number_at(const redis_reply &r, std::size_t i) {
  return i < r.items.size() ? static_cast<std::uint64_t>(r.items[i].number) : 0;
}

} // namespace

std::string redis_engine::lives(const redis_publish &p) const {
  return std::to_string(std::max(redis_least_life, p.linger + p.age).count());
}

void redis_engine::publish(std::shared_ptr<redis_publish> p) {
  const auto lane = lanes_.find(p->room);
  if (lane == lanes_.end() || !lane->second.settling) {
    send(p);
    return;
  }
  if (pool_->up() || pool_->clustered()) {
    lane->second.waiting.push_back(std::move(p));
    return;
  }
  shared_->refused.fetch_add(1, std::memory_order_relaxed);
  (*p->answer)(why_not({redis_outcome::kind::not_done, {}, pool_->why_down()}));
}

void redis_engine::send(const std::shared_ptr<redis_publish> &p) {
  const auto channel = shared_->names.channel(p->room);
  if (!p->kept) {
    pool_->command(
        channel, {verb(), channel, "p" + p->wire},
        then([p](redis_engine &self, const redis_outcome &o) { self.sent_passing(p, o); }));
    return;
  }
  broker_position seen;
  if (const auto s = subscriptions_.find(channel); s != subscriptions_.end())
    seen = s->second.seen;
  if (!p->again) {
    p->sent = home_->now();
    p->trail = std::make_shared<redis_trail>();
    p->known = seen.offset;
    auto &lane = lanes_[p->room];
    p->order = ++lane.sent;
    lane.flying.push_back(p);
  }
  p->on_its_way = true;
  ++lanes_[p->room].on_their_way;
  pool_->script(all_redis_scripts().publish,
                {shared_->names.key(p->room, ":s"), shared_->names.key(p->room, ":m")},
                {p->wire, channel, verb(), random_epoch(), number(p->messages),
                 std::to_string(p->age.count()), number(p->bytes), lives(*p),
                 p->again && p->known != 0 ? "1" : "", seen.epoch, number(seen.offset)},
                then([p](redis_engine &self, const redis_outcome &o) { self.sent_kept(p, o); }),
                p->trail);
}

void redis_engine::sent_passing(const std::shared_ptr<redis_publish> &p, const redis_outcome &o) {
  if (o.is == redis_outcome::kind::unknown || o.is == redis_outcome::kind::doubtful) {
    (*p->answer)(unconfirmed("the connection to Redis was lost before its answer, and what is not "
                             "kept can't be looked up"));
    return;
  }
  if (o.is == redis_outcome::kind::not_done)
    shared_->refused.fetch_add(1, std::memory_order_relaxed);
  if (const auto why = why_not(o); why.code())
    (*p->answer)(why);
  else if (p->command && o.reply.number == 0)
    (*p->answer)(nobody_listens(p->room));
  else
    (*p->answer)(broker_position());
}

void redis_engine::sent_kept(const std::shared_ptr<redis_publish> &p, const redis_outcome &o) {
  using kind = redis_outcome::kind;
  auto &lane = lanes_[p->room];
  p->on_its_way = false;
  --lane.on_their_way;
  if (o.is == kind::unknown || (p->again && (o.is == kind::not_done || is_not_executed(o.reply)))) {
    lane.settling = true;
    if (o.is == kind::unknown) // else with the next beat, or when Redis is back
      settle(p->room);
    return;
  }
  if (o.is == kind::doubtful) {
    finish(p, unconfirmed("Redis could not be reached before redis_options::look_up_timeout"));
    return;
  }
  if (o.is == kind::not_done)
    shared_->refused.fetch_add(1, std::memory_order_relaxed);
  if (auto why = why_not(o); why.code()) {
    finish(p, !p->again || has_looked(o.reply) ? std::move(why) : unconfirmed(why.message()));
    return;
  }
  looked_up_ += p->again ? 1 : 0;
  const auto offset = number_at(o.reply, 0);
  if (o.reply.items.size() != 3)
    finish(p, redis_nonsense());
  else if (offset == 0)
    finish(p, unconfirmed(
                  "Redis was restarted, another one is the master, or the room's data are gone, "
                  "since it was asked, and it has no such message; others may have got it "
                  "before"));
  else if (p->command && number_at(o.reply, 2) == 0)
    finish(p, nobody_listens(p->room));
  else {
    const broker_position at{text_at(o.reply, 1), offset};
    note_place(p->room, at);
    end_overtaken(lane, *p,
                  failure(error::lost, stage::open,
                          "Redis did not execute commands when its turn came, and took a later "
                          "message of the room"));
    finish(p, at);
  }
}

// Those before it that were sent again and are not on their way would come too late now.
void redis_engine::end_overtaken(redis_lane &lane, const redis_publish &by, const failure &why) {
  std::vector<std::shared_ptr<redis_publish>> all;
  for (auto &flying = lane.flying; !flying.empty(); flying.pop_front()) {
    const auto &p = *flying.front();
    if (p.order >= by.order || p.on_its_way || !p.again)
      break;
    all.push_back(std::move(flying.front()));
  }
  for (const auto &p : all)
    (*p->answer)(why);
}

void redis_engine::note_place(const std::string &room, const broker_position &at) {
  if (const auto s = subscriptions_.find(shared_->names.channel(room)); s != subscriptions_.end())
    s->second.note(at.epoch, at.offset);
}

void redis_engine::finish(const std::shared_ptr<redis_publish> &p, result<broker_position> r) {
  if (const auto lane = lanes_.find(p->room); lane != lanes_.end()) {
    // Mostly it is the oldest, or was refused at once: a room may have thousands.
    auto &flying = lane->second.flying;
    if (!flying.empty() && flying.back() == p)
      flying.pop_back();
    else if (const auto at = std::find(flying.begin(), flying.end(), p); at != flying.end())
      flying.erase(at);
    if (flying.empty() && !lane->second.settling)
      lanes_.erase(lane);
  }
  (*p->answer)(std::move(r));
  settle(p->room);
}

// Null: nothing is to be settled, or something is on its way still.
redis_lane *redis_engine::idle_lane(const std::string &room) {
  const auto found = lanes_.find(room);
  return found == lanes_.end() || !found->second.settling || found->second.on_their_way != 0
             ? nullptr
             : &found->second;
}

// When nothing of the room is on its way: what may have been lost is looked for, and sent again if it was,
// in its order; then what has waited for that goes out.
void redis_engine::settle(const std::string &room) {
  const auto name = room; // which may be of what is let go
  auto *lane = idle_lane(name);
  if (!lane)
    return;
  // All of them leave before the first is answered: whoever is told may come back here.
  std::deque<std::shared_ptr<redis_publish>> late;
  const auto over = home_->now() - shared_->options.look_up_timeout;
  for (auto &flying = lane->flying; !flying.empty() && flying.front()->sent < over;
       flying.pop_front())
    late.push_back(std::move(flying.front()));
  for (const auto &p : late)
    (*p->answer)(unconfirmed("it could not be looked up before redis_options::look_up_timeout"));
  lane = idle_lane(name);
  if (!lane)
    return;
  if (lane->flying.empty()) {
    auto waiting = std::exchange(lane->waiting, {});
    lanes_.erase(name);
    for (const auto &p : waiting)
      publish(p);
    return;
  }
  if (pool_->up() || pool_->clustered())
    look_up(name, *lane);
}

// The connections on which they were sent have ended, so that what is not there now does not come later.
void redis_engine::look_up(const std::string &room, redis_lane &lane) {
  const auto l = std::make_shared<redis_look_up>();
  l->room = room;
  auto from = lane.flying.front()->known;
  for (const auto &p : lane.flying) {
    from = std::min(from, p->known);
    l->sought.emplace(p->origin, p);
  }
  l->from = from == 0 ? "-1" : number(from);
  const auto ago = home_->now() - lane.flying.front()->sent + drift;
  l->since = std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(ago).count());
  ++lane.on_their_way;
  look_on(l);
}

void redis_engine::look_on(const std::shared_ptr<redis_look_up> &l) {
  pool_->script(all_redis_scripts().look_up,
                {shared_->names.key(l->room, ":s"), shared_->names.key(l->room, ":m")},
                {l->from, l->since, page_messages, page_bytes},
                then([l](redis_engine &self, const redis_outcome &o) { self.looked(l, o); }));
}

void redis_engine::looked(const std::shared_ptr<redis_look_up> &l, const redis_outcome &o) {
  auto &lane = lanes_[l->room];
  if (o.is != redis_outcome::kind::answered || is_not_executed(o.reply)) {
    --lane.on_their_way;
    if (o.is == redis_outcome::kind::unknown) // else with the next beat, or when Redis is back
      settle(l->room);
    return;
  }
  const auto &items = o.reply.items;
  auto why = why_not(o);
  if (!why.code() && (items.size() < 4 || items.size() % 2 != 0))
    why = redis_nonsense();
  if (why.code()) {
    --lane.on_their_way;
    leave_unconfirmed(l->room, why.message());
    return;
  }
  for (std::size_t i = 4; i < items.size(); i += 2)
    if (auto found = l->sought.extract(items[i + 1].text)) {
      const auto &p = found.mapped();
      if (!l->newest || l->newest->order < p->order)
        l->newest = p;
      ++looked_up_;
      const broker_position at{text_at(o.reply, 0), redis_offset(items[i].text)};
      note_place(l->room, at);
      finish(p, at);
    }
  l->all_kept = l->all_kept && number_at(o.reply, 1) != 0;
  l->until = l->until != 0 ? l->until : number_at(o.reply, 2);
  if (const auto next = number_at(o.reply, 3); next != 0 && next < l->until && !l->sought.empty()) {
    l->from = number(next);
    look_on(l);
    return;
  }
  // One that is missing before another that is there was not executed, or by another process that lost it.
  if (l->newest && l->all_kept)
    end_overtaken(lane, *l->newest,
                  unconfirmed("Redis has it not, and has got a later message of the room"));
  --lane.on_their_way;
  if (lane.flying.empty())
    settle(l->room);
  else if (l->all_kept)
    send_again(l->room);
  else
    leave_unconfirmed(l->room,
                      "the answer was lost, and the room's history since then was trimmed before "
                      "it could be looked up (room_options::history_messages)");
}

void redis_engine::send_again(const std::string &room) {
  const auto all = lanes_[room].flying; // from which an answer within `send` takes
  for (const auto &p : all) {
    p->again = true;
    send(p);
    if (!p->on_its_way) // refused at once: those behind it must not overtake it
      return;
  }
}

// All that is flying, before the first is answered: whoever is told may come back here.
void redis_engine::leave_unconfirmed(const std::string &room, const std::string &why) {
  for (const auto &p : std::exchange(lanes_[room].flying, {}))
    (*p->answer)(unconfirmed(why));
  settle(room);
}

void redis_engine::settle_all() {
  std::vector<std::string> rooms;
  for (const auto &[room, lane] : lanes_)
    if (lane.settling)
      rooms.push_back(room);
  for (const auto &room : rooms)
    settle(room);
}

void redis_engine::history(const std::string &room, const broker_position &since,
                           redis_owed<broker_page> a) {
  const auto &names = shared_->names;
  if (const auto s = subscriptions_.find(names.channel(room)); s != subscriptions_.end())
    keep_alive(s->second, s->first);
  pool_->script(all_redis_scripts().history, {names.key(room, ":s"), names.key(room, ":m")},
                {since.epoch, number(since.offset), random_epoch(), names.channel(room), verb(),
                 std::to_string(redis_least_life.count()), page_messages, page_bytes},
                then([a, room](redis_engine &self, const redis_outcome &o) {
                  if (auto why = why_not(o); why.code()) {
                    (*a)(std::move(why));
                    return;
                  }
                  const auto &items = o.reply.items;
                  broker_page page{text_at(o.reply, 0),
                                   number_at(o.reply, 1),
                                   number_at(o.reply, 2),
                                   {},
                                   number_at(o.reply, 3) != 0};
                  if (items.size() < 4 || items.size() % 2 != 0) {
                    (*a)(redis_nonsense());
                    return;
                  }
                  for (std::size_t i = 4; i < items.size(); i += 2) {
                    auto m = read_broker_message(items[i + 1].text);
                    if (m.has_error()) { // of another version, or somebody else's: the others count
                      ++self.unreadable_;
                      continue;
                    }
                    m->room = room;
                    m->at = {page.epoch, redis_offset(items[i].text)};
                    page.messages.push_back(std::move(*m));
                  }
                  // From the last one of none nobody could go on.
                  if (page.more && page.messages.empty() && items.size() > 4)
                    self.history(room, {page.epoch, redis_offset(items[items.size() - 2].text)}, a);
                  else
                    (*a)(std::move(page));
                }));
}

void redis_engine::begin_epoch(const std::string &room, std::string ended,
                               redis_owed<void> answer) {
  const auto &names = shared_->names;
  pool_->script(all_redis_scripts().begin_epoch, {names.key(room, ":m")},
                {std::move(ended), random_epoch(), names.channel(room), verb()},
                then([answer](redis_engine &, const redis_outcome &o) {
                  if (auto why = why_not(o); why.code())
                    (*answer)(std::move(why));
                  else
                    (*answer)({});
                }));
}

} // namespace chorus::detail
