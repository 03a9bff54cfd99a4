#include "fleet.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace cli {

using chorus::task;
using namespace std::chrono_literals;

fleet::fleet(chorus::runtime &rt, const bench_settings &settings, std::string url)
    : runtime_(rt), settings_(settings), url_(std::move(url)), tls_(settings.tls) {
  if (settings.insecure)
    tls_.verify = chorus::tls_verify::insecure_accept_any_certificate;
  for (unsigned i = 0; i < rt.size(); ++i) {
    lanes_.push_back(std::make_unique<lane>());
    lanes_.back()->index = i;
  }
}

task<> fleet::dial_some(lane &l) {
  chorus::connect_options options;
  options.tls = &tls_;
  std::vector<chorus::header> headers;
  for (const auto &[name, value] : settings_.headers)
    headers.push_back({name, value});
  options.headers = headers;
  apply(settings_.reach, options);
  options.session.compression.enabled = settings_.compression;
  options.session.compression.threshold = 0;
  // All that one connection has outstanding fits, at this end as at the server's.
  options.session.queue_bytes =
      std::max(options.session.queue_bytes, 2 * settings_.in_flight * (settings_.size + 16));
  options.session.inbox_bytes = std::max(options.session.inbox_bytes, 2 * settings_.size);
  options.session.max_message = std::max(options.session.max_message, settings_.size);
  while (errors() == 0 && !interrupted()) {
    const auto mine = next_.fetch_add(1, std::memory_order_relaxed);
    if (mine >= settings_.connections)
      break;
    auto s = co_await chorus::connect(url_, options);
    if (!s) {
      report(s.error());
      break;
    }
    l.sessions.push_back(std::move(*s));
    open_.fetch_add(1, std::memory_order_relaxed);
  }
  --dialling_;
}

task<> fleet::dial() {
  constexpr unsigned at_a_time = 64;
  const auto each = std::max(1U, at_a_time / runtime_.size());
  dialling_ = each * runtime_.size();
  for (auto &l : lanes_)
    for (unsigned i = 0; i < each; ++i)
      runtime_.spawn(dial_some(*l), l->index);
  live_line line;
  while (dialling_ != 0) {
    line.show("connected " + std::to_string(open()) + " of " +
              std::to_string(settings_.connections));
    co_await chorus::sleep(20ms);
  }
}

task<> fleet::drain() {
  constexpr auto patience = 5s;
  auto seen = messages();
  auto seen_at = std::chrono::steady_clock::now();
  while (unanswered() != 0 && errors() == 0 && running() != 0) {
    co_await chorus::sleep(5ms);
    const auto now = std::chrono::steady_clock::now();
    if (const auto have = messages(); have != seen) {
      seen = have;
      seen_at = now;
    } else if (now - seen_at >= patience) {
      break;
    }
  }
}

task<> fleet::close() {
  for (auto &l : lanes_)
    runtime_.spawn(
        [](lane &mine) -> task<> {
          for (auto &s : mine.sessions)
            s.start_close();
          co_return;
        }(*l),
        l->index);
  for (int i = 0; i < 100 && running() != 0; ++i)
    co_await chorus::sleep(20ms);
}

std::uint64_t fleet::messages() const noexcept {
  std::uint64_t sum = 0;
  for (const auto &l : lanes_)
    sum += l->messages.load(std::memory_order_relaxed);
  return sum;
}

std::uint64_t fleet::bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto &l : lanes_)
    sum += l->bytes.load(std::memory_order_relaxed);
  return sum;
}

std::uint64_t fleet::unanswered() const noexcept {
  std::uint64_t expected = 0;
  for (const auto &l : lanes_)
    expected += l->expected.load(std::memory_order_relaxed);
  const auto got = messages();
  return expected > got ? expected - got : 0;
}

chorus::failure fleet::first_failure() const {
  std::lock_guard lock(mutex_);
  return first_;
}

void fleet::report(const chorus::failure &f) {
  std::lock_guard lock(mutex_);
  if (errors_.fetch_add(1, std::memory_order_relaxed) == 0)
    first_ = f;
}

void fleet::ended(const chorus::failure &f) {
  if (sending())
    report(f);
  --running_;
}

std::uint64_t now_ns() noexcept {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

// Filler that a compressor neither folds to nothing nor fails on: words from a small generator.
load_message::load_message(std::size_t size) : bytes_(size) {
  std::uint32_t state = 12345;
  for (auto &b : bytes_) {
    state = state * 1664525 + 1013904223;
    b = static_cast<char>('a' + (state >> 28));
  }
}

chorus::message load_message::make(std::uint64_t time, std::uint64_t number) {
  if (bytes_.size() >= stamped_size) {
    std::memcpy(bytes_.data(), &time, 8);
    std::memcpy(bytes_.data() + 8, &number, 8);
  }
  return chorus::message(chorus::message_kind::binary, bytes_.data(), bytes_.size());
}

std::uint64_t load_message::time_of(const chorus::message_view &m) noexcept {
  std::uint64_t time = 0;
  std::memcpy(&time, m.bytes().data(), 8);
  return time;
}

std::uint64_t load_message::number_of(const chorus::message_view &m) noexcept {
  std::uint64_t number = 0;
  std::memcpy(&number, m.bytes().data() + 8, 8);
  return number;
}

live_line::live_line() : terminal_(::isatty(STDERR_FILENO) == 1) {}

live_line::~live_line() {
  if (shown_)
    std::fputs("\r\x1b[K", stderr);
}

void live_line::show(const std::string &text) {
  if (!terminal_)
    return;
  shown_ = true;
  std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
  std::fflush(stderr);
}

} // namespace cli
