#include <chorus/server/server_shard.hpp>

#include <chorus/async/spawn.hpp>
#include <chorus/server/census.hpp>
#include <chorus/server/request_data.hpp>
#include <chorus/server/secrets.hpp>
#include <chorus/transport/address.hpp>
#include <chorus/transport/socket_stream.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include <string>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

void link(list_hook &list, list_hook &one) noexcept {
  one.next = list.next;
  one.prev = &list;
  list.next->prev = &one;
  list.next = &one;
}

bool unlink(list_hook &one) noexcept {
  if (!one.next)
    return false;
  one.next->prev = one.prev;
  one.prev->next = one.next;
  one.next = one.prev = nullptr;
  return true;
}

template <class T, class F> void for_each(const list_hook &list, F f) {
  for (const list_hook *at = list.next; at != &list; at = at->next)
    f(static_cast<T &>(const_cast<list_hook &>(*at)));
}

std::string what_of(std::exception_ptr e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception &x) {
    return x.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

} // namespace

void live_session::on_session_closed(const session &s) noexcept {
  if (owner)
    owner->session_ended(*this, s);
}

void live_session::on_round_trip(std::chrono::nanoseconds took) noexcept {
  if (owner)
    owner->measures.round_trips.observe(in_seconds(took));
}

// The completion of a coroutine that this shard waits for. When the loop is torn down it is destroyed
// without being called.
class visit_end {
public:
  visit_end(std::shared_ptr<server_shard> owner, std::shared_ptr<http_visit> visit) noexcept
      : owner_(std::move(owner)), visit_(std::move(visit)) {}
  visit_end(visit_end &&) noexcept = default;
  visit_end &operator=(visit_end &&) = delete;
  ~visit_end() {
    if (visit_)
      owner_->visit_ended(*visit_);
  }
  void operator()(std::exception_ptr) noexcept {} // its destruction tells

private:
  std::shared_ptr<server_shard> owner_;
  std::shared_ptr<http_visit> visit_;
};

// One pointer: it is copied about in the frame that every running handler keeps.
class handler_end {
public:
  explicit handler_end(live_session &live) noexcept : live_(&live) {}
  handler_end(handler_end &&other) noexcept : live_(std::exchange(other.live_, nullptr)) {}
  handler_end &operator=(handler_end &&) = delete;
  ~handler_end() {
    if (live_)
      live_->runner->handler_ended(*live_, nullptr, true);
  }
  void operator()(std::exception_ptr e) noexcept {
    auto &live = *std::exchange(live_, nullptr);
    live.runner->handler_ended(live, e, false);
  }

private:
  live_session *live_; // which keeps itself while its handler runs
};

std::shared_ptr<server_shard> server_shard::make(std::shared_ptr<shard> home,
                                                 std::shared_ptr<server_setup> setup) {
  // The last owner may let go on any thread; what is inside goes on the shard.
  return std::shared_ptr<server_shard>(
      new server_shard(std::move(home), std::move(setup)), [](server_shard *gone) {
        const auto where = gone->home_;
        where->run([owned = std::unique_ptr<server_shard>(gone)] {});
      });
}

server_shard::server_shard(std::shared_ptr<shard> home,
                           std::shared_ptr<server_setup> setup) noexcept
    : home_(std::move(home)), setup_(std::move(setup)) {
  visits_.next = visits_.prev = &visits_;
  sessions_.next = sessions_.prev = &sessions_;
  if (setup_->budget)
    queues_ = shard_queues::make(home_, setup_->budget);
}

server_shard::~server_shard() {
  doors_.clear();
  for (const auto &live : sessions_now()) { // no handler runs: it would own this
    live->self = nullptr;
    live->owner = nullptr;
    set_observer(live->handle, nullptr);
    live->handle.abort();
  }
}

result<> server_shard::listen(std::unique_ptr<transport::listener> l,
                              std::vector<std::weak_ptr<server_shard>> deal_to) {
  if (stopping_)
    return failure(error::not_open, stage::listen, "The server was stopped while it started.");
  doors_.push_back(std::make_unique<server_door>(*this, std::move(l), std::move(deal_to)));
  auto &door = *doors_.back();
  return door.listener().start(door);
}

void server_shard::serve(transport::descriptor socket) noexcept {
  if (stopping_)
    return;
  try {
    auto visit = std::make_shared<http_visit>();
    const auto address = transport::remote_address_of(socket.get());
    if (!visit->admit(setup_, home_, address)) {
      turn_away(std::move(socket), refusal::handshake_limit,
                "This server has as many handshakes under way as it takes; try again later.");
      return;
    }
    transport::socket_options options;
    options.keep_alive = true;
    auto carrier = transport::make_socket_stream(*home_, socket.release(), options);
    visit->at = setup_->tls ? http_visit::phase::securing : http_visit::phase::reading;
    log_accepted(visit->id, *carrier);
    link(visits_, *visit);
    const auto slot = visit->cancel.slot();
    visit_end end(shared_from_this(), visit);
    asio::co_spawn(home_->executor(),
                   serve_connection(shared_from_this(), visit, std::move(carrier)),
                   asio::bind_cancellation_slot(slot, std::move(end)));
  } catch (const std::exception &x) {
    count.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
    setup_->report(x.what(), nullptr);
  }
}

void server_shard::visit_ended(http_visit &v) noexcept {
  unlink(v);
  check_idle();
}

void server_shard::keep(const std::shared_ptr<live_session> &live) {
  if (live->self)
    return;
  live->self = live;
  live->number = ++last_number_;
  std::lock_guard lock(sessions_mutex_);
  link(sessions_, *live);
  by_id_.emplace(live->handle.id(), live.get());
}

void server_shard::begin_session(const std::shared_ptr<live_session> &live, session s) {
  live->handle = std::move(s);
  if (live->open) { // else closed while it was made
    open_.fetch_add(1, std::memory_order_relaxed);
    live->counted = true;
    if (draining_)
      count.drain_sessions.fetch_add(1, std::memory_order_relaxed);
    keep(live);
  }
  // Last, so that who sees it counted as upgraded sees it open, too, or already over.
  count.upgraded.fetch_add(1, std::memory_order_release);
}

void server_shard::begin_handler(const std::shared_ptr<live_session> &live,
                                 std::shared_ptr<const chorus::detail::route> target, request r) {
  live->running = true;
  live->runner = shared_from_this();
  live->target = std::move(target);
  {
    std::lock_guard lock(sessions_mutex_);
    live->asked = r;
  }
  handlers_.fetch_add(1, std::memory_order_relaxed);
  keep(live);
  handler_end end(*live);
  try {
    auto work = live->target->on_session(live->handle, std::move(r));
    spawn_here(home_->executor(), std::move(work), live->cancel.slot(), std::move(end));
  } catch (...) {
    if (live->running) // thrown before it became a coroutine
      end(std::current_exception());
  }
}

void server_shard::handler_ended(live_session &live, std::exception_ptr e, bool dropped) noexcept {
  const auto self = std::move(live.runner);
  live.running = false;
  live.target.reset();
  handlers_.fetch_sub(1, std::memory_order_relaxed);
  if (!dropped) {
    if (e && !live.cancelled) {
      count.handler_failures.fetch_add(1, std::memory_order_relaxed);
      auto why = what_of(e);
      if (const auto &asked = live.asked.core())
        why = without_secrets(why, asked->head);
      setup_->report("A handler ended by an exception: " + why, &live.handle, "handler_failed");
    }
    if (live.open)
      live.handle.start_close(e ? close_code::internal_error : close_code::normal);
  }
  drop_if_over(live);
}

void server_shard::session_ended(live_session &live, const session &s) noexcept {
  const auto stats = s.stats();
  {
    std::lock_guard lock(sessions_mutex_);
    live.open = false;
    ended_.messages_received += stats.messages_received;
    ended_.messages_sent += stats.messages_sent;
    ended_.messages_dropped += stats.messages_dropped;
  }
  measures.note_end(s);
  for (auto *walk = walks_; walk; walk = walk->next())
    walk->on_ended(live, s);
  log_end(s);
  if (s.end() == error::evicted)
    count.evicted.fetch_add(1, std::memory_order_relaxed);
  live.permit.release();
  live.user_seat.reset();
  if (live.counted)
    open_.fetch_sub(1, std::memory_order_relaxed);
  if (draining_ && live.counted)
    note_drained(s);
  drop_if_over(live);
}

void server_shard::drop_if_over(live_session &live) noexcept {
  if (live.open || live.running)
    return;
  const auto last = std::exchange(live.self, nullptr);
  for (auto *walk = walks_; walk; walk = walk->next())
    walk->on_unlink(live);
  {
    std::lock_guard lock(sessions_mutex_);
    if (unlink(live))
      by_id_.erase(live.handle.id());
  }
  check_idle();
}

void server_shard::check_idle() noexcept {
  if (stopping_ && idle_ && visits_.next == &visits_ && sessions_.next == &sessions_)
    std::exchange(idle_, nullptr)();
}

void server_shard::begin_stop(std::function<void()> idle) {
  stopping_ = true;
  to_close_.clear();
  idle_ = std::move(idle);
  close_listeners();
  // What follows may end something at once, and so change the lists.
  const auto all = sessions_now();
  for (const auto &v : visits_now()) {
    v->interrupted = true;
    const auto at = v->at.load();
    if (at != http_visit::phase::working && at != http_visit::phase::stalled) // end with the answer
      v->cancel.emit(asio::cancellation_type::terminal);
  }
  for (const auto &live : all)
    if (live->open)
      live->handle.start_close(close_code::going_away);
  check_idle();
}

void server_shard::cut(const std::function<void(stop_report)> &told) {
  stopping_ = true;
  to_close_.clear();
  close_listeners();
  const auto all = sessions_now();
  const auto visits = visits_now();
  stop_report report;
  for (const auto &live : all) {
    live->cancelled = live->running;
    report.handlers_cancelled += live->running;
    report.sessions_aborted += live->open;
  }
  told(report);
  for (const auto &live : all)
    if (live->open)
      live->handle.abort();
  for (const auto &live : all)
    if (live->running)
      live->cancel.emit(asio::cancellation_type::terminal);
  for (const auto &v : visits) {
    v->interrupted = true;
    v->cancel.emit(asio::cancellation_type::terminal);
  }
}

void server_shard::close_listeners() noexcept {
  for (const auto &door : doors_) {
    door->listener().close();
    note_accept_errors(*door);
  }
}

std::vector<std::shared_ptr<live_session>> server_shard::sessions_now() const {
  std::vector<std::shared_ptr<live_session>> all;
  for_each<live_session>(sessions_, [&](live_session &live) { all.push_back(live.self); });
  return all;
}

std::vector<std::shared_ptr<http_visit>> server_shard::visits_now() const {
  std::vector<std::shared_ptr<http_visit>> all;
  for_each<http_visit>(visits_, [&](http_visit &v) { all.push_back(v.shared_from_this()); });
  return all;
}

void server_shard::add_counters(server_stats &stats) const noexcept {
  const auto value = [](const auto &one) { return one.load(std::memory_order_acquire); };
  stats.accepted += value(count.accepted);
  stats.upgraded += value(count.upgraded);
  stats.refused_limit += value(count.refused_limit);
  stats.refused_other += value(count.refused_other);
  stats.handshakes_failed += value(count.handshakes_failed);
  stats.accept_errors += value(count.accept_errors);
  stats.handler_failures += value(count.handler_failures);
  stats.evicted += value(count.evicted);
  stats.refused_unauthorised += value(count.refused_unauthorised);
  stats.refused_origin += value(count.refused_origin);
  stats.refused_address += value(count.refused_address);
  stats.refused_user += value(count.refused_user);
  stats.refused_proxy += value(count.refused_proxy);
  stats.handshakes_evicted += value(count.handshakes_evicted);
  stats.users_ousted += value(count.users_ousted);
  stats.tls_handshakes += value(count.tls_handshakes);
  stats.tls_failed += value(count.tls_failed);
  stats.tls_resumed += value(count.tls_resumed);
  stats.connections += value(open_);
  stats.handlers += value(handlers_);
}

void server_shard::add_to(server_stats &stats) const {
  add_counters(stats);
  std::lock_guard lock(sessions_mutex_);
  const auto add = [&](const session_stats &s) {
    stats.messages_received += s.messages_received;
    stats.messages_sent += s.messages_sent;
    stats.messages_dropped += s.messages_dropped;
  };
  add(ended_);
  for_each<live_session>(sessions_, [&](live_session &live) {
    if (live.open)
      add(live.handle.stats());
  });
}

session server_shard::find(session_id id) const {
  std::lock_guard lock(sessions_mutex_);
  const auto found = by_id_.find(id);
  return found != by_id_.end() && found->second->open ? found->second->handle : session();
}

void server_shard::add_to(std::vector<open_connection> &connections) const {
  std::lock_guard lock(sessions_mutex_);
  for_each<live_session>(sessions_, [&](live_session &live) {
    if (live.open)
      connections.push_back({live.handle, live.asked});
  });
}

void server_shard::add_to(std::vector<session> &sessions) const {
  std::lock_guard lock(sessions_mutex_);
  for_each<live_session>(sessions_, [&](live_session &live) {
    if (live.open)
      sessions.push_back(live.handle);
  });
}

} // namespace chorus::detail
