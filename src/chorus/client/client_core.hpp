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

  void launch();
  // The handle has gone: ends without waiting for anything, from any thread.
  void abandon() noexcept;

  // The verbs. `self` may be null (a client that was moved from): not_open.
  static task<result<>> connected(std::shared_ptr<client_core> self);
  static task<result<message>> receive(std::shared_ptr<client_core> self);
  static task<result<placed_message>> receive_placed(std::shared_ptr<client_core> self);
  static task<result<>> send(std::shared_ptr<client_core> self, message m);
  static task<result<>> flush(std::shared_ptr<client_core> self);
  static task<result<>> close(std::shared_ptr<client_core> self, close_code code,
                              std::string reason);
  result<> try_send(const message &m);
  void reconnect_now();
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
    sender(client_core &core, const boost::asio::any_io_executor &executor, message m)
        : waiter(executor), owner(core), content(std::move(m)) {}
    ~sender() {
      std::lock_guard lock(owner.mutex_);
      wait_list::remove(*this);
    }
    client_core &owner;
    message content;
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
  std::optional<result<>> offer(lock &, const message &m);
  result<> check(const message &m) const;
  bool fits(lock &, std::size_t size) const noexcept;
  void push(lock &, message m);
  message pop(lock &);
  void put_back(lock &, message m);
  void handed_over(lock &);
  void admit(lock &);
  void discard_outbox(lock &, const failure &why);
  void kick(); // any thread: has `drain` run
  void drain();
  bool gone(const session &s, const failure &why) const noexcept;
  static task<> write(std::shared_ptr<client_core> self);
  void account(session &s);

  // client_supervision.cpp, on the shard.
  static task<> supervise(lease held);
  task<result<session>> attempt(std::shared_ptr<connect_plan> plan);
  static task<result<session>> open(std::shared_ptr<client_core> self,
                                    std::shared_ptr<const connect_plan> plan);
  void shuffle() noexcept;
  void choose_next() noexcept;
  void choose_again() noexcept;
  result<> prepare_tls(connect_plan &plan);
  task<failure> serve(session s);
  task<failure> pump(session &s);
  task<> back_off(duration delay);
  duration delay_after(const failure &why) noexcept;
  failure exhausted(const failure &last) const;
  bool met_too_big_again(const failure &why) noexcept;
  failure too_big(const failure &last) const;
  void begin_close();
  static task<> close_session(std::shared_ptr<client_core> self, session s);
  void abort_now();
  void enter(client_state s);
  void finish(failure why, result<> close_outcome);
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
  void on_shard_gone() noexcept override;
  bool stopping() const;
  bool abandoned() const;
  bool inbox_full(lock &) const noexcept;
  template <class F, class... Args> void call(const F &callback, Args &&...args) noexcept;
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
  bool hurry_ = false;        // reconnect_now
  bool waited_ = false;       // the backoff is over
  bool writing_ = false;      // a coroutine waits for room in the session
  bool in_hand_ = false;      // a message is between outbox and session
  bool drain_posted_ = false; // a drain is on its way to the shard
  close_code close_code_ = close_code::normal;
  std::string close_reason_;
  result<> close_outcome_;
  failure end_;
  failure last_failure_;
  session session_; // written on the shard only
  ring<arrived> inbox_;
  std::size_t inbox_bytes_ = 0;
  ring<message> outbox_;
  std::size_t outbox_bytes_ = 0;
  client_stats stats_;
  std::optional<time_point> down_since_;
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

// A callback that throws has nobody to throw to.
template <class F, class... Args>
void client_core::call(const F &callback, Args &&...args) noexcept {
  if (!callback)
    return;
  {
    std::lock_guard held(mutex_);
    if (abandoned_)
      return;
  }
  callback(std::forward<Args>(args)...);
}

} // namespace chorus::detail
