#include "cluster_fleet.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>
#include <utility>

namespace cluster_demo {

namespace {

namespace asio = boost::asio;
using chorus::task;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

// After so long without a word a publisher goes on; what it hears later still counts.
constexpr auto patience = 4s;
constexpr double step = 1.25;

long long now_ns() { return steady_clock::now().time_since_epoch() / 1ns; }

outcome outcome_of(std::string_view word) noexcept {
  return word == "accepted"  ? outcome::accepted
         : word == "refused" ? outcome::refused
                             : outcome::unknown;
}

} // namespace

void delays::add(std::chrono::nanoseconds d) noexcept {
  const double us = std::max(1.0, static_cast<double>(d.count()) / 1000);
  const auto at = static_cast<std::size_t>(std::log(us) / std::log(step));
  counts_[std::min(at, steps - 1)].fetch_add(1, std::memory_order_relaxed);
}

void delays::begin() noexcept {
  for (auto &c : counts_)
    c = 0;
}

double delays::percentile(double part) const noexcept {
  std::uint64_t all = 0;
  for (const auto &c : counts_)
    all += c;
  const auto wanted = static_cast<std::uint64_t>(part * static_cast<double>(all));
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < steps; ++i)
    if ((below += counts_[i]) > wanted)
      return std::pow(step, static_cast<double>(i) + 0.5) / 1000;
  return 0;
}

fleet::fleet(chorus::runtime &rt, account &books, const std::vector<std::string> &nodes,
             std::size_t at_first, std::uint64_t seed, double per_second, fault wrong)
    : runtime_(rt), books_(books),
      pause_(static_cast<double>(books.publishers()) / std::max(per_second, 0.001)), wrong_(wrong),
      members_(books.clients()) {
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < members_.size(); ++i) {
    auto &m = members_[i];
    const bool publisher = i < books.publishers();
    const auto path = "/ws/room/r" + std::to_string(books.room_of(i)) + "?history=10000" +
                      (publisher ? "&confirm=1" : "");
    chorus::client_options options;
    // Its own node, then those that come later, then the rest: who has to go elsewhere is spread.
    const auto own = (i / books.rooms()) % at_first;
    options.urls.push_back(nodes[own] + path);
    for (auto n = at_first; n < nodes.size(); ++n)
      options.urls.push_back(nodes[n] + path);
    // By turns, so that the publishers of a node that goes are dealt to all that stay.
    const bool backwards = i % 2 == 1;
    for (std::size_t n = 1; n < at_first; ++n)
      options.urls.push_back(nodes[(own + (backwards ? at_first - n : n)) % at_first] + path);
    options.order = chorus::url_order::sticky;
    options.backoff = {.initial = 50ms, .factor = 1.6, .cap = 1s, .spread = chorus::jitter::full};
    options.proven_after = 500ms;
    options.resume = chorus::resume_mode::require;
    m.shard = static_cast<unsigned>(i % rt.size());
    options.shard = m.shard;
    options.on_recovery = [this, i](const chorus::recovery &r) {
      if (!r.recovered)
        books_.tell(i, r.why);
    };
    m.client = std::make_unique<chorus::client>(rt, std::move(options));
    if (publisher)
      m.answer = std::make_unique<asio::steady_timer>(rt.executor(m.shard));
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    ++running_;
    rt.spawn(listen(i), members_[i].shard);
    if (members_[i].answer) {
      ++running_;
      rt.spawn(talk(i, random()), members_[i].shard);
    }
  }
}

task<> fleet::listen(std::size_t i) {
  auto &me = members_[i];
  while (auto m = co_await me.client->receive_placed()) {
    if (m->room.empty())
      confirmed(i, m->content.text());
    else
      take(i, *m);
  }
  if (!closing_)
    books_.complain(i, "its client ended: " + me.client->last_failure().message());
  --running_;
}

void fleet::take(std::size_t i, const chorus::placed_message &m) {
  auto &me = members_[i];
  ++me.heard;
  // The fifth one gets lost, comes twice, or behind the sixth.
  const bool wrong = wrong_ == fault::drop || wrong_ == fault::twice || wrong_ == fault::swap;
  if (i == 0 && me.heard == 5 && wrong) {
    if (wrong_ == fault::drop)
      return;
    if (wrong_ == fault::swap) {
      me.held = m;
      return;
    }
    write_down(i, m);
  }
  write_down(i, m);
  if (i == 0 && me.heard == 6 && wrong_ == fault::swap)
    write_down(i, me.held);
}

void fleet::write_down(std::size_t i, const chorus::placed_message &m) {
  const auto text = m.content.text();
  const auto line = text.find('\n');
  message_id id;
  if (line == text.npos || !parse(text.substr(0, line), id)) {
    books_.complain(i, "got what nobody sent: " + std::string(text.substr(0, 40)));
    return;
  }
  long long sent = 0;
  std::from_chars(text.data() + line + 1, text.data() + text.size(), sent);
  latencies_.add(std::chrono::nanoseconds(now_ns() - sent));
  books_.receive(i, m.epoch, m.offset, id);
}

// {"ref":"p12-345","outcome":"accepted"}
void fleet::confirmed(std::size_t i, std::string_view text) {
  boost::json::error_code ec;
  const auto parsed = boost::json::parse(boost::json::string_view(text.data(), text.size()), ec);
  const auto *o = parsed.if_object();
  const auto *ref = o ? o->if_contains("ref") : nullptr;
  const auto *what = o ? o->if_contains("outcome") : nullptr;
  message_id id;
  if (ec || !ref || !ref->is_string() || !what || !what->is_string() ||
      !parse(std::string_view(ref->get_string()), id) || id.publisher != i) {
    books_.complain(i, "got no confirmation, but " + std::string(text.substr(0, 60)));
    return;
  }
  books_.settle(id, outcome_of(std::string_view(what->get_string())));
  auto &me = members_[i];
  if (id == me.asked) {
    me.answered = true;
    me.answer->cancel();
  }
}

task<> fleet::talk(std::size_t i, std::uint64_t seed) {
  auto &me = members_[i];
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> spread(0.5 * pause_, 1.5 * pause_);
  auto next = steady_clock::now();
  while (!closing_) {
    if (const auto left = next - steady_clock::now(); left > 0ns) {
      co_await chorus::sleep(std::min<steady_clock::duration>(left, 200ms));
      continue;
    }
    next = steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(
                                     std::chrono::duration<double>(spread(random)));
    if (!publishing_)
      continue;
    me.asked = books_.publish(i);
    me.answered = false;
    ++waiting_;
    me.answer->expires_after(patience);
    auto text = to_string(me.asked) + "\n" + std::to_string(now_ns());
    const auto sent = co_await me.client->send(std::move(text));
    if (sent.has_value() && !me.answered) {
      const auto ended = co_await me.answer->async_wait(asio::as_tuple(asio::use_awaitable));
      static_cast<void>(ended);
    }
    --waiting_;
  }
  --running_;
}

task<> fleet::close_one(std::size_t i) {
  co_await members_[i].client->close();
  if (members_[i].answer)
    members_[i].answer->cancel();
  --running_;
}

task<> fleet::close() {
  publishing_ = false;
  closing_ = true;
  running_ += members_.size();
  for (std::size_t i = 0; i < members_.size(); ++i)
    runtime_.spawn(close_one(i), members_[i].shard);
  while (running_ != 0)
    co_await chorus::sleep(20ms);
}

std::size_t fleet::connected() const {
  return static_cast<std::size_t>(
      std::count_if(members_.begin(), members_.end(),
                    [](const auto &m) { return m.client->state() == chorus::client_state::open; }));
}

fleet::presence fleet::at(const std::string &address) const {
  presence all;
  for (const auto &m : members_)
    if (m.client->state() == chorus::client_state::open &&
        m.client->current().remote_address() == address) {
      ++all.clients;
      all.publishers += m.answer != nullptr;
    }
  return all;
}

chorus::client_stats fleet::totals() const {
  chorus::client_stats all;
  for (const auto &m : members_) {
    const auto one = m.client->stats();
    all.reconnects += one.reconnects;
    all.rooms_recovered += one.rooms_recovered;
    all.rooms_lost += one.rooms_lost;
    all.messages_recovered += one.messages_recovered;
    all.messages_doubled += one.messages_doubled;
  }
  return all;
}

} // namespace cluster_demo
