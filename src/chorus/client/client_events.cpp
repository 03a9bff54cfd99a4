// Where handlers that are coroutines run, one after the other.

#include <chorus/client/client_core.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

namespace chorus::detail {

namespace asio = boost::asio;

void client_core::enqueue(queued_event event) {
  if (abandoned())
    return;
  events_.push_back(std::move(event));
  if (std::exchange(telling_, true))
    return;
  asio::co_spawn(home_->executor(), tell_queued(shared_from_this()),
                 asio::bind_cancellation_slot(cancel_handler_.slot(), [](std::exception_ptr e) {
                   if (e)
                     std::rethrow_exception(e);
                 }));
}

task<> client_core::tell_queued(std::shared_ptr<client_core> self) {
  auto &core = *self;
  while (!core.events_.empty()) {
    const auto event = std::move(core.events_.front());
    core.events_.pop_front();
    if (core.abandoned())
      continue;
    if (event.plain) {
      core.run_plain(event.name, event.plain);
      continue;
    }
    // What cancelled the one before is not for this one.
    co_await asio::this_coro::reset_cancellation_state(asio::enable_terminal_cancellation());
    if (core.handlers_limited_)
      core.home_->start_after(core.handler_limit_, core.home_->tick());
    std::exception_ptr thrown;
    try {
      auto running = event.coroutine();
      co_await std::move(running);
    } catch (...) {
      thrown = std::current_exception();
    }
    const auto state = co_await asio::this_coro::cancellation_state;
    if (thrown && state.cancelled() == asio::cancellation_type::none)
      core.handler_threw(event.name, thrown);
  }
  core.telling_ = false;
  {
    lock held(core.mutex_);
    core.supervisor_.wake_all();
    core.note_report(held);
  }
}

task<> client_core::settled() {
  auto none_runs = until(supervisor_, [this] { return !telling_; });
  co_await std::move(none_runs);
}

void client_core::cancel_handlers() noexcept {
  if (telling_)
    cancel_handler_.emit(asio::cancellation_type::terminal);
}

failure client_core::handler_threw(const char *name, const std::exception_ptr &thrown) noexcept {
  std::string sentence = "the handler " + std::string(name) + " threw";
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception &e) {
    sentence += std::string(": ") + e.what();
  } catch (...) {
    sentence += " something that is no std::exception";
  }
  {
    lock held(mutex_);
    ++stats_.handlers_failed;
  }
  const failure why(error::handler_failed, stage::open, std::move(sentence));
  log_handler_failed(name);
  // One that reports its own failure would go on for ever; two are told of as the attempt's or the end.
  const std::string_view which = name;
  if (which != "on_error" && which != "authenticate" && which != "reconnect")
    emit("on_error", options_.on_error, &client_listener::on_error, why);
  return why;
}

} // namespace chorus::detail
