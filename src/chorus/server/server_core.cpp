#include <chorus/server/server_core.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/protocol/handshake.hpp>
#include <chorus/session/bounds.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds shortest_grace{100};
constexpr std::chrono::milliseconds longest_grace{1000};

// In the conductor's list of callers for as long as it lives.
class listed {
public:
  listed(std::vector<transport::waiter *> &list, transport::waiter &w) : list_(list), waiter_(w) {
    list_.push_back(&w);
  }
  ~listed() { std::erase(list_, &waiter_); }
  listed(const listed &) = delete;
  listed &operator=(const listed &) = delete;

private:
  std::vector<transport::waiter *> &list_;
  transport::waiter &waiter_;
};

result<> check(const server_options &options) {
  using std::chrono::milliseconds;
  if (options.handshake_timeout <= milliseconds::zero())
    return failure(error::bad_option, stage::configure,
                   "server_options::handshake_timeout must be longer than zero.");
  if (options.body_timeout <= milliseconds::zero() || options.send_timeout <= milliseconds::zero())
    return failure(error::bad_option, stage::configure,
                   "server_options::body_timeout and send_timeout must be longer than zero.");
  if (options.max_header_bytes < 256)
    return failure(
        error::bad_option, stage::configure,
        "server_options::max_header_bytes must be 256 or more: no browser's request fits "
        "into less.");
  const auto &tls = options.tls;
  if (tls.certificate_file.empty() &&
      (!tls.key_file.empty() || tls.require_client_certificate || tls.ask_client_certificate))
    return failure(error::tls_bad_configuration, stage::configure,
                   "server_options::tls names a key or wants client certificates, but names no "
                   "certificate_file: without one the server would not speak TLS at all.");
  if (options.broker_lease < std::chrono::milliseconds(100))
    return failure(error::bad_option, stage::configure,
                   "server_options::broker_lease must be 100 ms or longer.");
  for (const auto &name : options.subprotocols)
    if (!protocol::is_token(name))
      return failure(error::bad_option, stage::configure,
                     "\"" + name +
                         "\" in server_options::subprotocols is no token (RFC 9110 "
                         "section 5.6.2).");
  return {};
}

} // namespace

server_core::server_core(std::shared_ptr<runtime_core> runtime, server_options options)
    : runtime_(std::move(runtime)), setup_(std::make_shared<server_setup>()) {
  options.session = bounded(options.session);
  if (const auto complaint = complaint_about(options.session.heartbeat); !complaint.empty())
    throw std::invalid_argument("chorus: server_options: session." + std::string(complaint));
  setup_->options = std::move(options);
  if (setup_->options.queue_budget_bytes != 0)
    setup_->budget = std::make_shared<queue_budget>(setup_->options.queue_budget_bytes);
  setup_->rooms = std::make_shared<hub>(
      runtime_,
      [setup = std::weak_ptr(setup_)](std::string_view what, const session &member) {
        if (const auto s = setup.lock())
          s->report(what, member ? &member : nullptr);
      },
      setup_->options.rooms,
      hub_limits{setup_->options.max_history_bytes, setup_->options.max_lingering_rooms,
                 setup_->options.handshake_timeout, setup_->options.broker,
                 setup_->options.broker_lease});
  setup_->rooms->set_on_join(setup_->options.join_hook);
  for (const auto &s : runtime_->shards)
    shards_.push_back(server_shard::make(s, setup_));
  if (const auto &node = setup_->rooms->node()) {
    std::vector<std::weak_ptr<server_shard>> all(shards_.begin(), shards_.end());
    auto find = [all = std::move(all)](session_id id) {
      for (const auto &one : all)
        if (const auto s = one.lock())
          if (auto found = s->find(id))
            return found;
      return session();
    };
    node->watch().listen([setup = std::weak_ptr(setup_)](const engine_state &now) {
      if (const auto s = setup.lock())
        s->log_engine(now);
    });
    calls_ = std::make_shared<remote_calls>(node, setup_->rooms, std::move(find));
    calls_->listen();
  }
}

const std::string &server_core::address() const noexcept {
  static const std::string none;
  const auto &all = addresses();
  return all.empty() ? none : all.front();
}

const std::vector<std::string> &server_core::addresses() const noexcept {
  static const std::vector<std::string> none;
  return now() >= phase::running ? addresses_ : none;
}

std::uint16_t server_core::port() const noexcept {
  const std::string &text = address();
  std::uint16_t number = 0;
  if (const auto colon = text.rfind(':'); colon != text.npos && !text.starts_with("unix:"))
    std::from_chars(text.data() + colon + 1, text.data() + text.size(), number);
  return number;
}

server_stats server_core::stats() const {
  server_stats sum;
  for (const auto &s : shards_)
    s->add_to(sum);
  add_shared(sum);
  return sum;
}

server_stats server_core::counters() const {
  server_stats sum;
  for (const auto &s : shards_)
    s->add_counters(sum);
  add_shared(sum);
  return sum;
}

void server_core::add_shared(server_stats &sum) const {
  sum.handshakes = setup_->handshakes.size();
  sum.resume = setup_->rooms->resume()->counters.values();
  if (setup_->rooms->node())
    sum.users_ousted += setup_->rooms->claims().ousted();
  sum.rate_dropped = setup_->rates->dropped.load(std::memory_order_relaxed);
  sum.rate_closed = setup_->rates->closed.load(std::memory_order_relaxed);
  if (setup_->budget) {
    sum.evicted_budget = setup_->budget->evicted();
    sum.queued_bytes_waiting = setup_->budget->total();
  }
}

std::vector<session> server_core::sessions() const {
  std::vector<session> all;
  for (const auto &s : shards_)
    s->add_to(all);
  return all;
}

session server_core::find(session_id id) const {
  for (const auto &s : shards_)
    if (auto found = s->find(id))
      return found;
  return {};
}

std::vector<open_connection> server_core::connections() const {
  std::vector<open_connection> all;
  for (const auto &s : shards_)
    s->add_to(all);
  return all;
}

std::size_t server_core::open_sessions() const noexcept {
  std::size_t sum = 0;
  for (const auto &s : shards_)
    sum += s->open_sessions();
  return sum;
}

void server_core::abandon() noexcept {
  phase_ = phase::stopped;
  setup_->rooms->close();
  for (const auto &s : shards_)
    s->home().post([s] { s->cut([](const stop_report &) {}); });
  conductor()->post([self = shared_from_this()] { self->interrupt_drain(); });
}

task<result<>> server_core::start(std::shared_ptr<server_core> self) {
  auto expected = phase::idle;
  if (!self->phase_.compare_exchange_strong(expected, phase::starting)) {
    const bool over = expected == phase::stopping || expected == phase::stopped;
    co_return failure(over ? error::not_open : error::busy, stage::listen,
                      over ? "The server was stopped; make a new one to listen again."
                           : "The server has been started already.");
  }
  result<> opened;
  try {
    opened = co_await open_listeners(self);
  } catch (...) { // cancelled
    self->close_listeners();
    expected = phase::starting;
    self->phase_.compare_exchange_strong(expected, phase::idle);
    throw;
  }
  if (!opened)
    self->close_listeners();
  expected = phase::starting;
  if (!self->phase_.compare_exchange_strong(expected, opened ? phase::running : phase::idle)) {
    self->close_listeners();
    co_return failure(error::not_open, stage::listen, "The server was stopped while it started.");
  }
  if (opened)
    self->log_listening();
  co_return opened;
}

task<result<>> server_core::open_listeners(std::shared_ptr<server_core> self) {
  auto &setup = *self->setup_;
  if (auto usable = check(setup.options); !usable)
    co_return usable;
  if (const auto &attached = setup.rooms->attached(); !attached)
    co_return attached;
  proxy_list proxies;
  for (const auto &entry : setup.options.trusted_proxies)
    if (const auto complaint = proxies.add(entry); !complaint.empty())
      co_return failure(error::bad_option, stage::configure, "trusted_proxies: " + complaint);
  if (setup.options.proxy == proxy_protocol::trusted && proxies.empty())
    co_return failure(error::bad_option, stage::configure,
                      "proxy_protocol::trusted needs server_options::trusted_proxies: who may tell "
                      "the address of others.");
  setup.proxies = std::move(proxies);
  if (!setup.options.tls.certificate_file.empty()) {
    if (auto made = self->make_tls(); !made)
      co_return made;
    setup.tls = self->tls_;
  }

  auto doors = open_doors(self);
  auto opened = co_await std::move(doors);
  if (opened.has_value() && self->calls_)
    self->calls_->node()->begin();
  co_return opened;
}

void server_core::close_listeners() noexcept {
  for (const auto &s : shards_)
    s->home().post([s] { s->unlisten(); });
}

task<result<stop_report>> server_core::stop(std::shared_ptr<server_core> self,
                                            std::chrono::milliseconds deadline) {
  auto &home = *self->conductor();
  if (self->now() != phase::stopped) {
    const auto at = home.now() + std::max(deadline, std::chrono::milliseconds(0));
    self->stop_at_ = std::min(self->stop_at_, at);
    if (self->now() == phase::stopping)
      self->wake(self->conducting_); // the deadline may have come nearer
    else
      self->begin_stop();
  }
  auto until_stopped = wait_stopped(self);
  co_await std::move(until_stopped);
  co_return self->report_;
}

task<> server_core::wait_stopped(std::shared_ptr<server_core> self) {
  auto &home = *self->conductor();
  while (self->now() != phase::stopped) {
    // A handler that called this is cancelled with the others; it shall still have its report, which
    // from here on is due within the grace period.
    if (self->cut_)
      co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    transport::waiter parked(home);
    listed until_done(self->callers_, parked);
    co_await parked.wait(time_point::max());
  }
}

void server_core::begin_stop() {
  phase_ = phase::stopping;
  interrupt_drain();
  setup_->rooms->close();
  log_phase("stopping");
  busy_shards_ = shards_.size();
  const auto self = shared_from_this();
  asio::co_spawn(conductor()->executor(), conduct_stop(self), [self](std::exception_ptr e) {
    if (e) // nothing there throws but exhaustion
      std::rethrow_exception(e);
  });
  // What was published before the stop may still be on its way from a room's home shard to another.
  // Once every shard has answered, it has been posted there, and the closes come after it.
  unanswered_ = shards_.size();
  for (const auto &s : shards_)
    s->home().post([self] {
      self->conductor()->post([self] {
        if (--self->unanswered_ == 0)
          self->stop_shards();
      });
    });
}

void server_core::stop_shards() {
  for (const auto &s : shards_) {
    // Weak: a shard on which something never ends keeps this for good.
    auto idle = [weak = weak_from_this()] {
      const auto core = weak.lock();
      if (core)
        core->conductor()->post([core] {
          if (--core->busy_shards_ == 0)
            core->wake(core->conducting_);
        });
    };
    s->home().post([s, idle] { s->begin_stop(idle); });
  }
}

task<> server_core::conduct_stop(std::shared_ptr<server_core> self) {
  auto &home = *self->conductor();
  const auto begun = home.now();
  auto until = [&](auto deadline) -> task<> {
    while (self->busy_shards_ > 0 && home.now() < deadline()) {
      transport::waiter parked(home);
      self->conducting_ = &parked;
      co_await parked.wait(deadline());
      self->conducting_ = nullptr;
    }
  };
  co_await until([&] { return self->stop_at_; });
  if (self->busy_shards_ > 0) {
    const auto grace =
        std::clamp(std::chrono::duration_cast<std::chrono::milliseconds>(home.now() - begun),
                   shortest_grace, longest_grace);
    const auto last = home.now() + grace;
    self->begin_cut();
    co_await until([&] { return last; });
    std::lock_guard lock(self->cutting_);
    for (const auto &s :
         std::exchange(self->uncut_, {})) { // its thread is busy with something else
      self->report_.handlers_cancelled += s->handlers();
      self->report_.sessions_aborted += s->open_sessions();
    }
  }
  self->phase_ = phase::stopped;
  self->log_stopped();
  for (auto *caller : self->callers_)
    self->wake(caller);
}

void server_core::begin_cut() {
  cut_ = true;
  for (auto *caller : callers_)
    wake(caller);
  const auto self = shared_from_this();
  uncut_ = shards_;
  for (const auto &s : shards_)
    s->home().post([self, s] {
      s->cut([&](const stop_report &gone) {
        // Not by a post: it might come behind the report, and the sessions would be gone by then.
        std::lock_guard lock(self->cutting_);
        if (std::erase(self->uncut_, s) == 0)
          return; // too late: the report is out
        self->report_.handlers_cancelled += gone.handlers_cancelled;
        self->report_.sessions_aborted += gone.sessions_aborted;
      });
    });
}

void server_core::wake(transport::waiter *which) noexcept {
  if (which)
    which->on_ready(ready_read);
}

} // namespace chorus::detail
