#include "demo_fleet.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <random>

namespace demo {

using chorus::task;
using namespace std::chrono_literals;

namespace {

long long now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / 1ns; }

double pick(std::vector<float> values, double part) {
  if (values.empty())
    return 0;
  const auto at = std::min(values.size() - 1,
                           static_cast<std::size_t>(part * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return static_cast<double>(values[at]);
}

} // namespace

void samples::add(std::chrono::nanoseconds d) {
  std::lock_guard lock(mutex_);
  all_.push_back(std::chrono::duration<float, std::milli>(d).count());
}

double samples::percentile(double part) {
  std::lock_guard lock(mutex_);
  return pick(all_, part);
}

double samples::recent(double part) {
  std::lock_guard lock(mutex_);
  std::vector<float> fresh(all_.begin() + static_cast<std::ptrdiff_t>(seen_), all_.end());
  seen_ = all_.size();
  return pick(std::move(fresh), part);
}

std::size_t samples::size() {
  std::lock_guard lock(mutex_);
  return all_.size();
}

chorus::message make_news(std::uint64_t number, bool last) {
  char text[64];
  const int size =
      std::snprintf(text, sizeof text, "%llu %lld %s", static_cast<unsigned long long>(number),
                    now_ns(), last ? "last" : "more");
  return chorus::text({text, static_cast<std::size_t>(size)});
}

fleet::fleet(chorus::runtime &rt, ledger &book, std::uint16_t port, std::uint64_t seed)
    : runtime_(rt), book_(book) {
  std::mt19937_64 random(seed);
  const auto base = "ws://127.0.0.1:" + std::to_string(port) + "/live/news?id=";
  for (std::size_t i = 0; i < book.clients(); ++i) {
    chorus::client_options options;
    options.urls = {base + std::to_string(i)};
    options.backoff = {.initial = 100ms, .factor = 1.6, .cap = 1s, .spread = chorus::jitter::full};
    options.proven_after = 500ms;
    options.shard = static_cast<unsigned>(i % rt.size());
    clients_.push_back(std::make_unique<chorus::client>(rt, std::move(options)));
    running_ += 2;
    rt.spawn(listen(i), static_cast<unsigned>(i % rt.size()));
    rt.spawn(talk(i, random()), static_cast<unsigned>(i % rt.size()));
  }
}

task<> fleet::listen(std::size_t i) {
  while (const auto m = co_await clients_[i]->receive()) {
    std::uint64_t number = 0;
    long long time = 0;
    const auto text = m->text();
    const char *end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, number);
    if (first.ptr == end)
      continue; // no news; the accounts will miss it
    std::from_chars(first.ptr + 1, end, time);
    book_.receive(i, number);
    latencies_.add(std::chrono::nanoseconds(now_ns() - time));
    if (text.ends_with("last"))
      ++finished_;
  }
  --running_;
}

// A numbered message to the server and a ping about once a second. While there is no connection the
// message waits in the client's outbox.
task<> fleet::talk(std::size_t i, std::uint64_t seed) {
  std::minstd_rand random(static_cast<std::uint_fast32_t>(seed));
  auto &client = *clients_[i];
  std::uint64_t number = 0;
  while (talking_) {
    co_await chorus::sleep(std::chrono::milliseconds(500 + random() % 1000));
    if (!talking_)
      break;
    if (co_await client.send(std::to_string(++number)))
      book_.accepted(i);
    if (const auto trip = co_await client.current().ping(2s))
      round_trips_.add(*trip);
  }
  --running_;
}

task<> fleet::close_one(std::size_t i) {
  co_await clients_[i]->close();
  book_.closed(i, clients_[i]->stats());
  --running_;
}

task<> fleet::close() {
  running_ += clients_.size();
  for (std::size_t i = 0; i < clients_.size(); ++i)
    runtime_.spawn(close_one(i), static_cast<unsigned>(i % runtime_.size()));
  while (running_ != 0)
    co_await chorus::sleep(20ms);
}

std::size_t fleet::connected() const {
  return static_cast<std::size_t>(
      std::count_if(clients_.begin(), clients_.end(),
                    [](const auto &c) { return c->state() == chorus::client_state::open; }));
}

std::uint64_t fleet::reconnects() const {
  std::uint64_t sum = 0;
  for (const auto &c : clients_)
    sum += c->stats().reconnects;
  return sum;
}

} // namespace demo
