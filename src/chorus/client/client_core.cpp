#include <chorus/client/client_core.hpp>

#include <chorus/async/parked.hpp>
#include <chorus/session/bounds.hpp>

#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <atomic>
#include <random>
#include <stdexcept>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

// Every client jitters on its own: clients that lost one server together must not come back together.
std::uint64_t fresh_seed() {
  static std::atomic<std::uint64_t> next = [] {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device();
  }();
  return next.fetch_add(0x9e3779b97f4a7c15U, std::memory_order_relaxed);
}

[[noreturn]] void unusable(const std::string &sentence) {
  throw std::invalid_argument("chorus: client_options: " + sentence);
}

std::vector<std::shared_ptr<connect_plan>> make_plans(const client_options &options) {
  if (options.urls.empty())
    unusable("urls is empty; give at least one, like wss://example.org/path");
  if (const auto fine = check_pins(options.tls, options.urls, options.protocols); !fine)
    unusable(fine.error().message());
  std::vector<header> headers;
  headers.reserve(options.headers.size());
  for (const auto &[name, value] : options.headers)
    headers.push_back({name, value});
  std::vector<std::shared_ptr<connect_plan>> plans;
  for (const auto &text : options.urls) {
    const auto where = url::parse(text);
    std::vector<std::string_view> offered;
    if (options.resume != resume_mode::off)
      offered.push_back(protocol::resume_subprotocol);
    for (const auto &name : options.subprotocols)
      if (offered.empty() || name != offered.front())
        offered.push_back(name);
    connect_options one;
    one.protocols = options.protocols;
    one.race_protocols = options.race_protocols;
    one.observer = options.observer.get();
    const bool chosen_later =
        !url::names_scheme(text) &&
        std::any_of(options.protocols.begin(), options.protocols.end(),
                    [](url_scheme s) { return s == url_scheme::ws || s == url_scheme::wss; });
    if (!where || where->is_websocket() || chosen_later) {
      one.headers = headers;
      one.subprotocols = offered;
    }
    one.session = options.session;
    one.session.on_overflow = overflow::wait;
    one.tls = &options.tls;
    one.resolve_timeout = options.resolve_timeout;
    one.connect_timeout = options.connect_timeout;
    one.tls_timeout = options.tls_timeout;
    one.upgrade_timeout = options.upgrade_timeout;
    one.connect_stagger = options.connect_stagger;
    one.max_redirects = options.max_redirects;
    one.proxy = options.proxy;
    one.proxy_from_environment = options.proxy_from_environment;
    one.user_agent = options.user_agent;
    auto plan = make_plan(text, one);
    if (!plan)
      unusable(plan.error().message());
    (*plan)->close_when_unowned = false;
    (*plan)->keep_unsent = true;
    plans.push_back(*std::move(plan));
  }
  return plans;
}

client_options with_bounds(client_options given) {
  given.session = bounded(given.session);
  for (auto *time : {&given.proven_after, &given.authenticate_timeout, &given.check_timeout,
                     &given.max_retry_after})
    *time = std::min(*time, longest_time);
  return given;
}

backoff_options delays_of(const client_options &options) {
  auto delays = options.reconnect.delays().value_or(options.backoff);
  delays.initial = std::min(delays.initial, longest_time);
  delays.cap = std::min(delays.cap, longest_time);
  return delays;
}

} // namespace

client_core::client_core(std::shared_ptr<shard> home, client_options options)
    : home_(std::move(home)), options_(with_bounds(std::move(options))),
      plans_(make_plans(options_)), backoff_(delays_of(options_)), random_state_(fresh_seed()),
      expiry_timer_(*this, [](timer &t) noexcept { static_cast<alarm &>(t).owner.arm_expiry(); }),
      handler_limit_(*this, [](timer &t) noexcept {
        auto &core = static_cast<alarm &>(t).owner;
        core.handlers_limited_ = true;
        core.cancel_handlers();
      }) {
  if (options_.outbox_bytes == 0)
    unusable("outbox_bytes must not be zero");
  if (options_.outbox_overflow != overflow::wait &&
      options_.outbox_overflow != overflow::drop_newest &&
      options_.outbox_overflow != overflow::drop_oldest &&
      options_.outbox_overflow != overflow::latest)
    unusable("outbox_overflow is one of wait, drop_newest, drop_oldest and latest");
  if (options_.authenticate_timeout.count() <= 0)
    unusable("authenticate_timeout must be more than zero");
  if (options_.check_timeout.count() <= 0)
    unusable("check_timeout must be more than zero");
  if (options_.proven_after.count() < 0)
    unusable("proven_after must not be negative");
  if (options_.max_retry_after.count() < 0)
    unusable("max_retry_after must not be negative");
  if (options_.on_message && options_.ignore_input)
    unusable("on_message gets nothing under ignore_input; choose one");
  framed_only_ = std::none_of(plans_.begin(), plans_.end(),
                              [](const auto &plan) { return plan->where.is_websocket(); });
  prepare_resume();
  if (options_.order == url_order::shuffled)
    shuffle();
}

std::uint64_t client_core::random() noexcept {
  // splitmix64
  std::uint64_t z = random_state_ += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

void client_core::abandon() noexcept {
  {
    lock held(mutex_);
    abandoned_ = closing_ = true;
    ready_ = false;
    if (!ended_) {
      ended_ = true;
      state_ = client_state::closed;
      end_ = failure(error::aborted, stage::close, "the client was destroyed");
      last_failure_ = end_;
      close_outcome_ = result<>(end_);
      discard_outbox(held, end_);
      inbox_.clear();
      inbox_bytes_ = 0;
      open_or_ended_.wake_all();
      readable_.wake_all();
      idle_.wake_all();
    }
  }
  home_->post([self = shared_from_this()] { self->abort_now(); });
}

task<result<>> client_core::connected(std::shared_ptr<client_core> self) {
  if (!self)
    co_return failure(error::not_open);
  auto &core = *self;
  auto settled = core.until(core.open_or_ended_, [c = self.get()] {
    return c->ended_ || (c->ready_ && c->state_ == client_state::open);
  });
  if (!co_await std::move(settled)) {
    co_await was_cancelled();
    co_return failure(error::cancelled);
  }
  lock held(core.mutex_);
  if (core.ended_)
    co_return core.end_;
  co_return result<>();
}

client_core::arrived client_core::take_from_inbox(lock &held) {
  if (inbox_full(held))
    supervisor_.wake_all();
  auto first = std::move(inbox_.front());
  inbox_.pop_front();
  inbox_bytes_ -= first.content.size();
  return first;
}

namespace {
void give(message &out, message &&content, message_place &&) { out = std::move(content); }
void give(placed_message &out, message &&content, message_place &&place) {
  out.content = std::move(content);
  if (place.room)
    out.room = *place.room;
  if (place.epoch)
    out.epoch = *place.epoch;
  out.offset = place.offset;
}
} // namespace

task<result<message>> client_core::receive(std::shared_ptr<client_core> self) {
  return take_next<message>(std::move(self));
}

task<result<placed_message>> client_core::receive_placed(std::shared_ptr<client_core> self) {
  return take_next<placed_message>(std::move(self));
}

template <class T> task<result<T>> client_core::take_next(std::shared_ptr<client_core> self) {
  if (!self)
    co_return failure(error::not_open);
  auto &core = *self;
  if (core.options_.ignore_input)
    co_return failure(error::busy, stage::open,
                      "this client's messages are ignored by ignore_input");
  struct claim {
    explicit claim(client_core &c) : core(c) {
      lock held(core.mutex_);
      mine = !std::exchange(core.receiving_, true);
      core.kept_for_receive_ = core.kept_for_receive_ || mine;
    }
    ~claim() {
      if (mine)
        core.release_receiver();
    }
    client_core &core;
    bool mine = false;
  };
  claim claimed(core);
  if (!claimed.mine)
    co_return failure(error::busy);
  const auto cancellation = co_await asio::this_coro::cancellation_state;
  for (;;) {
    if (cancellation.cancelled() != asio::cancellation_type::none) {
      co_await was_cancelled(); // throws, unless the coroutine asked not to
      co_return failure(error::cancelled);
    }
    // Nothing suspends between taking and returning, so a cancelled receive has taken nothing.
    {
      lock held(core.mutex_);
      if (!core.inbox_.empty()) {
        auto first = core.take_from_inbox(held);
        T out;
        give(out, std::move(first.content), std::move(first.place));
        co_return out;
      }
      if (core.ended_)
        co_return core.end_;
    }
    auto arrived =
        core.until(core.readable_, [c = self.get()] { return c->ended_ || !c->inbox_.empty(); });
    co_await std::move(arrived);
  }
}

bool client_core::claim_receiver() {
  if (options_.on_message || options_.ignore_input)
    return false;
  lock held(mutex_);
  return !std::exchange(receiving_, true);
}

void client_core::release_receiver() {
  lock held(mutex_);
  receiving_ = false;
}

void client_core::watch(std::shared_ptr<client_watcher> watcher) {
  watcher_ = std::move(watcher);
  while (const auto present = watcher_) {
    arrived next;
    {
      lock held(mutex_);
      if (inbox_.empty()) {
        if (supervised_)
          return;
        break;
      }
      next = take_from_inbox(held);
    }
    present->on_message(next.content, next.place.room != nullptr);
  }
  tell_watcher_of_end();
}

void client_core::tell_watcher_of_end() {
  const auto present = std::exchange(watcher_, nullptr);
  if (!present)
    return;
  release_receiver();
  present->on_ended(last_failure());
}

task<result<>> client_core::close(std::shared_ptr<client_core> self, close_code code,
                                  std::string reason) {
  if (!self)
    co_return failure(error::not_open);
  auto &core = *self;
  bool first = false;
  {
    lock held(core.mutex_);
    if (!core.closing_) {
      first = core.closing_ = true;
      core.close_code_ = code;
      core.close_reason_ = std::move(reason);
      while (auto *w = core.senders_.first()) {
        static_cast<sender &>(*w).outcome = result<>(failure(error::not_open));
        wait_list::wake(*w);
      }
    }
  }
  if (first)
    core.home_->post([self] { self->begin_close(); });
  auto over = core.until(core.open_or_ended_, [c = self.get()] { return c->ended_; });
  if (!co_await std::move(over)) {
    co_await was_cancelled();
    co_return failure(error::cancelled);
  }
  lock held(core.mutex_);
  co_return core.close_outcome_;
}

client_state client_core::state() const noexcept {
  lock held(mutex_);
  return closing_ && state_ != client_state::closed ? client_state::closing : state_;
}

client_stats client_core::stats() const {
  session s;
  client_stats out;
  {
    lock held(mutex_);
    out = stats_;
    out.queued_messages = outbox_.size() + (in_hand_ ? 1 : 0);
    out.queued_bytes = outbox_bytes_;
    if (down_since_ && !ended_)
      out.downtime += clock::now() - *down_since_;
    if (!accounted_)
      s = session_;
  }
  if (s) {
    const auto live = s.stats();
    out.bytes_received += live.bytes_received;
    out.bytes_sent += live.bytes_sent;
    if (live.last_round_trip.count() != 0)
      out.last_round_trip = live.last_round_trip;
  }
  return out;
}

session client_core::current() const {
  lock held(mutex_);
  return session_;
}

failure client_core::last_failure() const {
  lock held(mutex_);
  return ended_ ? end_ : last_failure_;
}

} // namespace chorus::detail
