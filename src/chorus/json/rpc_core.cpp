#include <chorus/json/rpc_core.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/base/text.hpp>

#include <boost/asio/co_spawn.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;
namespace json = boost::json;

rpc_outgoing::rpc_outgoing(rpc_core &c, message m, std::uint64_t first, std::size_t count)
    : core(c), document(std::move(m)), first_id(first), outcomes(count), missing(count),
      limit(*this) {
  for (std::size_t i = 0; i < count; ++i)
    core.pending_.emplace(first + i, rpc_core::pending{this, i});
  core.requests_sent_ += count;
  core.in_flight_ += count;
}

// However the wait ended, its ids are free from here on.
rpc_outgoing::~rpc_outgoing() {
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    if (!outcomes[i])
      core.pending_.erase(first_id + i);
  core.in_flight_ -= missing;
  if (core.in_hand_ == this)
    core.in_hand_ = nullptr;
  if (where == place::queued || missing != 0)
    withdraw();
}

// It is not sent any more, if it has not been.
void rpc_outgoing::withdraw() {
  if (where == place::queued)
    std::erase(core.queue_, this);
  else if (where == place::sent && !core.over_)
    core.channel_->sift([this](const message &m) { return m.text() != document.text(); });
  where = place::none;
}

void rpc_outgoing::settle(std::size_t index, result<json::value> outcome) {
  if (outcomes[index])
    return;
  outcomes[index] = std::move(outcome);
  core.pending_.erase(first_id + index);
  --core.in_flight_;
  if (--missing == 0)
    sleeper.wake_later();
}

void rpc_outgoing::refuse(failure why) {
  refused = std::move(why);
  sleeper.wake_later();
}

void rpc_outgoing::fail_missing(const failure &why) {
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    settle(i, why);
}

rpc_core::rpc_core(std::unique_ptr<rpc_channel> channel, const rpc_methods &methods,
                   rpc_options options)
    : channel_(std::move(channel)), methods_(methods.table()), options_(std::move(options)) {}

void rpc_core::start() {
  home()->post([self = shared_from_this()] {
    if (self->over_)
      return;
    self->home()->enroll(*self);
    self->channel_->attach(self);
  });
}

void rpc_core::stop() noexcept {
  home()->run([self = shared_from_this()] { self->stop_here(); });
}

void rpc_core::stop_here() noexcept {
  if (over_)
    return;
  channel_->detach();
  on_ended(failure(error::not_open, stage::close, "this rpc was stopped by its own side"));
}

// Whatever waits here would wait for ever; it goes with its context.
void rpc_core::on_shard_gone() noexcept { on_ended(error::shut_down); }

rpc_stats rpc_core::stats() const {
  rpc_stats s;
  s.requests_sent = requests_sent_;
  s.answers = answers_;
  s.answers_late = answers_late_;
  s.answers_stray = answers_stray_;
  s.timeouts = timeouts_;
  s.requests_received = requests_received_;
  s.notifications_received = notifications_received_;
  s.refused = refused_;
  s.malformed = malformed_;
  s.others = others_;
  s.handlers_failed = handlers_failed_;
  s.in_flight = in_flight_;
  s.running = running_now_;
  return s;
}

namespace {
template <class T> task<result<T>> on_home(std::shared_ptr<shard> home, task<result<T>> work) {
  if (home->here())
    co_return co_await std::move(work);
  co_return co_await on_shard<result<T>>(std::move(home), std::move(work));
}
} // namespace

task<result<rpc_outcomes>> rpc_core::request(std::shared_ptr<rpc_core> core, message document,
                                             std::uint64_t first, std::size_t count,
                                             rpc_request_options options) {
  auto home = core->home();
  return on_home<rpc_outcomes>(std::move(home),
                               ask(std::move(core), std::move(document), first, count, options));
}

task<result<>> rpc_core::notify(std::shared_ptr<rpc_core> core, message document) {
  auto home = core->home();
  return on_home<void>(std::move(home), tell(std::move(core), std::move(document)));
}

task<failure> rpc_core::ended(std::shared_ptr<rpc_core> core) {
  auto home = core->home();
  auto work = wait_over(std::move(core));
  if (home->here())
    co_return co_await std::move(work);
  co_return co_await on_shard<failure>(std::move(home), std::move(work));
}

task<result<rpc_outcomes>> rpc_core::ask(std::shared_ptr<rpc_core> core, message document,
                                         std::uint64_t first, std::size_t count,
                                         rpc_request_options options) {
  const bool early = co_await was_cancelled();
  if (early)
    co_return failure(error::cancelled);
  if (core->over_)
    co_return core->end_;
  if (core->pending_.size() + count > core->options_.max_requests)
    co_return failure(error::limit_reached, stage::open,
                      "rpc_options::max_requests, " + std::to_string(core->options_.max_requests) +
                          ", are in flight; wait for answers or raise it");
  const auto timeout = options.timeout.count() != 0 ? options.timeout : core->options_.timeout;
  rpc_outgoing call(*core, std::move(document), first, count);
  call.idempotent = options.idempotent;
  core->enqueue(call);
  constexpr std::chrono::hours ages{24 * 365 * 10};
  if (timeout.count() != 0 && timeout < ages)
    core->home()->start_after(call.limit, timeout);
  if (!call.settled())
    co_await call.sleeper.park();
  if (call.refused)
    co_return *call.refused;
  if (call.missing != 0 && call.timed_out) {
    core->timeouts_ += call.missing;
    call.withdraw();
    const failure late(error::timed_out, stage::open, "no answer came within " + in_ms(timeout));
    call.fail_missing(late);
  }
  if (call.missing != 0) {
    co_await was_cancelled(); // throws, unless the coroutine asked not to
    co_return failure(error::cancelled);
  }
  rpc_outcomes out;
  out.reserve(count);
  for (auto &one : call.outcomes)
    out.push_back(std::move(*one));
  co_return out;
}

task<result<>> rpc_core::tell(std::shared_ptr<rpc_core> core, message document) {
  const bool early = co_await was_cancelled();
  if (early)
    co_return failure(error::cancelled);
  if (core->over_)
    co_return core->end_;
  rpc_outgoing call(*core, std::move(document), 0, 0);
  core->enqueue(call);
  if (!call.settled())
    co_await call.sleeper.park();
  if (call.refused)
    co_return *call.refused;
  if (call.settled())
    co_return result<>();
  co_await was_cancelled();
  co_return failure(error::cancelled);
}

task<failure> rpc_core::wait_over(std::shared_ptr<rpc_core> core) {
  struct listed {
    explicit listed(std::vector<parked *> &l) : list(l) { list.push_back(&sleeper); }
    ~listed() { std::erase(list, &sleeper); }
    std::vector<parked *> &list;
    parked sleeper;
  };
  listed waiting(core->ended_waiters_);
  while (!core->over_) {
    const bool cancelled = co_await was_cancelled();
    if (cancelled)
      co_return failure(error::cancelled);
    co_await waiting.sleeper.park();
  }
  co_return core->end_;
}

// Behind what waits already; else at once.
void rpc_core::enqueue(rpc_outgoing &call) {
  if (!writing_) {
    const auto sent = channel_->try_send(call.document);
    if (sent) {
      call.where = rpc_outgoing::place::sent;
      return;
    }
    if (sent.error() != error::queue_full)
      return call.refuse(sent.error());
  }
  call.where = rpc_outgoing::place::queued;
  queue_.push_back(&call);
  if (std::exchange(writing_, true))
    return;
  asio::co_spawn(home()->executor(), write(shared_from_this()), [](const std::exception_ptr &e) {
    if (e)
      std::rethrow_exception(e);
  });
}

// Runs while there is no room: waits for it, message by message.
task<> rpc_core::write(std::shared_ptr<rpc_core> core) {
  while (!core->queue_.empty()) {
    auto *call = core->queue_.front();
    core->queue_.pop_front();
    call->where = rpc_outgoing::place::in_hand;
    core->in_hand_ = call;
    auto work = core->channel_->send(call->document);
    const auto sent = co_await std::move(work);
    auto *still = std::exchange(core->in_hand_, nullptr);
    if (!still)
      continue; // given up meanwhile
    if (!sent) {
      still->refuse(sent.error());
      continue;
    }
    still->where = rpc_outgoing::place::sent;
    if (still->outcomes.empty())
      still->sleeper.wake_later();
  }
  core->writing_ = false;
}

std::vector<rpc_outgoing *> rpc_core::calls() const {
  std::unordered_set<rpc_outgoing *> all; // a batch has several
  for (const auto &[id, one] : pending_)
    all.insert(one.call);
  return {all.begin(), all.end()};
}

void rpc_core::cancel_handlers() noexcept {
  const auto all = std::exchange(running_, {});
  for (const auto &one : all)
    one->cancelled = true;
  for (const auto &one : all)
    one->cancel.emit(asio::cancellation_type::terminal);
}

void rpc_core::on_lost(const failure &why) {
  cancel_handlers();
  const auto waiting = calls();
  std::unordered_map<std::string_view, rpc_outgoing *> sent;
  for (auto *call : waiting)
    if (call->where == rpc_outgoing::place::sent)
      sent.emplace(call->document.text(), call);
  channel_->sift([&](const message &m) {
    if (is_answer_text(m.text()))
      return false; // the peer's request was made on the lost connection
    if (const auto found = sent.find(m.text()); found != sent.end())
      found->second->still_queued = true;
    return true;
  });
  std::vector<rpc_outgoing *> again;
  for (const auto &[text, call] : sent) {
    if (std::exchange(call->still_queued, false))
      continue;
    if (call->idempotent)
      again.push_back(call);
    else
      call->fail_missing(
          failure(error::unconfirmed, stage::open,
                  "the connection was lost before the answer; whether the request was "
                  "carried out is unknown (" +
                      why.message() + ")"));
  }
  std::sort(again.begin(), again.end(),
            [](const auto *a, const auto *b) { return a->first_id < b->first_id; });
  for (auto *call : again)
    enqueue(*call);
}

void rpc_core::on_ended(const failure &why) noexcept {
  if (std::exchange(over_, true))
    return;
  const auto keep = shared_from_this();
  home()->leave(*this);
  end_ = why;
  cancel_handlers();
  for (auto *call : calls())
    call->fail_missing(why);
  for (auto *call : std::exchange(queue_, {})) { // `write` must not send what was refused
    call->where = rpc_outgoing::place::none;
    call->refuse(why);
  }
  if (in_hand_ && in_hand_->outcomes.empty())
    in_hand_->refuse(why);
  for (auto *one : ended_waiters_)
    one->wake_later();
}

} // namespace chorus::detail
