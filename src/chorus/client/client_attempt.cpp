// One attempt: which URL, the connection to it, and who the client says it is.

#include <chorus/base/text.hpp>
#include <chorus/client/client_core.hpp>

#include <chorus/session/session_core.hpp>
#include <chorus/transport/tls.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace chorus::detail {

namespace asio = boost::asio;

// Reading the system's certificates costs more than all the rest of an attempt.
result<> client_core::prepare_tls(connect_plan &plan) {
  if (!plan.where.is_secure() || plan.dial.ready_context || options_.reread_tls_files)
    return {};
  if (!tls_context_) {
    auto made = transport::make_client_context(options_.tls);
    if (!made)
      return made.error();
    tls_context_ = *std::move(made);
    tls_context_->remember_sessions();
  }
  plan.dial.ready_context = tls_context_;
  return {};
}

void client_core::shuffle() noexcept {
  for (std::size_t left = plans_.size(); left > 1; --left)
    std::swap(plans_[left - 1], plans_[static_cast<std::size_t>(random() % left)]);
}

void client_core::choose_next() noexcept {
  next_url_ = (next_url_ + 1) % plans_.size();
  if (next_url_ == 0 && options_.order == url_order::shuffled)
    shuffle();
}

// After a connection that had proven itself.
void client_core::choose_again() noexcept {
  if (options_.order == url_order::sticky)
    return;
  next_url_ = 0;
  if (options_.order == url_order::shuffled)
    shuffle();
}

task<result<session>> client_core::open(std::shared_ptr<client_core> self,
                                        std::shared_ptr<const connect_plan> plan) {
  if (self->options_.fresh_headers && plan->where.is_websocket()) {
    auto asking = self->options_.fresh_headers();
    const auto headers = co_await std::move(asking);
    if (!headers)
      co_return headers.error();
    auto changed = with_headers(*plan, *headers);
    if (!changed)
      co_return changed.error();
    plan = *std::move(changed);
  }
  auto opening = open_session(self->home_, std::move(plan));
  auto opened = co_await std::move(opening);
  if (!opened || !self->options_.authenticate)
    co_return opened;
  // Cancelled when it was open already: nothing could be awaited any more.
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) {
    opened->abort();
    co_return failure(error::aborted);
  }
  auto proving = authenticate(self, *opened);
  co_return co_await std::move(proving);
}

// In a coroutine of its own, so that it can be cancelled alone.
task<result<session>> client_core::attempt(std::shared_ptr<connect_plan> plan) {
  if (auto prepared = prepare_tls(*plan); !prepared)
    co_return prepared.error();
  attempting_ = true;
  auto opening = open(shared_from_this(), std::move(plan));
  auto [failed, opened] = co_await asio::co_spawn(
      home_->executor(), std::move(opening),
      asio::bind_cancellation_slot(cancel_attempt_.slot(), asio::as_tuple(asio::use_awaitable)));
  attempting_ = false;
  if (tls_context_) {
    lock held(mutex_);
    stats_.tls_resumed = tls_context_->resumed();
  }
  if (failed) {
    if (!stopping())
      std::rethrow_exception(failed);
    co_return failure(error::aborted);
  }
  co_return opened;
}

// In the coroutine of the attempt, so that what ends the attempt ends this, too.
task<result<session>> client_core::authenticate(std::shared_ptr<client_core> self, session s) {
  struct limit final : timer {
    limit(client_core &c, session which) noexcept
        : timer([](timer &t) noexcept {
            auto &late = static_cast<limit &>(t);
            late.passed = true;
            late.owner.cancel_attempt_.emit(asio::cancellation_type::terminal);
          }),
          owner(c), opened(std::move(which)) {}
    ~limit() {
      if (!kept)
        opened.abort();
    }
    client_core &owner;
    session opened;
    bool passed = false;
    bool kept = false;
  };
  limit deadline(*self, s);
  self->home_->start_after(deadline, self->options_.authenticate_timeout);
  result<> outcome;
  std::exception_ptr thrown;
  try {
    auto asking = self->options_.authenticate(s);
    outcome = co_await std::move(asking);
  } catch (...) {
    thrown = std::current_exception();
  }
  const auto state = co_await asio::this_coro::cancellation_state;
  if (deadline.passed) {
    co_return failure(error::auth_timeout, stage::open,
                      "authentication took longer than authenticate_timeout, " +
                          in_ms(self->options_.authenticate_timeout));
  }
  if (state.cancelled() != asio::cancellation_type::none)
    co_return failure(error::aborted);
  if (thrown)
    outcome = self->handler_threw("authenticate", thrown);
  deadline.kept = true;
  if (!outcome) {
    s.start_close(close_code::normal, "not authenticated");
    co_return outcome.error();
  }
  if (auto *envelope = envelope_of(s))
    envelope->forget_taken(s.core()->untaken());
  co_return s;
}

// Of a failed attempt, which counts.
bool client_core::out_of_attempts(const failure &why) noexcept {
  ++failed_in_row_;
  if (is_fatal(why))
    return false;
  const auto most =
      ever_connected_ || options_.max_attempts != 0 ? options_.max_attempts : first_attempts_;
  return most != 0 && failed_in_row_ >= most;
}

failure client_core::exhausted(const failure &last) const {
  if (options_.max_attempts == 0)
    return last; // there was to be one for each URL
  auto detail = last.detail();
  detail.hint.clear(); // the message below has it
  detail.sentence = "gave up after " + std::to_string(options_.max_attempts) +
                    " attempts in a row; the last one: " + last.message();
  return failure(make_error_code(error::attempts_exhausted), std::move(detail));
}

} // namespace chorus::detail
