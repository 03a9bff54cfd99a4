// Of rooms with history: what is published to their streams, and what is read of those.

#include <chorus/cluster/nats_rooms.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::chrono::milliseconds record_wait{200};
constexpr std::size_t most_sizes = 65'536; // messages

} // namespace

task<> nats_rooms::look_up(room r, std::string policy) {
  const auto got = co_await record_of(r, std::move(policy));
  r->looking = false;
  if (got.has_error()) {
    if (!take_early(*r).empty())
      begin_again(r, true);
    std::vector<std::shared_ptr<nats_operation>> over;
    for (const auto &o : r->operations)
      if (o->what == nats_operation::kind::message && !o->doubtful && !o->running)
        over.push_back(o);
    for (const auto &o : over) {
      drop(r, o);
      o->refuse(got.error());
    }
  }
  const auto *const s = got.has_value() ? core_.streams().kept(got->policy) : nullptr;
  bool passed_by = false;
  for (auto &e : take_early(*r)) {
    if (e.sequence == 0 || (s && s->name == e.stream))
      heard(r, std::move(e));
    else
      passed_by = true;
  }
  if (passed_by)
    gap(r);
  if (got.has_error() && !r->operations.empty()) // doubtful ones
    co_await core_.pause(record_wait);
  pump(r);
}

task<> nats_rooms::look_up_later(room r, std::string policy) {
  co_await core_.pause(record_wait);
  co_await look_up(r, std::move(policy));
}

// Sends what may be sent now, in the order of the calls.
void nats_rooms::pump(const room &r) {
  if (!core_.ready())
    return;
  while (!r->operations.empty()) {
    const auto first = r->operations.front();
    if (first->what != nats_operation::kind::history || first->running)
      break;
    r->operations.pop_front();
    core_.spawn(first->run());
  }
  if (r->operations.empty())
    return;
  busy_.insert(r->token);
  const auto first = r->operations.front();
  if (first->what == nats_operation::kind::epoch) {
    if (!std::exchange(first->running, true))
      start(r, first);
    return;
  }
  if (r->looking)
    return;
  bool again = false; // those whose answers were lost go first, and alone
  for (const auto &o : r->operations)
    again = again || (o->doubtful && !o->running);
  if (again && r->in_flight != 0)
    return;
  bool went = false;
  for (const auto &o : std::deque<std::shared_ptr<nats_operation>>(r->operations)) {
    if (o->what == nats_operation::kind::epoch)
      break;
    if (o->what == nats_operation::kind::history || o->running)
      continue;
    const bool fits = r->record && !r->record->epoch.empty() &&
                      (r->record->policy == o->policy || (r->chose && r->record->policy != "-"));
    const auto *const s = fits ? core_.streams().kept(r->record->policy) : nullptr;
    if (!s || !s->known || s->tag() != r->record->tag) {
      if (r->in_flight == 0) {
        r->looking = true;
        core_.spawn(look_up(r, o->policy));
      }
      break;
    }
    if (!o->doubtful) {
      o->tag = s->tag();
      o->limit = std::min(core_.options().look_up_timeout, s->window / 2);
    }
    const bool elsewhere = o->tag != s->tag();
    if (o->doubtful && (elsewhere || nats_core::clock::now() - o->since > o->limit)) {
      give_up(
          r, o,
          failure(error::lost, stage::none,
                  elsewhere ? "the stream that may have it is gone" : "it was away for too long"));
      went = true;
      continue;
    }
    // While two engines make a stream the server may say to one that it is there before it takes messages:
    // the first goes alone, so that nothing overtakes it if it finds nobody.
    if (!s->proven && r->in_flight != 0)
      break;
    send(r, o);
  }
  if (went)
    pump(r); // what waited for those
}

void nats_rooms::send(const room &r, const std::shared_ptr<nats_operation> &o) {
  o->running = true;
  ++r->in_flight;
  if (o->doubtful)
    core_.count_looked_up();
  nats_headers headers;
  headers.emplace_back("Nats-Msg-Id", o->id); // sent again, it is kept once
  core_.request(core_.subject("h." + r->record->policy + "." + r->token), o->body, headers,
                [this, r, o, policy = r->record->policy](const nats_reply &reply) {
                  if (auto *const s = core_.streams().kept(policy); s && !reply.why.code()) {
                    if (reply.status == 503)
                      core_.streams().doubt(*s);
                    else
                      s->proven = true;
                  }
                  sent(r, o, reply);
                });
}

void nats_rooms::sent(const room &r, const std::shared_ptr<nats_operation> &o,
                      const nats_reply &reply) {
  o->running = false;
  --r->in_flight;
  const auto a = nats_streams::parse(reply);
  const auto waited = nats_core::clock::now() - o->since;
  if (!a.why.code()) {
    if (r->record)
      if (auto *const s = core_.streams().kept(r->record->policy))
        s->last = std::max(s->last, a.sequence);
    broker_position at;
    at.epoch = r->record ? r->record->epoch : std::string();
    at.offset = a.sequence;
    refuse_overtaken(r, *o);
    drop(r, o);
    note(*r, a.sequence, o->size);
    if (const auto stays = too_much(*r, *o); stays != 0 && r->record)
      core_.spawn(trim(core_.subject("h." + r->record->policy + "." + r->token), r->record->policy,
                       stays, [o, at = std::move(at)]() mutable { o->answer(std::move(at)); }));
    else
      o->answer(std::move(at));
  } else if (reply.unsent && o->doubtful) {
    return; // until the connection is back
  } else if (!reply.unsent && reply.why.code()) {
    o->doubtful = true;
    // Here, since the next attempt begins below: one that is running is left alone by `expire`.
    if (waited > o->limit)
      give_up(r, o, reply.why);
    else
      core_.look_at(o->since + o->limit);
  } else if (a.code == nats_code::no_stream && !std::exchange(o->tried, true)) {
    // The stream has gone, or is not there yet after a start: it is made, and this sent again.
  } else if (a.code == nats_code::no_stream &&
             waited < (o->doubtful ? o->limit : core_.options().answer_timeout)) {
    core_.streams().doubt_all(); // or a cluster has no leader for it just now
    if (!std::exchange(r->looking, true))
      core_.spawn(look_up_later(r, o->policy));
  } else if (o->doubtful) { // what was sent before may be there
    give_up(r, o, a.why);
  } else {
    drop(r, o);
    o->refuse(a.why);
  }
  if (r->in_flight == 0)
    pump(r);
}

// Those before it found no stream, and would come too late now.
void nats_rooms::refuse_overtaken(const room &r, const nats_operation &by) {
  std::vector<std::shared_ptr<nats_operation>> all;
  for (const auto &o : r->operations) {
    if (o.get() == &by)
      break;
    if (o->what == nats_operation::kind::message && o->tried && !o->running && !o->doubtful)
      all.push_back(o);
  }
  for (const auto &o : all) {
    drop(r, o);
    o->refuse(failure(error::lost, stage::none,
                      "NATS had no stream when its turn came, and took a later message of the "
                      "room"));
  }
}

// JetStream bounds the bytes of a stream, not those of a subject: who publishes looks after them, as far as
// it has seen the room's messages, and leaves some way to go until the next time.
void nats_rooms::note(nats_room &r, std::uint64_t sequence, std::size_t size) {
  if (!r.sizes.empty() && sequence <= r.sizes.back().first)
    return;
  if (r.sizes.size() >= most_sizes) {
    r.bytes -= r.sizes.front().second;
    r.sizes.pop_front();
  }
  r.sizes.emplace_back(sequence, size);
  r.bytes += size;
}

std::uint64_t nats_rooms::too_much(nats_room &r, const nats_operation &o) {
  const auto most = o.bytes;
  while (o.messages != 0 && r.sizes.size() > o.messages) {
    r.bytes -= r.sizes.front().second;
    r.sizes.pop_front();
  }
  if (r.bytes <= most)
    return 0;
  const auto last = r.sizes.back();
  std::uint64_t stays = 0;
  while (!r.sizes.empty() && r.bytes > most / 4 * 3) {
    stays = r.sizes.front().first + 1;
    r.bytes -= r.sizes.front().second;
    r.sizes.pop_front();
  }
  return last.second > most ? last.first + 1 : stays;
}

task<> nats_rooms::trim(std::string subject, std::string policy, std::uint64_t stays,
                        std::function<void()> then) {
  if (const auto *const s = core_.streams().kept(policy))
    co_await core_.streams().purge(*s, std::move(subject), stays);
  then();
}

void nats_rooms::drop(const room &r, const std::shared_ptr<nats_operation> &o) {
  std::erase(r->operations, o);
  if (r->operations.empty())
    busy_.erase(r->token);
}

// Nobody knows whether the stream has it.
void nats_rooms::give_up(const room &r, const std::shared_ptr<nats_operation> &o,
                         const failure &why) {
  drop(r, o);
  o->answer(failure(error::unconfirmed, stage::none,
                    "it is not known whether NATS has the message: " + why.message()));
}

// Those that nobody can have got.
void nats_rooms::refuse_all(const room &r, const failure &why) {
  for (const auto &o : std::deque<std::shared_ptr<nats_operation>>(r->operations))
    if (!o->doubtful && !o->running) {
      drop(r, o);
      o->refuse(why);
    }
}

void nats_rooms::start(const room &r, const std::shared_ptr<nats_operation> &o) {
  core_.spawn([](nats_rooms &self, room at, std::shared_ptr<nats_operation> mine) -> task<> {
    auto t = mine->run();
    co_await std::move(t);
    self.drop(at, mine);
    self.pump(at);
  }(*this, r, o));
}

void nats_rooms::history(const std::string &name, broker_position since,
                         nats_answer<broker_page> answer) {
  const auto r = find(name);
  auto o = std::make_shared<nats_operation>();
  o->what = nats_operation::kind::history;
  o->refuse = [answer](const failure &why) { answer(why); };
  o->run = [this, r, since, answer] {
    return
        [](nats_rooms &self, room at, broker_position from, nats_answer<broker_page> to) -> task<> {
          auto page = co_await self.read(at, std::move(from));
          to(std::move(page));
        }(*this, r, since, answer);
  };
  r->operations.push_back(std::move(o));
  pump(r);
}

void nats_rooms::begin_epoch(const std::string &name, std::string ended, nats_answer<void> answer) {
  const auto r = find(name);
  auto o = std::make_shared<nats_operation>();
  o->what = nats_operation::kind::epoch;
  o->refuse = [answer](const failure &why) { answer(why); };
  o->run = [this, r, ended, answer] {
    return [](nats_rooms &self, room at, std::string old, nats_answer<void> to) -> task<> {
      auto outcome = co_await self.end_epoch(at, std::move(old));
      to(std::move(outcome));
    }(*this, r, ended, answer);
  };
  r->operations.push_back(std::move(o));
  pump(r);
}

// JetStream says how many messages of a room there are, but not which have gone. What had gone before is
// bounded from above, and known for what this engine has read before: see `checked`.
task<result<broker_page>> nats_rooms::read(room r, broker_position since) {
  auto &streams = core_.streams();
  const auto record = co_await record_of(r, {});
  if (record.has_error())
    co_return record.error();
  broker_page page;
  page.epoch = record->epoch;
  if (record->policy == "-")
    co_return page;
  auto *const s = streams.kept(record->policy);
  const auto subject = core_.subject("h." + record->policy + "." + r->token);
  const auto state = co_await streams.state(*s, subject);
  if (state.why.code())
    co_return state.why;
  const auto newest = co_await streams.last(*s, subject);
  if (newest.has_error())
    co_return newest.error();
  const bool known =
      since.epoch == record->epoch || (!record->ended.empty() && since.epoch == record->ended);
  const auto after = known ? since.offset : 0;
  nats_streams::entries found;
  std::uint64_t first = 0;
  if (newest->sequence > after) {
    auto got = co_await streams.read(*s, subject, after + 1);
    if (got.has_error())
      co_return got.error();
    found = std::move(*got);
  }
  if (newest->sequence != 0) { // after the reading: what went meanwhile is not given
    const auto oldest = co_await streams.next(*s, subject, 1);
    if (oldest.has_error())
      co_return oldest.error();
    first = oldest->sequence;
  }
  const auto aged = state.first == 0 ? 0 : state.first - 1;
  const bool full = s->keep.messages != 0 && state.count >= s->keep.messages;
  const bool checked = r->checked != 0 && aged <= r->checked;
  if (first == 0)
    page.trimmed = newest->sequence != 0 ? newest->sequence
                   : checked             ? r->top
                                         : std::max(aged, r->top);
  else if (full && first > 1)
    page.trimmed = first - 1;
  else
    page.trimmed = std::min(first - 1, checked ? std::min(r->top, aged) : aged);
  for (const auto &e : found.all) {
    if (e.sequence < first)
      continue;
    auto m = message_of(*r, page.epoch, e.data, e.sequence);
    if (m.has_value())
      page.messages.push_back(std::move(*m));
    else
      core_.count_unreadable();
  }
  page.more = found.more;
  page.last = std::max(
      {newest->sequence, page.trimmed, page.messages.empty() ? 0 : page.messages.back().at.offset});
  if (r->heard) {
    r->top = std::max(newest->sequence, page.trimmed);
    r->checked = std::max(state.last, r->top);
  }
  co_return page;
}

} // namespace chorus::detail
