#include <chorus/client/connect.hpp>

#include <chorus/async/shard.hpp>
#include <chorus/client/plan.hpp>
#include <chorus/client/protocols.hpp>
#include <chorus/client/redirect.hpp>
#include <chorus/client/upgrade.hpp>
#include <chorus/protocol/resume.hpp>
#include <chorus/session/setup.hpp>

#include <boost/asio/this_coro.hpp>

namespace chorus {

namespace detail {

namespace {

task<result<session>> open_once(std::shared_ptr<shard> home,
                                std::shared_ptr<const connect_plan> plan) {
  transport::dial_target target;
  const auto &where = plan->where;
  if (where.is_unix()) {
    target.path = where.socket_path();
  } else {
    target.host = where.host();
    target.port = std::to_string(where.port());
  }
  target.tls = where.is_secure();
  auto dial_options = plan->dial;
  auto dialling = transport::dial(*home, std::move(target), std::move(dial_options));
  auto dialled = co_await std::move(dialling);
  if (!dialled)
    co_return dialled.error();

  session_setup setup;
  setup.carrier = *std::move(dialled);
  setup.side = protocol::role::client;
  setup.websocket = where.is_websocket();
  setup.options = {plan, &plan->session};
  setup.close_when_unowned = plan->close_when_unowned;
  setup.keep_unsent = plan->keep_unsent;
  setup.id = plan->id;
  upgrade_answer agreed;
  if (!setup.websocket && plan->needs_envelope)
    co_return failure(error::bad_option, stage::configure,
                      "resume_mode::require needs protocols that are ws or wss alone");
  if (setup.websocket) {
    auto upgraded = co_await upgrade(*setup.carrier, *plan);
    if (!upgraded)
      co_return upgraded.error();
    agreed = *std::move(upgraded);
    setup.compression = agreed.compression;
    setup.subprotocol = std::move(agreed.subprotocol);
    setup.received = std::as_bytes(std::span(agreed.rest));
    if (plan->make_envelope && setup.subprotocol == protocol::resume_subprotocol)
      setup.envelope = plan->make_envelope();
    else if (plan->needs_envelope)
      co_return failure(
          error::upgrade_invalid, stage::upgrade,
          "the server does not speak chorus.v1; use resume_mode::offer to go on without");
  }
  co_return make_session(std::move(setup));
}

} // namespace

task<result<session>> open_by_one(std::shared_ptr<shard> home,
                                  std::shared_ptr<const connect_plan> plan) {
  for (unsigned followed = 0;; ++followed) {
    auto opening = open_once(home, plan);
    auto opened = co_await std::move(opening);
    if (opened || plan->max_redirects == 0 || !is_redirect(opened.error()))
      co_return opened;
    if (followed == plan->max_redirects)
      co_return too_many_redirects(*plan, opened.error());
    auto next = follow(*plan, opened.error());
    if (!next)
      co_return next.error();
    if (plan->dial.observer) {
      const auto to = (*next)->where.str();
      plan->dial.observer->on_redirected(opened.error().detail().status,
                                         to.substr(0, to.find('?')));
    }
    plan = *std::move(next);
  }
}

task<result<session>> open_session(std::shared_ptr<shard> home,
                                   std::shared_ptr<const connect_plan> plan) {
  return plan->ways.empty() ? open_by_one(std::move(home), std::move(plan))
                            : open_by_any(std::move(home), std::move(plan));
}

namespace {

task<result<session>> connect_here(result<std::shared_ptr<connect_plan>> plan) {
  if (!plan)
    co_return plan.error();
  auto *home = shard::of(co_await boost::asio::this_coro::executor);
  if (!home)
    co_return failure(error::no_runtime, stage::configure,
                      "connect needs a chorus::runtime on the io_context of the coroutine that "
                      "awaits it: spawn the coroutine with runtime::spawn, or build a "
                      "chorus::runtime around your io_context");
  auto kept = home->shared_from_this();
  if (!kept->here())
    co_return failure(error::no_runtime, stage::configure,
                      "connect was awaited on a thread that does not run its executor's "
                      "io_context");
  auto opening = open_session(std::move(kept), *std::move(plan));
  co_return co_await std::move(opening);
}

} // namespace

} // namespace detail

task<result<session>> connect(std::string_view url, connect_options options) {
  auto plan = detail::make_plan(url, options);
  if (plan && options.tls) {
    const std::string text(url);
    const auto fine = detail::check_pins(*options.tls, {&text, 1},
                                         {options.protocols.begin(), options.protocols.end()});
    if (!fine)
      plan = fine.error();
  }
  return detail::connect_here(std::move(plan));
}

} // namespace chorus
