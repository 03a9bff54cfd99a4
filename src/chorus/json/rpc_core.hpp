#pragma once
// The state of one `rpc`. Belongs to its shard's thread, but for what is marked as readable from any
// thread. What carries the messages, a session or a reconnecting client, is behind `rpc_channel`.

#include <chorus/async/parked.hpp>
#include <chorus/async/shard.hpp>
#include <chorus/json/rpc.hpp>
#include <chorus/json/rpc_document.hpp>
#include <chorus/session/counter.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace chorus::detail {

// On the shard, but for `home`. `send` and `try_send` as of a session.
class rpc_channel {
public:
  virtual ~rpc_channel() = default;
  virtual const std::shared_ptr<shard> &home() const noexcept = 0;
  // From here on every message goes to `on_message`, an end to `on_ended`.
  virtual void attach(const std::shared_ptr<rpc_core> &to) = 0;
  virtual void detach() noexcept = 0;
  virtual result<> try_send(const message &m) = 0;
  virtual task<result<>> send(message m) = 0;
  // The peer neither waits with its requests nor reads the answers.
  virtual void give_up_on_peer() noexcept = 0;
  // Takes from what was accepted and is on no connection that which `keep` says no to.
  virtual void sift(const std::function<bool(const message &)> &keep) { static_cast<void>(keep); }
};

using rpc_outcomes = std::vector<result<boost::json::value>>;

// A message on its way out, with the requests in it; lives in the frame of the coroutine that waits.
struct rpc_outgoing {
  enum class place : unsigned char { none, queued, in_hand, sent };

  rpc_outgoing(rpc_core &c, message m, std::uint64_t first, std::size_t count);
  ~rpc_outgoing();
  rpc_outgoing(const rpc_outgoing &) = delete;
  rpc_outgoing &operator=(const rpc_outgoing &) = delete;

  bool settled() const noexcept {
    return refused.has_value() || (missing == 0 && (where == place::sent || !outcomes.empty()));
  }
  void settle(std::size_t index, result<boost::json::value> outcome);
  void refuse(failure why);
  void fail_missing(const failure &why);
  void withdraw();

  struct deadline final : timer {
    explicit deadline(rpc_outgoing &o) noexcept
        : timer([](timer &t) noexcept {
            auto &late = static_cast<deadline &>(t).owner;
            late.timed_out = true;
            late.sleeper.wake_later();
          }),
          owner(o) {}
    rpc_outgoing &owner;
  };

  rpc_core &core;
  message document;
  std::uint64_t first_id;
  std::vector<std::optional<result<boost::json::value>>> outcomes; // one per request
  std::size_t missing;
  std::optional<failure> refused; // nothing was sent
  place where = place::none;
  bool idempotent = false;
  bool still_queued = false; // seen by `sift`
  bool timed_out = false;
  parked sleeper;
  deadline limit;
};

// The answers to one incoming batch.
struct rpc_reply {
  std::vector<std::string> parts; // empty: a notification's
  std::size_t missing = 0;
};

// A running handler.
struct rpc_running {
  boost::asio::cancellation_signal cancel;
  bool cancelled = false;
};

class rpc_core final : public std::enable_shared_from_this<rpc_core>, private resident {
public:
  rpc_core(std::unique_ptr<rpc_channel> channel, const rpc_methods &methods, rpc_options options);

  // Any thread.
  void start();
  void stop() noexcept;
  const std::shared_ptr<shard> &home() const noexcept { return channel_->home(); }
  std::uint64_t take_ids(std::size_t count) noexcept {
    return next_id_.fetch_add(count, std::memory_order_relaxed);
  }
  rpc_stats stats() const;

  // The verbs, anywhere.
  static task<result<rpc_outcomes>> request(std::shared_ptr<rpc_core> core, message document,
                                            std::uint64_t first, std::size_t count,
                                            rpc_request_options options);
  static task<result<>> notify(std::shared_ptr<rpc_core> core, message document);
  static task<failure> ended(std::shared_ptr<rpc_core> core);

  // For channels.
  void on_message(const message &m);
  // One that is not the peer's own: no JSON-RPC, whatever it looks like.
  void on_published(const message &m);
  // The connection has gone, another may come.
  void on_lost(const failure &why);
  void on_ended(const failure &why) noexcept;
  bool over() const noexcept { return over_; }

private:
  friend struct rpc_outgoing;
  struct pending {
    rpc_outgoing *call;
    std::size_t index;
  };

  // On the shard.
  static task<result<rpc_outcomes>> ask(std::shared_ptr<rpc_core> core, message document,
                                        std::uint64_t first, std::size_t count,
                                        rpc_request_options options);
  static task<result<>> tell(std::shared_ptr<rpc_core> core, message document);
  static task<failure> wait_over(std::shared_ptr<rpc_core> core);
  void enqueue(rpc_outgoing &call);
  static task<> write(std::shared_ptr<rpc_core> core);
  void stop_here() noexcept;
  void on_shard_gone() noexcept override;
  void cancel_handlers() noexcept;
  std::vector<rpc_outgoing *> calls() const;

  // rpc_incoming.cpp
  void on_batch(boost::json::array &&entries);
  // `reply`: of a batch.
  void on_entry(rpc_entry &&entry, const std::shared_ptr<rpc_reply> &reply, std::size_t index);
  void on_answer(rpc_entry &&entry);
  void run_handler(std::shared_ptr<const rpc_method> method, rpc_entry &&entry,
                   const std::shared_ptr<rpc_reply> &reply, std::size_t index);
  static task<> handle(std::shared_ptr<rpc_core> core, std::shared_ptr<rpc_running> slot,
                       std::shared_ptr<const rpc_method> method, rpc_call call,
                       boost::json::value id, std::shared_ptr<rpc_reply> reply, std::size_t index);
  void report(std::string_view method, const std::exception_ptr &e) noexcept;
  // What is to be sent now that `text` is there; nothing while others of the batch are missing.
  static std::optional<message> complete(const std::shared_ptr<rpc_reply> &reply, std::size_t index,
                                         std::string text);
  void answer_now(const std::shared_ptr<rpc_reply> &reply, std::size_t index, std::string text);

  const std::unique_ptr<rpc_channel> channel_;
  const std::shared_ptr<const rpc_table> methods_;
  const rpc_options options_;
  std::atomic<std::uint64_t> next_id_{1};

  bool over_ = false;
  bool writing_ = false; // `write` runs
  failure end_;
  std::unordered_map<std::uint64_t, pending> pending_;
  std::deque<rpc_outgoing *> queue_; // for which there was no room
  rpc_outgoing *in_hand_ = nullptr;  // of `write`
  std::unordered_set<std::shared_ptr<rpc_running>> running_;
  std::vector<parked *> ended_waiters_;

  counter requests_sent_;
  counter answers_;
  counter answers_late_;
  counter answers_stray_;
  counter timeouts_;
  counter requests_received_;
  counter notifications_received_;
  counter refused_;
  counter malformed_;
  counter others_;
  counter handlers_failed_;
  counter in_flight_;
  counter running_now_;
};

} // namespace chorus::detail
