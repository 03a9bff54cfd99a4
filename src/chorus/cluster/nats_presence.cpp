#include <chorus/cluster/nats_presence.hpp>

#include <chorus/cluster/nats_leases.hpp>
#include <chorus/cluster/wire.hpp>

#include <algorithm>
#include <limits>

namespace chorus::detail {

namespace {

constexpr int entry_attempts = 32;
constexpr const char *const kinds[] = {"in", "out", "claim", "withdrawn"};

failure entry_busy() {
  return failure(error::timed_out, stage::none, "the entry is changed all the time");
}

nats_present gone(const nats_present &p, nats_present::kind how) {
  nats_present out;
  out.what = how;
  out.who.node = p.who.node;
  out.who.id = p.who.id;
  return out;
}

} // namespace

std::string nats_present::str() const {
  return std::string(kinds[static_cast<std::size_t>(what)]) + " " + (lease.empty() ? "-" : lease) +
         " " + std::to_string(place) + "\n" + write_broker_member(who);
}

std::optional<nats_present> nats_present::parse(std::string_view body, std::uint64_t at) {
  const auto end = body.find('\n');
  const auto parts = split(body.substr(0, end), ' ');
  if (end == std::string_view::npos || parts.size() != 3)
    return std::nullopt;
  const auto *const found = std::find(std::begin(kinds), std::end(kinds), parts[0]);
  auto who = read_broker_member(body.substr(end + 1));
  if (found == std::end(kinds) || who.has_error())
    return std::nullopt;
  nats_present p;
  p.what = static_cast<kind>(found - std::begin(kinds));
  p.lease = parts[1];
  p.place = to_number(parts[2]);
  if (p.place == 0)
    p.place = at;
  p.who = std::move(*who);
  p.who.at = at;
  return p;
}

nats_presence::shared_room nats_presence::find(const std::string &name) {
  if (rooms_.size() >= tidy_at_) { // those that are over go
    std::erase_if(rooms_, [](const auto &one) {
      const auto &o = *one.second;
      return one.second.use_count() == 1 && o.going.empty() && o.lists.empty() && o.own.empty();
    });
    tidy_at_ = std::max<std::size_t>(1024, 2 * rooms_.size());
  }
  auto &r = rooms_[name];
  if (!r) {
    r = std::make_shared<room>();
    r->token = nats_token(name);
  }
  return r;
}

void nats_presence::take_turn(const shared_room &r, const std::string &id,
                              std::function<task<>()> f) {
  auto &turns = r->turns[id];
  const auto number = ++r->last;
  r->going.insert(number);
  turns.push_back([this, r, number, f = std::move(f)] {
    return [](nats_presence &self, shared_room at, std::uint64_t mine,
              std::function<task<>()> work) -> task<> {
      auto t = work();
      co_await std::move(t);
      self.over(at, mine);
    }(*this, r, number, f);
  });
  if (turns.size() == 1)
    core_.spawn(turns_of(r, id));
}

task<> nats_presence::turns_of(shared_room r, std::string id) {
  for (;;) {
    auto &turns = r->turns[id];
    if (turns.empty())
      break;
    auto t = turns.front()();
    co_await std::move(t);
    r->turns[id].pop_front();
  }
  r->turns.erase(id);
}

void nats_presence::over(const shared_room &r, std::uint64_t number) {
  r->going.erase(number);
  const auto oldest =
      r->going.empty() ? std::numeric_limits<std::uint64_t>::max() : *r->going.begin();
  std::vector<std::function<void()>> now;
  std::erase_if(r->lists, [&](auto &one) {
    if (one.first >= oldest)
      return false;
    now.push_back(std::move(one.second));
    return true;
  });
  for (const auto &f : now)
    f();
}

void nats_presence::enter(const std::string &name, broker_member who, std::size_t most,
                          nats_answer<void> answer) {
  const auto r = find(name);
  const auto id = who.id;
  take_turn(r, id, [this, r, who = std::move(who), most, answer] {
    return [](nats_presence &self, shared_room at, broker_member one, std::size_t others,
              nats_answer<void> to) -> task<> {
      auto outcome = co_await self.do_enter(at, std::move(one), others);
      to(std::move(outcome));
    }(*this, r, who, most, answer);
  });
}

void nats_presence::leave(const std::string &name, std::string node, std::string id,
                          nats_answer<void> answer) {
  const auto r = find(name);
  take_turn(r, id, [this, r, node, id, answer] {
    return [](nats_presence &self, shared_room at, std::string by, std::string one,
              nats_answer<void> to) -> task<> {
      auto outcome = co_await self.do_leave(at, std::move(by), std::move(one));
      to(std::move(outcome));
    }(*this, r, node, id, answer);
  });
}

void nats_presence::members(const std::string &name, nats_answer<broker_members> answer) {
  const auto r = find(name);
  auto go = [this, r, answer] { core_.spawn(do_list(r, answer)); };
  if (r->going.empty())
    go();
  else
    r->lists.emplace_back(*r->going.rbegin(), std::move(go));
}

task<> nats_presence::do_list(shared_room r, nats_answer<broker_members> answer) {
  const auto found = co_await list(r);
  if (found.has_error()) {
    answer(found.error());
    co_return;
  }
  broker_members all;
  all.at.epoch = core_.streams().presence().tag();
  all.at.offset = found->at;
  for (const auto &p : found->all)
    if (p.what == nats_present::kind::in)
      all.members.push_back(p.who);
  answer(std::move(all));
}

// All changes up to `at` are in it, and perhaps some later ones.
task<result<nats_presence::found_members>> nats_presence::list(shared_room r) {
  auto &streams = core_.streams();
  auto &stream = streams.presence();
  const auto there = co_await streams.ensure(stream);
  if (there.has_error())
    co_return there.error();
  const auto state = co_await streams.state(stream, core_.subject("p." + r->token + ".none"));
  if (state.why.code())
    co_return state.why;
  found_members found;
  found.at = state.last;
  std::map<std::string, std::size_t> places; // who changes meanwhile is met twice
  for (std::uint64_t from = 1;;) {
    const auto got = co_await streams.read(stream, core_.subject("p." + r->token + ".*"), from);
    if (got.has_error())
      co_return got.error();
    for (const auto &e : got->all) {
      from = e.sequence + 1;
      auto p = nats_present::parse(e.data, e.sequence);
      if (!p)
        continue;
      if (const auto old = places.find(p->who.id); old != places.end())
        found.all[old->second].what = nats_present::kind::out;
      places[p->who.id] = found.all.size();
      found.all.push_back(std::move(*p));
    }
    if (!got->more)
      co_return found;
  }
}

task<result<std::optional<nats_present>>> nats_presence::look(shared_room r, std::string id,
                                                              std::uint64_t &at) {
  auto &streams = core_.streams();
  const auto there = co_await streams.ensure(streams.presence());
  if (there.has_error())
    co_return there.error();
  const auto now = co_await streams.last(streams.presence(), subject(*r, id));
  if (now.has_error())
    co_return now.error();
  at = now->sequence;
  std::optional<nats_present> p;
  if (at != 0)
    p = nats_present::parse(now->data, at);
  co_return p;
}

task<result<std::size_t>> nats_presence::before(shared_room r, std::string id,
                                                std::uint64_t place) {
  const auto found = co_await list(r);
  if (found.has_error())
    co_return found.error();
  co_return static_cast<std::size_t>(
      std::count_if(found->all.begin(), found->all.end(), [&](const nats_present &p) {
        return p.who.id != id && p.place < place &&
               (p.what == nats_present::kind::in || p.what == nats_present::kind::claim);
      }));
}

task<result<>> nats_presence::do_enter(shared_room r, broker_member who, std::size_t most) {
  auto &streams = core_.streams();
  const auto lease = co_await core_.leases().number_of(who.node);
  if (lease.has_error())
    co_return lease.error();
  if (lease->empty())
    co_return failure(error::not_open, stage::none,
                      "the node " + who.node + " has no lease: renew it, and enter again");
  const auto where = subject(*r, who.id);
  nats_present wanted;
  wanted.lease = *lease;
  wanted.who = who;
  const auto full = [&] {
    return failure(error::limit_reached, stage::open,
                   std::to_string(most) + " are there already, which is all that may be");
  };
  std::uint64_t at = 0;
  bool look_first = most != 0;
  if (const auto own = r->own.find(who.id); own != r->own.end()) {
    at = own->second.who.at;
    look_first = look_first || (own->second.who.data == who.data &&
                                own->second.who.node == who.node && own->second.lease == *lease);
  }
  for (int n = 0; n < entry_attempts; ++n, look_first = true) {
    bool known = false;
    if (look_first) {
      const auto now = co_await look(r, who.id, at);
      if (now.has_error())
        co_return now.error();
      const auto &p = *now;
      known = p && p->what == nats_present::kind::in;
      if (known && p->who.node == who.node && p->who.data == who.data && p->lease == *lease) {
        r->own[who.id] = *p;
        co_return result<>();
      }
      wanted.place = known ? p->place : 0;
    }
    if (most != 0) {
      auto place = std::numeric_limits<std::uint64_t>::max();
      if (!known) {
        wanted.what = nats_present::kind::claim;
        const auto claimed = co_await streams.put(streams.presence(), where, wanted.str(), at);
        if (claimed.code == nats_code::wrong_last)
          continue;
        if (claimed.why.code())
          co_return claimed.why;
        at = place = wanted.place = claimed.sequence;
      }
      const auto others = co_await before(r, who.id, place);
      if (others.has_error() || *others >= most) {
        if (!known)
          put_out(where, gone(wanted, nats_present::kind::withdrawn), at);
        if (others.has_error())
          co_return others.error();
        co_return full();
      }
    }
    wanted.what = nats_present::kind::in;
    const auto put = co_await streams.put(streams.presence(), where, wanted.str(), at);
    if (put.code == nats_code::wrong_last)
      continue;
    if (put.why.code())
      co_return put.why;
    const auto stands = co_await core_.leases().stands(who.node, *lease);
    if (stands.has_error() || !*stands) {
      put_out(where, gone(wanted, nats_present::kind::out), put.sequence);
      if (stands.has_error())
        co_return stands.error();
      co_return failure(error::not_open, stage::none,
                        "the lease of the node " + who.node +
                            " has ended: renew it, and enter again");
    }
    wanted.who.at = put.sequence;
    r->own[who.id] = wanted;
    co_return result<>();
  }
  co_return entry_busy();
}

task<result<>> nats_presence::do_leave(shared_room r, std::string node, std::string id) {
  auto &streams = core_.streams();
  const auto where = subject(*r, id);
  std::uint64_t at = 0;
  if (const auto own = r->own.find(id); own != r->own.end() && own->second.who.node == node)
    at = own->second.who.at;
  for (int n = 0; n < entry_attempts; ++n, at = 0) {
    if (at == 0) {
      const auto now = co_await look(r, id, at);
      if (now.has_error())
        co_return now.error();
      if (!*now || (*now)->what != nats_present::kind::in || (*now)->who.node != node) {
        r->own.erase(id);
        co_return result<>();
      }
    }
    nats_present out;
    out.what = nats_present::kind::out;
    out.who.node = node;
    out.who.id = id;
    const auto put = co_await streams.put(streams.presence(), where, out.str(), at);
    if (put.code == nats_code::wrong_last)
      continue;
    if (put.why.code())
      co_return put.why;
    r->own.erase(id);
    streams.remove(streams.presence(), put.sequence);
    co_return result<>();
  }
  co_return entry_busy();
}

// Tells it, and leaves nothing behind.
void nats_presence::put_out(std::string where, nats_present p, std::uint64_t at) {
  core_.spawn([](nats_core &core, std::string to, std::string body, std::uint64_t last) -> task<> {
    auto &streams = core.streams();
    const auto put = co_await streams.put(streams.presence(), std::move(to), std::move(body), last);
    if (!put.why.code())
      streams.remove(streams.presence(), put.sequence);
  }(core_, std::move(where), p.str(), at));
}

task<result<>> nats_presence::sweep(std::string node, std::string but) {
  auto &streams = core_.streams();
  for (std::uint64_t from = 1;;) {
    const auto got = co_await streams.read(streams.presence(), core_.subject("p.*.*"), from);
    if (got.has_error())
      co_return got.error();
    std::vector<nats_core::one_request> all;
    for (const auto &e : got->all) {
      from = e.sequence + 1;
      const auto p = nats_present::parse(e.data, e.sequence);
      if (!p || p->who.node != node || p->lease == but)
        continue;
      if (p->what == nats_present::kind::out || p->what == nats_present::kind::withdrawn)
        continue;
      const auto out = gone(*p, p->what == nats_present::kind::in ? nats_present::kind::out
                                                                  : nats_present::kind::withdrawn);
      auto &one = all.emplace_back();
      one.subject = e.subject;
      one.body = out.str();
      one.headers.emplace_back("Nats-Expected-Last-Subject-Sequence", std::to_string(e.sequence));
    }
    const auto replies = co_await core_.ask_all(std::move(all));
    for (const auto &reply : replies) {
      const auto a = nats_streams::parse(reply);
      if (!a.why.code())
        streams.remove(streams.presence(), a.sequence);
      else if (a.code != nats_code::wrong_last)
        co_return a.why;
    }
    if (!got->more)
      co_return result<>();
  }
}

void nats_presence::changed(const std::string &name, const nats_event &e,
                            const std::function<void(const broker_change &)> &tell) {
  auto p = nats_present::parse(e.data, e.sequence);
  if (!p)
    core_.count_unreadable();
  if (!p || (p->what != nats_present::kind::in && p->what != nats_present::kind::out))
    return;
  broker_change c;
  c.room = name;
  c.present = p->what == nats_present::kind::in;
  c.who = std::move(p->who);
  c.at.epoch = core_.streams().presence().tag();
  c.at.offset = e.sequence;
  tell(c);
}

} // namespace chorus::detail
