#pragma once
// The bench's connections, spread over lanes: one lane per thread of the runtime. What is in a lane
// belongs to its thread, but for the counters, which anybody may read.

#include "bench.hpp"
#include "histogram.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace cli {

enum class phase : int { dialling, warming, measuring, ending };

struct lane {
  unsigned index = 0;
  std::vector<chorus::session> sessions;
  histogram latency; // read by others in the `ending` phase, when nothing is added any more
  std::atomic<std::uint64_t> messages{0}; // received; written by the lane's thread only
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> expected{0}; // messages that what was sent brings back, in any lane
  void expect(std::uint64_t more) noexcept {
    expected.store(expected.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  void count(std::uint64_t messages_more, std::uint64_t bytes_more) noexcept {
    messages.store(messages.load(std::memory_order_relaxed) + messages_more,
                   std::memory_order_relaxed);
    bytes.store(bytes.load(std::memory_order_relaxed) + bytes_more, std::memory_order_relaxed);
  }
};

class fleet {
public:
  fleet(chorus::runtime &rt, const bench_settings &settings, std::string url);

  // Opens all connections, a bounded number at a time; completes when all are open, the first has
  // failed (`errors()`), or after an interruption those begun are open.
  chorus::task<> dial();
  // In `ending`: completes when all that was sent has come back, when a connection failed, or when
  // nothing came back for five seconds; then `unanswered` is what is missing.
  chorus::task<> drain();
  // Closes all sessions; completes when they are closed, or after two seconds.
  chorus::task<> close();

  chorus::runtime &runtime() noexcept { return runtime_; }
  const bench_settings &settings() const noexcept { return settings_; }
  std::vector<std::unique_ptr<lane>> &lanes() noexcept { return lanes_; }

  phase now() const noexcept { return phase_.load(std::memory_order_relaxed); }
  void enter(phase p) noexcept { phase_.store(p, std::memory_order_relaxed); }
  bool sending() const noexcept { return now() < phase::ending; }
  bool measuring() const noexcept { return now() == phase::measuring; }

  std::uint64_t messages() const noexcept;
  std::uint64_t bytes() const noexcept;
  std::uint64_t unanswered() const noexcept;
  // Set from the outside: the run is to end early.
  void interrupt() noexcept { interrupted_.store(true, std::memory_order_relaxed); }
  bool interrupted() const noexcept { return interrupted_.load(std::memory_order_relaxed); }
  std::size_t open() const noexcept { return open_.load(std::memory_order_relaxed); }
  std::uint64_t errors() const noexcept { return errors_.load(std::memory_order_relaxed); }
  // The first failure, whichever thread met it.
  chorus::failure first_failure() const;
  void report(const chorus::failure &f);
  // A load coroutine of a session has begun, or ended with how the session ended.
  void begun() noexcept { ++running_; }
  void ended(const chorus::failure &f);
  std::size_t running() const noexcept { return running_; }

private:
  chorus::task<> dial_some(lane &l);

  chorus::runtime &runtime_;
  const bench_settings &settings_;
  std::string url_;
  chorus::tls_options tls_;
  std::vector<std::unique_ptr<lane>> lanes_;
  std::atomic<phase> phase_{phase::dialling};
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> open_{0};
  std::atomic<unsigned> dialling_{0};
  std::atomic<std::size_t> running_{0};
  std::atomic<std::uint64_t> errors_{0};
  std::atomic<bool> interrupted_{false};
  mutable std::mutex mutex_;
  chorus::failure first_;
};

std::uint64_t now_ns() noexcept;

// A message of the load: a time and a number in front when it is large enough, filler behind.
class load_message {
public:
  explicit load_message(std::size_t size);
  chorus::message make(std::uint64_t time, std::uint64_t number);
  static std::uint64_t time_of(const chorus::message_view &m) noexcept;
  static std::uint64_t number_of(const chorus::message_view &m) noexcept;

private:
  std::vector<char> bytes_;
};

// A line that rewrites itself on a terminal, and nothing elsewhere.
class live_line {
public:
  live_line();
  ~live_line();
  void show(const std::string &text);

private:
  bool terminal_;
  bool shown_ = false;
};

// The loads; each is started once all connections are open and goes on until `ending`.
chorus::task<> start_echo(fleet &all);
chorus::task<> start_broadcast(fleet &all);
chorus::task<> start_idle(fleet &all);

} // namespace cli
