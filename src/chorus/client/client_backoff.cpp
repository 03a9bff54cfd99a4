// Between two connections: how long, and what cuts it short.

#include <chorus/client/client_core.hpp>

#include <chorus/base/text.hpp>
#include <chorus/client/retry_hint.hpp>
#include <chorus/session/session_core.hpp>

#include <boost/asio/co_spawn.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;

// What the server asked for, or the policy's own. Fails when the policy says that this is the end.
result<duration> client_core::delay_after(const failure &why, bool connected) noexcept {
  using std::chrono::milliseconds;
  const auto &own_policy = options_.reconnect.own();
  auto asked = retry_hint(why);
  if (options_.max_retry_after <= milliseconds::zero())
    asked.reset();
  if (asked)
    asked = std::min(*asked, options_.max_retry_after);
  const auto spread = options_.reconnect.delays().value_or(options_.backoff).spread;
  const auto own = backoff_.next(random());
  if (own_policy) {
    try {
      const reconnect_question question{backoff_.attempts(), connected, why, asked, random()};
      const auto answer = own_policy(question);
      if (!answer)
        return why;
      return std::clamp<milliseconds>(*answer, milliseconds::zero(), std::chrono::hours(24 * 366));
    } catch (...) {
      return handler_threw("reconnect", std::current_exception());
    }
  }
  if (!asked)
    return own;
  constexpr milliseconds worth_trusting{1000};
  auto delay = *asked;
  if (spread != jitter::none) {
    const auto most = static_cast<std::uint64_t>(std::min(delay / 10, worth_trusting).count());
    delay += milliseconds(static_cast<std::int64_t>(random() % (most + 1)));
  }
  // A server that says "at once" again and again must not keep the client spinning.
  return delay < worth_trusting && backoff_.attempts() > 1 ? std::max(delay, own) : delay;
}

// Until the delay is over, `reconnect_now` or the end; and until what has arrived before was taken,
// at least in part, so that connections that come and go don't fill the memory.
task<> client_core::back_off(duration delay) {
  struct end_of_wait : timer {
    explicit end_of_wait(client_core &c) noexcept
        : timer([](timer &t) noexcept {
            auto &core = static_cast<end_of_wait &>(t).owner;
            std::lock_guard held(core.mutex_);
            core.waited_ = true;
            core.supervisor_.wake_all();
          }),
          owner(c) {}
    client_core &owner;
  };
  {
    lock held(mutex_);
    waited_ = std::exchange(no_wait_, false);
  }
  end_of_wait over(*this);
  home_->start_after(over, delay);
  auto elapsed = until(supervisor_, [this] { return closing_ || waited_ || hurry_; });
  co_await std::move(elapsed);
  auto room = until(supervisor_, [this] {
    return closing_ || inbox_.empty() ||
           (inbox_.size() < options_.session.inbox_messages &&
            inbox_bytes_ < options_.session.inbox_bytes);
  });
  co_await std::move(room);
}

void client_core::reconnect_now() {
  bool open = false;
  {
    lock held(mutex_);
    hurry_ = true;
    open = ready_;
    supervisor_.wake_all();
  }
  if (open)
    home_->post([self = shared_from_this()] { self->check_connection(); });
}

void client_core::check_connection() {
  {
    lock held(mutex_);
    if (!ready_ || closing_ || checking_)
      return;
  }
  if (!session_.core()->websocket())
    return;
  checking_ = true;
  asio::co_spawn(home_->executor(), check(shared_from_this(), session_),
                 [](const std::exception_ptr &e) {
                   if (e)
                     std::rethrow_exception(e);
                 });
}

task<> client_core::check(std::shared_ptr<client_core> self, session s) {
  auto &core = *self;
  auto asking = s.ping(core.options_.check_timeout);
  const auto answer = co_await std::move(asking);
  core.checking_ = false;
  if (answer || answer.error() != error::timed_out)
    co_return;
  {
    lock held(core.mutex_);
    if (core.session_ != s || core.closing_)
      co_return;
    core.no_wait_ = true;
  }
  s.core()->abort(failure(error::timed_out, stage::open,
                          "no answer to a ping within check_timeout, " +
                              in_ms(core.options_.check_timeout) + ", after reconnect_now"));
}

} // namespace chorus::detail
