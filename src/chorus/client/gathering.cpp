#include <chorus/client/gathering.hpp>

#include <chorus/async/parked.hpp>
#include <chorus/base/text.hpp>
#include <chorus/session/bounds.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;

gathering::gathering(std::shared_ptr<shard> home, std::size_t count, std::size_t at_a_time,
                     std::function<task<result<>>(std::size_t)> make)
    : home_(std::move(home)), at_a_time_(at_a_time), make_(std::move(make)), slots_(count) {}

task<result<std::vector<result<>>>> gathering::all(std::shared_ptr<gathering> self,
                                                   std::chrono::milliseconds deadline) {
  struct alarm : timer {
    alarm(gathering &g, std::chrono::milliseconds time) noexcept
        : timer([](timer &t) noexcept {
            const auto &due = static_cast<alarm &>(t);
            due.owner.give_up_all(
                failure(error::timed_out, stage::none, "not done within " + in_ms(due.limit)));
          }),
          owner(g), limit(time) {}
    gathering &owner;
    std::chrono::milliseconds limit;
  };
  auto &g = *self;
  alarm over(g, deadline);
  if (deadline.count() > 0)
    g.home_->start_after(over, std::min(deadline, longest_time));
  const auto cancellation = co_await asio::this_coro::cancellation_state;
  scoped_waiter w(g.mutex_, co_await asio::this_coro::executor);
  g.start_more();
  for (;;) {
    {
      std::lock_guard held(g.mutex_);
      if (g.settled_ == g.slots_.size())
        break;
      g.finished_.add(w);
    }
    co_await w.wait();
    if (cancellation.cancelled() != asio::cancellation_type::none) {
      over.cancel();
      g.give_up_all(error::cancelled);
      co_await was_cancelled();
      co_return failure(error::cancelled);
    }
  }
  std::vector<result<>> outcomes;
  outcomes.reserve(g.slots_.size());
  for (const auto &s : g.slots_)
    outcomes.push_back(*s.outcome);
  co_return outcomes;
}

void gathering::start_more() {
  while (running_ < at_a_time_ && next_ < slots_.size())
    if (const auto number = next_++; !slots_[number].outcome)
      start(number);
}

void gathering::start(std::size_t number) {
  auto &s = slots_[number];
  s.running = true;
  ++running_;
  auto done = [self = shared_from_this(), &s](const std::exception_ptr &e, result<> outcome) {
    s.running = false;
    --self->running_;
    if (e && !s.given_up)
      std::rethrow_exception(e);
    self->settle(s, e ? result<>(*s.given_up) : std::move(outcome));
    self->start_more();
  };
  asio::co_spawn(home_->executor(), make_(number),
                 asio::bind_cancellation_slot(s.stop.slot(), std::move(done)));
}

void gathering::settle(slot &s, result<> outcome) {
  s.outcome = std::move(outcome);
  if (++settled_ != slots_.size())
    return;
  std::lock_guard held(mutex_);
  finished_.wake_all();
}

void gathering::give_up(std::size_t number, const failure &why) {
  auto &s = slots_[number];
  if (s.outcome || s.given_up)
    return;
  s.given_up = why;
  // One that runs may yet have an outcome of its own.
  if (s.running)
    s.stop.emit(asio::cancellation_type::terminal);
  else
    settle(s, why);
}

void gathering::attempt_failed(std::size_t number, unsigned limit, const failure &why) {
  auto &s = slots_[number];
  if (s.running && ++s.failed == limit)
    give_up(number, why);
}

void gathering::give_up_all(const failure &why) {
  for (std::size_t i = 0; i < slots_.size(); ++i)
    give_up(i, why);
}

} // namespace chorus::detail
