#pragma once
// The state of a reconnecting client. It lives on one shard: there its coroutine `supervise` dials,
// receives, backs off. What verbs share with it (queues, state, who waits) is behind one mutex, since
// verbs come from any thread and must answer at once; nothing is called while it is held.

#include <chorus/async/parked.hpp>
#include <chorus/async/shard.hpp>
#include <chorus/base/ring.hpp>
#include <chorus/client/client.hpp>
#include <chorus/client/plan.hpp>
#include <chorus/client/resume_memory.hpp>
#include <chorus/client/wait_list.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace chorus::detail {

// A message in the outbox.
struct queued_message {
  struct terms {
    std::string key;
    time_point expires = time_point::max();
  };
  message content;
  std::unique_ptr<terms> extras; // null: neither key nor time to live
};

// Takes the place of `receive` and `on_message` in a client. Called on its shard, never with the mutex
// held.
class client_watcher {
public:
  virtual ~client_watcher() = default;
  // `published`: to a room, by whoever may publish there; known under the resume protocol alone.
  virtual void on_message(const message &m, bool published) = 0;
  // A connection has ended. What it had not begun is in the outbox again.
  virtual void on_lost(const failure &why) = 0;
  // The last call: the client has ended, for good.
  virtual void on_ended(const failure &why) = 0;
};

class client_core final : public std::enable_shared_from_this<client_core>, private resident {
public:
  // Throws std::invalid_argument.
  client_core(std::shared_ptr<shard> home, client_options options);
  // On the shard that the options ask for. Throws the same.
  static std::shared_ptr<client_core> make(runtime &rt, client_options options);

  void launch();
  // The handle has gone: ends without waiting for anything, from any thread.
  void abandon() noexcept;

  // The verbs. `self` may be null (a client that was moved from): not_open.
  static task<result<>> connected(std::shared_ptr<client_core> self);
  static task<result<message>> receive(std::shared_ptr<client_core> self);
  static task<result<placed_message>> receive_placed(std::shared_ptr<client_core> self);
  static task<result<>> send(std::shared_ptr<client_core> self, message m,
                             std::unique_ptr<queued_message::terms> extras = {});
  static task<result<>> flush(std::shared_ptr<client_core> self);
  static task<result<>> close(std::shared_ptr<client_core> self, close_code code,
                              std::string reason);
  result<> try_send(const message &m, std::unique_ptr<queued_message::terms> extras = {});
  std::unique_ptr<queued_message::terms> terms_of(const client_send_options &options) const;
  void reconnect_now();
  // Before `launch`: how many attempts the first connection may take; 0: as max_attempts says.
  void limit_first_attempts(unsigned most) noexcept { first_attempts_ = most; }
  // Before `launch`: called on the shard for each attempt that has failed, before on_error. Must not throw.
  void report_attempts(std::function<void(const failure &)> to) { attempt_failed_ = std::move(to); }
  client_state state() const noexcept;
  client_stats stats() const;
  session current() const;
  failure last_failure() const;

  const std::shared_ptr<shard> &home() const noexcept { return home_; }
  // Any thread: while there is one, only the watcher gets messages.
  bool claim_receiver();
  void release_receiver();
  // On the shard, with the claim: what has arrived before comes first. Null: nobody watches any more.
  void watch(std::shared_ptr<client_watcher> watcher);
  // Takes from the outbox what `keep` says no to. It is called with the mutex held, so it must not
  // call the client. On the shard.
  void sift_outbox(const std::function<bool(const message &)> &keep);

private:
  // Held by `supervise`, even before its first step: however that ends, the client has ended.
  class lease {
  public:
    explicit lease(std::shared_ptr<client_core> core) noexcept : core_(std::move(core)) {}
    lease(lease &&) noexcept = default;
    ~lease() {
      if (core_)
        core_->supervisor_gone();
    }
    client_core &operator*() const noexcept { return *core_; }

  private:
    std::shared_ptr<client_core> core_;
  };
  // A `send` that waits for room.
  struct sender final : waiter {
    sender(client_core &core, const boost::asio::any_io_executor &executor, queued_message m)
        : waiter(executor), owner(core), content(std::move(m)) {}
    ~sender() {
      std::lock_guard lock(owner.mutex_);
      wait_list::remove(*this);
    }
    client_core &owner;
    queued_message content;
    std::optional<result<>> outcome;
  };

  struct arrived {
    message content;
    message_place place;
  };
  template <class T> static task<result<T>> take_next(std::shared_ptr<client_core> self);
  arrived take_from_inbox(std::unique_lock<std::mutex> &);

  // client_resume.cpp
  void prepare_resume();
  std::unique_ptr<session_envelope> make_envelope();
  // Reports what happened before the next message; `place`, if given, gets that message's.
  void catch_up(const session &s, message_place *place);

  // Waits on `list` until `pred`, which is asked under the mutex; false when cancelled before that.
  template <class Pred> task<bool> until(wait_list &list, Pred pred);
  using lock = std::unique_lock<std::mutex>;

  // client_outbox.cpp. With `lock&`: to be called with the mutex held.
  std::optional<result<>> offer(lock &, queued_message &m);
  result<> check(const message &m) const;
  bool fits(lock &, std::size_t size) const noexcept;
  // Gives the message the place of an older one of its key, if there is one and it fits there.
  bool replace(lock &, queued_message &m);
  void note_extras(lock &, const queued_message &m);
  void push(lock &, queued_message m);
  queued_message pop(lock &);
  // The same without those that have expired; false when nothing is left.
  bool pop_due(lock &, queued_message &m);
  void put_back(lock &, queued_message m);
  void admit(lock &);
  void discard_outbox(lock &, const failure &why);

  // client_delivery.cpp
  void handed_over(lock &, queued_message m);
  void kick(); // any thread: has `drain` run
  void drain();
  bool gone(const session &s, const failure &why) const noexcept;
  bool must_wait(lock &, const session &s);
  static task<> write(std::shared_ptr<client_core> self);
  void account(session &s);

  // client_unsent.cpp: what will not be sent.
  bool expired(const queued_message &m) const noexcept;
  void drop(lock &, queued_message m, unsent_reason reason, const failure &why = {});
  bool purge(lock &); // of what has expired; true: something has
  void note_report(lock &);
  void report_unsent();
  void arm_expiry();
  task<> leave_outbox(failure why);

  // client_events.cpp, on the shard.
  struct queued_event {
    const char *name = "";
    std::function<void()> plain;
    std::function<task<>()> coroutine;
  };
  // Runs the handlers at once if they are plain functions and no coroutine runs; else soon, in order.
  template <class... Args, class... Given>
  void emit(const char *name, const event_handler<Args...> &handler,
            void (client_listener::*told)(Args...), Given &...given) noexcept;
  template <class F> void run_plain(const char *name, F &&f) noexcept;
  void enqueue(queued_event event);
  static task<> tell_queued(std::shared_ptr<client_core> self);
  failure handler_threw(const char *name, const std::exception_ptr &thrown) noexcept;
  // Until no handler runs. To be awaited only while `telling_`.
  task<> settled();
  void cancel_handlers() noexcept;

  // client_supervision.cpp, on the shard.
  static task<> supervise(lease held);
  task<failure> serve(session s);
  task<> greet(session s);
  task<failure> pump(session &s);
  void enter(client_state s);

  // client_attempt.cpp
  task<result<session>> attempt(std::shared_ptr<connect_plan> plan);
  static task<result<session>> open(std::shared_ptr<client_core> self,
                                    std::shared_ptr<const connect_plan> plan);
  static task<result<session>> authenticate(std::shared_ptr<client_core> self, session s);
  void shuffle() noexcept;
  void choose_next() noexcept;
  void choose_again() noexcept;
  result<> prepare_tls(connect_plan &plan);
  bool out_of_attempts(const failure &why) noexcept;
  failure exhausted(const failure &last) const;
  bool met_too_big_again(const failure &why) noexcept;
  failure too_big(const failure &last) const;

  // client_backoff.cpp
  task<> back_off(duration delay);
  result<duration> delay_after(const failure &why, bool connected) noexcept;
  void check_connection();
  static task<> check(std::shared_ptr<client_core> self, session s);

  // client_closing.cpp
  void begin_close();
  static task<> close_session(std::shared_ptr<client_core> self, session s);
  void abort_now();
  task<> finish(failure why, result<> close_outcome);
  void supervisor_gone() noexcept;
  void tell_watcher_of_end();
  // client_log.cpp
  session_id begin_attempt();
  void note_connected(const session &s);
  void log_attempt(const connect_plan &plan, std::uint64_t number) const noexcept;
  void log_connected(const session &s, bool again) const noexcept;
  void log_failed(std::uint64_t id, const failure &why) const noexcept;
  void log_gone(const session &s, const failure &why, bool wanted) const noexcept;
  void log_gave_up(const failure &why) const noexcept;
  void log_handler_failed(const char *name) const noexcept;
  void on_shard_gone() noexcept override;
  bool stopping() const;
  bool abandoned() const;
  bool inbox_full(lock &) const noexcept;
  bool hears_messages() const noexcept {
    return options_.on_message ||
           (options_.listener && options_.listener->hears_.load(std::memory_order_relaxed));
  }
  std::uint64_t random() noexcept;

  const std::shared_ptr<shard> home_;
  const client_options options_;
  // Changed between attempts only, on the shard.
  std::vector<std::shared_ptr<connect_plan>> plans_;
  bool framed_only_ = false; // no URL is a WebSocket, so a message can be checked beforehand

  mutable std::mutex mutex_;
  client_state state_ = client_state::connecting;
  bool ready_ = false;   // open, and the outbox may be drained
  bool closing_ = false; // nothing is accepted any more
  bool ended_ = false;
  bool abandoned_ = false;
  bool supervised_ = true; // `supervise` is there, or will be
  bool receiving_ = false;
  bool hurry_ = false;            // reconnect_now
  bool waited_ = false;           // the backoff is over
  bool writing_ = false;          // a coroutine waits for room in the session
  bool in_hand_ = false;          // a message is between outbox and session
  bool drain_posted_ = false;     // a drain is on its way to the shard
  bool kept_for_receive_ = false; // beside `on_message`: somebody has begun to receive
  bool accounted_ = true;         // the present session's figures are in `stats_`
  bool report_posted_ = false;
  unsigned keyed_ = 0;  // messages in the outbox that have a key
  unsigned mortal_ = 0; // and those that have a time to live
  close_code close_code_ = close_code::normal;
  std::string close_reason_;
  result<> close_outcome_;
  failure end_;
  failure last_failure_;
  session session_; // written on the shard only
  ring<arrived> inbox_;
  std::size_t inbox_bytes_ = 0;
  ring<queued_message> outbox_;
  std::size_t outbox_bytes_ = 0;
  ring<unsent_message> reports_;
  std::size_t report_bytes_ = 0;
  // Of messages with extras that the present session may still give back: their number in `handed_`.
  ring<std::pair<std::uint64_t, queued_message>> lent_;
  client_stats stats_;
  std::optional<time_point> down_since_;
  time_point expiry_armed_ = time_point::max(); // when `arm_expiry` will look at the outbox
  wait_list open_or_ended_;
  wait_list readable_;
  wait_list senders_; // of `sender`
  wait_list idle_;
  wait_list supervisor_;

  // The shard's.
  std::shared_ptr<resume_memory> memory_; // null: off
  std::shared_ptr<client_watcher> watcher_;
  boost::asio::cancellation_signal cancel_attempt_;
  std::shared_ptr<transport::tls_context> tls_context_; // of all URLs; null before it is needed
  bool attempting_ = false;
  bool closer_running_ = false;
  std::uint64_t handed_ = 0; // to the present session
  std::uint64_t direct_ = 0; // accepted by the present session in `on_connect`
  std::size_t next_url_ = 0;
  unsigned failed_in_row_ = 0;
  chorus::backoff backoff_;
  std::uint64_t random_state_;
  // Owned by the shard's wheel: stopped when `supervise` ends.
  struct alarm final : timer {
    alarm(client_core &c, callback fired) noexcept : timer(fired), owner(c) {}
    client_core &owner;
  };
  alarm expiry_timer_;
  alarm handler_limit_; // of coroutines that run while the client closes
  boost::asio::cancellation_signal cancel_handler_;
  ring<queued_event> events_;
  bool telling_ = false;          // a coroutine of `events_` runs
  bool greeting_ = false;         // it is `on_connect`
  bool handlers_limited_ = false; // those that begin are cancelled soon
  bool checking_ = false;         // a ping of `reconnect_now` is under way
  bool no_wait_ = false;          // it has found the connection dead
  bool ever_connected_ = false;
  unsigned first_attempts_ = 0;
  std::function<void(const failure &)> attempt_failed_;
};

template <class Pred> task<bool> client_core::until(wait_list &list, Pred pred) {
  {
    std::lock_guard held(mutex_);
    if (pred())
      co_return true;
  }
  const auto cancellation = co_await boost::asio::this_coro::cancellation_state;
  scoped_waiter w(mutex_, co_await boost::asio::this_coro::executor);
  for (;;) {
    {
      std::lock_guard held(mutex_);
      if (pred())
        co_return true;
      list.add(w);
    }
    co_await w.wait();
    if (cancellation.cancelled() != boost::asio::cancellation_type::none)
      co_return false;
  }
}

template <class F> void client_core::run_plain(const char *name, F &&f) noexcept {
  {
    std::lock_guard held(mutex_);
    if (abandoned_)
      return;
  }
  try {
    f();
  } catch (...) {
    handler_threw(name, std::current_exception());
  }
}

template <class... Args, class... Given>
void client_core::emit(const char *name, const event_handler<Args...> &handler,
                       void (client_listener::*told)(Args...), Given &...given) noexcept {
  if (handler.is_coroutine())
    enqueue(
        {name, {}, [&handler, ... copies = given]() mutable { return handler.start(copies...); }});
  else if (handler && telling_)
    enqueue({name, [&handler, ... copies = given]() mutable { handler(copies...); }, {}});
  else if (handler)
    run_plain(name, [&] { handler(given...); });
  if (!options_.listener)
    return;
  auto &listener = *options_.listener;
  if (telling_)
    enqueue({name,
             [&listener, told, ... copies = given]() mutable { (listener.*told)(copies...); },
             {}});
  else
    run_plain(name, [&] { (listener.*told)(given...); });
}

} // namespace chorus::detail
