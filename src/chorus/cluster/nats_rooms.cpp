#include <chorus/cluster/nats_rooms.hpp>

#include <chorus/cluster/nats_presence.hpp>
#include <chorus/cluster/wire.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::size_t most_idle_rooms = 10'000; // whose records are remembered
constexpr std::size_t most_early = 16'384;
constexpr std::size_t most_early_bytes = std::size_t{16} << 20;
constexpr std::size_t most_recent = 16'384;

} // namespace

nats_rooms::room nats_rooms::find(const std::string &name) {
  auto token = nats_token(name);
  auto &r = rooms_[token];
  if (!r) {
    r = std::make_shared<nats_room>();
    r->name = name;
    r->token = std::move(token);
    if (rooms_.size() > 2 * most_idle_rooms) {
      const auto keep = r;
      std::erase_if(rooms_, [&](const auto &one) {
        const auto &o = *one.second;
        return one.second != keep && o.listeners.empty() && o.operations.empty() && !o.looking;
      });
      return keep;
    }
  }
  return r;
}

void nats_rooms::tell(const room &r, const std::function<void(broker_listener &)> &f) {
  const auto all = r->listeners; // one that goes may unsubscribe
  bool gone = false;
  for (const auto &weak : all) {
    if (const auto to = weak.lock())
      f(*to);
    else
      gone = true;
  }
  if (gone)
    forget(r);
}

void nats_rooms::forget(const room &r) {
  std::erase_if(r->listeners, [](const auto &weak) { return weak.expired(); });
  if (!r->listeners.empty())
    return;
  r->heard.reset();
  r->based = false;
  ++r->begun;
  forget_ahead(*r);
  r->changes.clear();
  take_early(*r);
  r->top = r->checked = 0;
}

void nats_rooms::gap(const room &r) {
  if (r->listeners.empty())
    return;
  core_.count_gap();
  tell(r, [](broker_listener &to) { to.on_gap(); });
}

void nats_rooms::subscribe(const std::string &name, std::weak_ptr<broker_listener> to,
                           nats_answer<void> answer) {
  const auto r = find(name);
  if (!r->heard) {
    auto made = core_.link().subscribe(core_.subject("o." + r->token + ".>"));
    if (made.has_error()) {
      answer(made.error());
      return;
    }
    r->heard = std::move(*made);
  }
  r->listeners.push_back(std::move(to));
  if (r->based) {
    answer({});
    return;
  }
  const auto now = nats_core::clock::now();
  r->waiting.push_back({r->listeners.back(), std::move(answer), now});
  late_at_ = std::min(late_at_, now + core_.options().look_up_timeout);
  core_.look_at(late_at_);
  begin_again(r, false);
}

void nats_rooms::unsubscribe(const std::string &name, const broker_listener *who) {
  const auto found = rooms_.find(nats_token(name));
  if (found == rooms_.end())
    return;
  const auto r = found->second;
  std::erase_if(r->listeners, [&](const auto &weak) {
    const auto one = weak.lock();
    return !one || one.get() == who;
  });
  forget(r);
}

result<> nats_rooms::subscribe_again() {
  for (const auto &[token, r] : rooms_) {
    if (r->listeners.empty())
      continue;
    auto made = core_.link().subscribe(core_.subject("o." + token + ".>"));
    if (made.has_error())
      return made.error();
    r->heard = std::move(*made);
  }
  return {};
}

// What is not kept: to whoever listens now. One echo stands for all that was sent before it.
void nats_rooms::publish(broker_message m, nats_answer<broker_position> answer) {
  const auto r = find(m.room);
  forget(r); // so that a command is not heard by those who have gone
  if (m.keep.keeps_history() && m.command.empty()) {
    auto o = std::make_shared<nats_operation>();
    o->body = write_broker_message(m);
    o->id = core_.unique();
    o->size = m.content.size();
    o->bytes = m.keep.history_bytes;
    o->messages = m.keep.history_messages;
    o->policy = nats_policy(m.keep);
    o->answer = answer;
    o->refuse = [answer](const failure &why) { answer(why); };
    o->since = nats_core::clock::now();
    r->operations.push_back(std::move(o));
    pump(r);
    return;
  }
  pass(std::make_shared<passing>(passing{core_.subject("o." + r->token), core_.unique(),
                                         write_broker_message(m), !m.command.empty(), false, answer,
                                         nats_core::clock::now()}));
}

void nats_rooms::pass(std::shared_ptr<passing> p) {
  std::string inbox;
  if (p->command)
    inbox = core_.echo([this, p](const nats_reply &reply) { passed(p, reply); });
  if (const auto r =
          core_.link().publish(p->subject + (p->again ? ".a." : ".m.") + p->id, inbox, p->body, {});
      r.has_error()) {
    if (p->again) // what was sent before may have got to somebody: it waits for the next connection
      doubtful_.push_back(std::move(p));
    else
      p->answer(r.error());
    return;
  }
  if (p->command)
    core_.send_echo(inbox);
  else
    passing_.push_back(std::move(p));
}

void nats_rooms::calls_done() {
  if (passing_.empty())
    return;
  const auto inbox = core_.echo([this, all = std::exchange(passing_, {})](const nats_reply &reply) {
    for (const auto &p : all)
      passed(p, reply);
  });
  core_.send_echo(inbox);
}

void nats_rooms::passed(const std::shared_ptr<passing> &p, const nats_reply &reply) {
  if (reply.why.code())
    pass_again(p, reply.why);
  else if (reply.status == 503 && p->command && p->again)
    p->answer(failure(error::unconfirmed, stage::none,
                      "nobody listens to that any more, and perhaps somebody did"));
  else if (reply.status == 503 && p->command)
    p->answer(failure(error::not_open, stage::none, "nobody listens to that"));
  else
    p->answer(broker_position());
}

// Perhaps it came to all: they ignore it then, by its origin.
void nats_rooms::pass_again(const std::shared_ptr<passing> &p, const failure &why) {
  const auto now = nats_core::clock::now();
  if (now - p->since > core_.options().look_up_timeout) {
    p->answer(failure(error::unconfirmed, stage::none,
                      "it is not known whether the message got to others: " + why.message()));
    return;
  }
  p->again = true;
  core_.count_looked_up();
  if (core_.ready())
    pass(p);
  else
    doubtful_.push_back(p);
}

bool nats_rooms::is_new(std::string_view id) {
  const auto hash = std::hash<std::string_view>()(id);
  if (recent_set_.contains(hash))
    return false;
  recent_.push_back(hash);
  recent_set_.insert(hash);
  if (recent_.size() > most_recent) {
    recent_set_.erase(recent_set_.find(recent_.front()));
    recent_.pop_front();
  }
  return true;
}

// What was sent again may come before the first, from a connection that was not read to its end.
void nats_rooms::passed_on(const room &r, const nats_event &e, std::string_view id) {
  auto m = read_broker_message(e.data);
  if (m.has_error()) {
    core_.count_unreadable();
    return;
  }
  if (!is_new(id))
    return;
  m->room = r->name;
  tell(r, [&](broker_listener &to) { to.on_message(*m); });
}

void nats_rooms::arrived(nats_event &e, const std::vector<std::string_view> &parts) {
  if (parts.size() < 4)
    return;
  const auto found = rooms_.find(std::string(parts[2]));
  if (found == rooms_.end())
    return;
  const auto r = found->second;
  core_.count_received();
  if (parts[3] == "p")
    core_.presence().changed(r->name, e, [&](const broker_change &c) { change(r, c); });
  else
    heard(r, std::move(e));
}

// A message, of either kind.
void nats_rooms::heard(const room &r, nats_event e) {
  if (e.sequence != 0)
    kept(r, std::move(e));
  else if (!r->early.empty())
    wait_with(r, std::move(e));
  else if (const auto parts = split(e.subject, '.'); parts.size() == 5)
    passed_on(r, e, parts[4]);
}

void nats_rooms::wait_with(const room &r, nats_event e) {
  r->early_bytes += e.data.size();
  if (r->early.size() >= most_early || r->early_bytes > most_early_bytes) {
    take_early(*r);
    begin_again(r, true);
    return;
  }
  r->early.push_back(std::move(e));
}

std::deque<nats_event> nats_rooms::take_early(nats_room &r) {
  r.early_bytes = 0;
  return std::exchange(r.early, {});
}

result<broker_message> nats_rooms::message_of(const nats_room &r, std::string_view epoch,
                                              std::string_view body, std::uint64_t sequence) {
  auto m = read_broker_message(body);
  if (m.has_error())
    return m;
  m->room = r.name;
  m->at.epoch = epoch;
  m->at.offset = sequence;
  return m;
}

void nats_rooms::record_changed(std::string_view token, const nats_event &e) {
  if (token.starts_with('L')) { // of a stream
    core_.streams().doubt_all();
    missed();
    return;
  }
  const auto found = rooms_.find(std::string(token));
  if (found == rooms_.end())
    return;
  const auto r = found->second;
  auto now = nats_record::parse(e.data, e.sequence);
  if (!now || (r->record && r->record->at >= now->at))
    return;
  const bool other =
      r->record ? !r->record->epoch.empty() && r->record->epoch != now->epoch : !now->ended.empty();
  if (r->record && r->record->tag != now->tag)
    r->top = r->checked = 0;
  r->record = std::move(now);
  if (other)
    gap(r);
}

void nats_rooms::restored(bool again) {
  for (const auto &p : std::exchange(doubtful_, {}))
    pass(p);
  calls_done();
  std::vector<room> all;
  for (const auto &[token, r] : rooms_)
    all.push_back(r);
  for (const auto &r : all) {
    if (again)
      renew(r);
    pump(r);
  }
}

// Something that came in may have been dropped.
void nats_rooms::missed() {
  std::vector<room> all;
  for (const auto &[token, r] : rooms_)
    all.push_back(r);
  for (const auto &r : all)
    renew(r);
}

void nats_rooms::renew(const room &r) {
  r->record.reset();
  forget_ahead(*r);
  r->changes.clear();
  take_early(*r);
  if (r->heard)
    begin_again(r, true);
}

void nats_rooms::away(const failure &why) {
  for (const auto &token : std::vector<std::string>(busy_.begin(), busy_.end()))
    if (const auto found = rooms_.find(token); found != rooms_.end())
      refuse_all(found->second, why);
  std::vector<room> all;
  for (const auto &[token, r] : rooms_)
    if (!r->waiting.empty())
      all.push_back(r);
  for (const auto &r : all)
    turn_away(r, why);
}

void nats_rooms::expire(nats_core::clock::time_point now) {
  const auto limit = core_.options().look_up_timeout;
  for (const auto &token : std::vector<std::string>(busy_.begin(), busy_.end())) {
    const auto found = rooms_.find(token);
    if (found == rooms_.end())
      continue;
    const auto r = found->second;
    bool went = false;
    for (const auto &o : std::deque<std::shared_ptr<nats_operation>>(r->operations)) {
      if (!o->doubtful || o->running)
        continue;
      if (now - o->since > o->limit) {
        give_up(r, o, failure(error::timed_out, stage::none, "it was away for too long"));
        went = true;
      } else {
        core_.look_at(o->since + o->limit + std::chrono::milliseconds(1));
        break;
      }
    }
    if (went)
      pump(r);
  }
  for (const auto &token : std::vector<std::string>(unsettled_.begin(), unsettled_.end())) {
    const auto found = rooms_.find(token);
    if (found == rooms_.end())
      unsettled_.erase(token);
    else if (found->second->settle_at <= now)
      settle(found->second);
    else
      core_.look_at(found->second->settle_at);
  }
  turn_away_late(now);
  std::erase_if(doubtful_, [&](const auto &p) {
    if (now - p->since <= limit) {
      core_.look_at(p->since + limit + std::chrono::milliseconds(1));
      return false;
    }
    p->answer(failure(error::unconfirmed, stage::none,
                      "the NATS server was away for too long to send the message again"));
    return true;
  });
}

void nats_rooms::shut(const failure &why) {
  for (const auto &p : std::exchange(doubtful_, {}))
    p->answer(why);
  for (const auto &p : std::exchange(passing_, {}))
    p->answer(why);
  for (const auto &[token, r] : rooms_) {
    for (const auto &o : std::exchange(r->operations, {}))
      o->refuse(why);
    for (const auto &one : std::exchange(r->waiting, {}))
      one.answer(why);
  }
  rooms_.clear();
  busy_.clear();
}

} // namespace chorus::detail
