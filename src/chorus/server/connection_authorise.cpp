// A connection while its authorisation hook is asked.

#include <chorus/server/http_connection.hpp>

#include <chorus/server/http_date.hpp>
#include <chorus/server/request_data.hpp>
#include <chorus/server/secrets.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;
using transport::io_status;
using phase = http_visit::phase;

// Nothing when the request has been answered, or its peer has gone.
task<std::optional<chorus::admission>> http_connection::authorise(const http_head &head,
                                                                  const route_match &match) {
  const auto pattern = match.target->pattern;
  visit_.at = phase::asking;
  auto run = start_hook(owner_.shared_from_this(), match.target,
                        make_request(head, match, client_of(head), tls_));
  const auto how = co_await await_hook(run);
  if (how != hook_wait::over) {
    // An interrupted coroutine could await nothing any more.
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await end_hook(std::move(run), how, head, pattern);
    co_return std::nullopt;
  }
  visit_.at = phase::working;
  if (run->thrown) {
    std::string what = "an exception of unknown type";
    try {
      std::rethrow_exception(run->thrown);
    } catch (const std::exception &x) {
      what = x.what();
    } catch (...) { // its name is all there is to say
    }
    co_await hook_failed(std::move(what), head, pattern);
    co_return std::nullopt;
  }
  if (run->answer->what() == chorus::admission::verdict::accepted)
    co_return std::move(run->answer);
  const bool closed = run->answer->what() == chorus::admission::verdict::closed;
  refused(refusal::unauthorized, closed ? 101 : run->answer->answer().status(), head.target());
  if (closed)
    co_return std::move(run->answer);
  auto told = run->answer->answer();
  if (told.header("Date").empty())
    told.set("Date", std::string(http_date_now()));
  auto answer = write_response(told, false, false);
  if (!answer.complete)
    co_await hook_failed("it set a header with a malformed name or value", head, pattern);
  else
    co_await refuse(std::move(answer.text));
  co_return std::nullopt;
}

task<> http_connection::hook_failed(std::string why, const http_head &head,
                                    const std::string &pattern) {
  owner_.count.handler_failures.fetch_add(1, std::memory_order_relaxed);
  refused(refusal::other, 500, head.target());
  complain("The authorisation for " + pattern + " failed: " + why, head);
  co_await refuse(write_refusal(500, "The server failed to authorise this request."));
}

// Until the hook is over, its peer has gone, or the time is up.
task<http_connection::hook_wait> http_connection::await_hook(std::shared_ptr<hook_run> run) {
  constexpr std::size_t most_ahead = 64 * 1024;
  struct listening {
    hook_run &run;
    transport::stream &from;
    ~listening() {
      run.waiting = nullptr;
      from.listen(nullptr);
      from.set_interest(0);
    }
  };
  auto how = hook_wait::over;
  try {
    while (!run->over && how == hook_wait::over) {
      transport::waiter parked(owner_.home());
      listening until_told{*run, *carrier_};
      run->waiting = &parked;
      carrier_->listen(&parked);
      carrier_->set_interest(early_.size() < most_ahead ? transport::ready_read : 0U);
      if (!co_await parked.wait(deadline_))
        how = hook_wait::late;
      else if (!run->over && !read_ahead())
        how = hook_wait::gone;
    }
  } catch (const boost::system::system_error &x) {
    if (x.code() != asio::error::operation_aborted)
      throw;
    how = hook_wait::interrupted;
  }
  co_return how;
}

// False when the peer has gone.
bool http_connection::read_ahead() noexcept {
  auto &shared = owner_.home().read_buffer();
  const auto got =
      carrier_->read_some({shared.data(), std::min<std::size_t>(16 * 1024, shared.capacity())});
  if (got.status == io_status::ok)
    early_.append(reinterpret_cast<const char *>(shared.data()), got.bytes);
  return got.status == io_status::ok || got.status == io_status::would_block;
}

// Answers for a hook that did not, and waits for its end: nothing of it is left running unknown.
task<> http_connection::end_hook(std::shared_ptr<hook_run> run, hook_wait why,
                                 const http_head &head, const std::string &pattern) {
  permit_.release();
  run->cancel.emit(asio::cancellation_type::terminal);
  if (why == hook_wait::gone) {
    failed("gone");
  } else if (why == hook_wait::interrupted) {
    refused(refusal::unavailable, 503, head.target());
    say_at_once(write_refusal(503, stopping_sentence));
  } else {
    refused(refusal::unavailable, 503, head.target());
    complain("The authorisation for " + pattern +
                 " was cancelled: it did not end within handshake_timeout",
             head);
    static constexpr header_field retry[] = {{"Retry-After", "5"}};
    deadline_ = owner_.home().now() + std::chrono::seconds(1);
    co_await refuse(write_refusal(503,
                                  "Whether this request is allowed could not be found out in time; "
                                  "try again later.",
                                  retry));
  }
  carrier_.reset();
  while (!run->over) {
    transport::waiter parked(owner_.home());
    run->waiting = &parked;
    co_await parked.wait(time_point::max());
    run->waiting = nullptr;
  }
}

void http_connection::complain(const std::string &what, const http_head &head) {
  setup_.report(without_secrets(what, head), nullptr, "authorization_failed", visit_.id);
}

} // namespace chorus::detail
