#include <chorus/cluster/nats_leases.hpp>

#include <chorus/cluster/nats_presence.hpp>
#include <chorus/server/history.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace chorus::detail {

namespace {

constexpr int lease_attempts = 16;
constexpr std::chrono::milliseconds lease_wait{500};

failure lease_busy() {
  return failure(error::timed_out, stage::none, "the node's lease is changed all the time");
}

} // namespace

std::string nats_leases::lease::str() const {
  return std::string(ending ? "ending " : "alive ") + number + " " + std::to_string(alive.count()) +
         "\n" + node;
}

void nats_leases::learn(const std::string &token, std::string_view body, std::uint64_t at) {
  const auto line = body.substr(0, body.find('\n'));
  const auto parts = split(line, ' ');
  if (parts.size() != 3)
    return;
  auto &l = all_[token];
  if (l.at >= at)
    return;
  if (l.number != parts[1])
    l.sure_until = {};
  l.node = body.substr(std::min(line.size() + 1, body.size()));
  l.number = parts[1];
  l.at = at;
  l.alive = std::chrono::milliseconds(to_number(parts[2]));
  l.ending = parts[0] == "ending";
  l.claiming = false;
  l.until = nats_core::clock::now() +
            (l.ending ? std::max(l.alive, 2 * core_.options().answer_timeout) : l.alive);
  core_.look_at(l.until);
}

void nats_leases::changed(std::string_view token, const nats_event &e) {
  learn(std::string(token), e.data, e.sequence);
}

task<result<>> nats_leases::look(std::string token) {
  const auto now = co_await core_.streams().last(core_.streams().leases(), subject(token));
  if (now.has_error())
    co_return now.error();
  if (now->sequence == 0)
    all_.erase(token);
  else
    learn(token, now->data, now->sequence);
  co_return result<>();
}

task<result<>> nats_leases::restore() {
  auto &streams = core_.streams();
  auto before = std::exchange(all_, {});
  for (std::uint64_t from = 1;;) {
    const auto got = co_await streams.read(streams.leases(), core_.subject("l.*"), from);
    if (got.has_error()) {
      all_.merge(before); // those that are not known anew
      for (const auto &[token, l] : all_)
        core_.look_at(l.until);
      co_return got.error();
    }
    for (const auto &e : got->all) {
      const std::string token(split(e.subject, '.').back());
      learn(token, e.data, e.sequence);
      from = e.sequence + 1;
      if (const auto old = before.find(token); old != before.end())
        if (auto &now = all_[token]; now.number == old->second.number)
          now.sure_until = old->second.sure_until;
    }
    if (!got->more)
      co_return result<>();
  }
}

task<> nats_leases::read_again() {
  while (std::exchange(missed_, false)) {
    const auto r = co_await restore();
    if (r.has_error() && core_.ready()) { // the next connection reads them anyway
      missed_ = true;
      co_await core_.pause(lease_wait);
    }
  }
  reading_again_ = false;
}

void nats_leases::missed() {
  missed_ = true;
  if (!std::exchange(reading_again_, true))
    core_.spawn(read_again());
}

task<result<std::string>> nats_leases::number_of(std::string node) {
  const auto token = nats_token(node);
  if (!all_.contains(token)) {
    const auto r = co_await look(token);
    if (r.has_error())
      co_return r.error();
  }
  const auto found = all_.find(token);
  if (found == all_.end() || found->second.ending)
    co_return std::string();
  co_return found->second.number;
}

bool nats_leases::sure(const std::string &node, const std::string &number) const {
  const auto found = all_.find(nats_token(node));
  return found != all_.end() && !found->second.ending && found->second.number == number &&
         nats_core::clock::now() < found->second.sure_until;
}

task<result<bool>> nats_leases::stands(std::string node, std::string number) {
  if (sure(node, number))
    co_return true;
  const auto token = nats_token(node);
  const auto r = co_await look(token);
  if (r.has_error())
    co_return r.error();
  const auto found = all_.find(token);
  co_return found != all_.end() && !found->second.ending && found->second.number == number;
}

void nats_leases::renew(std::string node, std::chrono::milliseconds alive,
                        nats_answer<bool> answer) {
  auto token = nats_token(node);
  auto &turns = turns_[token];
  turns.push_back([this, node = std::move(node), alive, answer] {
    return [](nats_leases &self, std::string who, std::chrono::milliseconds time,
              nats_answer<bool> to) -> task<> {
      auto t = time.count() > 0 ? self.prolong(std::move(who), time) : self.end(std::move(who));
      auto outcome = co_await std::move(t);
      to(std::move(outcome));
    }(*this, node, alive, answer);
  });
  if (turns.size() == 1)
    core_.spawn(next(std::move(token)));
}

task<> nats_leases::next(std::string token) {
  for (;;) {
    auto &turns = turns_[token];
    if (turns.empty())
      break;
    auto t = turns.front()();
    co_await std::move(t);
    turns_[token].pop_front();
  }
  turns_.erase(token);
}

task<result<bool>> nats_leases::prolong(std::string node, std::chrono::milliseconds alive) {
  const auto token = nats_token(node);
  for (int n = 0; n < lease_attempts; ++n) {
    const auto known = all_.find(token);
    lease l = known == all_.end() ? lease() : known->second;
    const bool had = known != all_.end() && !l.ending;
    const bool old = l.ending;
    const auto before = l.at;
    l.node = node;
    l.alive = alive;
    l.ending = false;
    if (!had)
      l.number = random_epoch();
    const auto began = nats_core::clock::now();
    const auto put =
        co_await core_.streams().put(core_.streams().leases(), subject(token), l.str(), before);
    if (put.code == nats_code::wrong_last) {
      const auto r = co_await look(token);
      if (r.has_error())
        co_return r.error();
      continue;
    }
    if (put.why.code())
      co_return put.why;
    learn(token, l.str(), put.sequence);
    if (auto &now = all_[token]; now.at == put.sequence)
      now.sure_until = began + alive;
    if (old) { // who began to take out the others may have stopped
      auto t = core_.presence().sweep(node, l.number);
      const auto swept = co_await std::move(t);
      if (swept.has_error())
        co_return swept.error();
    }
    co_return had;
  }
  co_return lease_busy();
}

task<result<bool>> nats_leases::end(std::string node) {
  const auto token = nats_token(node);
  for (int n = 0; n < lease_attempts; ++n) {
    const auto r = co_await look(token);
    if (r.has_error())
      co_return r.error();
    const auto found = all_.find(token);
    if (found == all_.end())
      co_return false;
    found->second.sure_until = {};
    const bool had = !found->second.ending;
    auto l = found->second;
    const auto done = co_await clear(token, std::move(l));
    if (done.has_error())
      co_return done.error();
    if (*done)
      co_return had;
  }
  co_return lease_busy();
}

// Whether it is this engine that has ended it.
task<result<bool>> nats_leases::clear(std::string token, lease l) {
  auto &streams = core_.streams();
  l.ending = true;
  const auto put = co_await streams.put(streams.leases(), subject(token), l.str(), l.at);
  if (put.code == nats_code::wrong_last)
    co_return false;
  if (put.why.code())
    co_return put.why;
  learn(token, l.str(), put.sequence);
  if (const auto mine = all_.find(token); mine != all_.end())
    mine->second.claiming = true;
  auto t = core_.presence().sweep(l.node, {});
  const auto swept = co_await std::move(t);
  if (const auto mine = all_.find(token); mine != all_.end() && mine->second.at == put.sequence) {
    mine->second.claiming = false; // and again when its time is over, if that failed
    if (!swept.has_error())
      all_.erase(mine);
  }
  if (swept.has_error())
    co_return swept.error();
  streams.remove(streams.leases(), put.sequence);
  co_return true;
}

task<> nats_leases::claim(std::string token) {
  const auto found = all_.find(token);
  if (found == all_.end())
    co_return;
  auto l = found->second;
  const auto at = l.at;
  const auto done = co_await clear(token, std::move(l));
  if (done.has_value() && !*done)
    co_await look(token);
  if (const auto now = all_.find(token); now != all_.end() && now->second.at == at) {
    now->second.claiming = false;
    now->second.until = nats_core::clock::now() + lease_wait;
    core_.look_at(now->second.until);
  }
}

void nats_leases::expire(nats_core::clock::time_point now) {
  if (!core_.ready())
    return;
  for (auto &[token, l] : all_) {
    if (l.claiming)
      continue;
    if (l.until <= now) {
      l.claiming = true;
      core_.spawn(claim(token));
    } else {
      core_.look_at(l.until);
    }
  }
}

} // namespace chorus::detail
