#pragma once
// A connection to one Redis that comes back by itself: connects, logs in, has the connection before ended,
// waits longer after each failure. What is said on it is for those who derive: commands, or subscriptions.
// Belongs to the shard.

#include <chorus/async/task.hpp>
#include <chorus/async/timer_wheel.hpp>
#include <chorus/base/backoff.hpp>
#include <chorus/cluster/redis.hpp>
#include <chorus/cluster/redis_connect.hpp>
#include <chorus/cluster/redis_link.hpp>
#include <chorus/cluster/redis_target.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

namespace chorus::detail {

// What all connections of a pool have in common.
struct redis_ground {
  std::shared_ptr<shard> home{};
  redis_options options{};
  redis_target target{};
  std::shared_ptr<transport::tls_context> tls{};
};

// Where the Redis is that a line is for; asked before each attempt.
class redis_locator {
public:
  virtual ~redis_locator() = default;
  virtual task<result<redis_address>> find() = 0;
};

class redis_line : public redis_link::user, public std::enable_shared_from_this<redis_line> {
public:
  redis_line(const redis_line &) = delete;
  redis_line &operator=(const redis_line &) = delete;
  virtual ~redis_line() = default;

  // It stays alive while it is told something.
  void keep(std::weak_ptr<void> owner) { owner_ = std::move(owner); }
  void begin();
  // Nothing is told any more, and no attempt is made.
  virtual void close() noexcept;
  bool open() const noexcept { return link_ && !retiring_; }
  bool tried() const noexcept { return tried_; } // an attempt has failed, or it was open
  const redis_address &where() const noexcept { return where_; }
  const std::string &run() const noexcept { return welcome_.id.run; } // while open
  // Ends this connection and makes another one, at once or when nothing waits for an answer any more.
  void give_up(const failure &why);
  void retire(const failure &why);

protected:
  redis_line(std::shared_ptr<const redis_ground> ground, std::shared_ptr<redis_locator> locator,
             std::string_view name_suffix);

  virtual void opened(const redis_welcome &welcome) = 0;
  // It was open; the link has gone already, `taken` bytes of it were sent.
  virtual void lost(const failure &why, std::uint64_t taken) = 0;
  virtual void failed(const failure &why) = 0; // an attempt to connect
  // A few times within each time limit; perhaps while there is no link.
  virtual void tick(time_point now) = 0;
  virtual bool idle() const noexcept = 0; // nothing waits for an answer
  // So that the login ends what was sent before on another connection; empty: nothing was.
  virtual redis_client_id before() const { return {}; }

  void proven() noexcept { backoff_.reset(); }
  void retire_if_idle();
  std::shared_ptr<void> owner() const noexcept { return owner_.lock(); }
  redis_link *link() noexcept { return link_.get(); }
  const redis_ground &ground() const noexcept { return *ground_; }
  const redis_options &options() const noexcept { return ground_->options; }
  time_point now() const noexcept { return ground_->home->now(); }
  bool closed() const noexcept { return closed_; }

private:
  struct alarm final : timer {
    alarm(redis_line &l, callback f) noexcept : timer(f), line(l) {}
    redis_line &line;
  };
  void on_lost(const failure &why) final;
  void attempt();
  static task<> connect(std::shared_ptr<redis_line> self);
  void connected(redis_address where, redis_connected made);
  void attempt_failed(const failure &why);
  void try_later();
  std::chrono::milliseconds tick_every() const;

  std::shared_ptr<const redis_ground> ground_;
  std::shared_ptr<redis_locator> locator_;
  std::string name_;
  std::weak_ptr<void> owner_;
  backoff backoff_;
  alarm next_attempt_;
  alarm next_tick_;
  boost::asio::cancellation_signal cancel_;
  bool connecting_ = false;
  bool closed_ = false;
  bool tried_ = false;
  bool retiring_ = false;
  failure retire_why_;
  std::shared_ptr<redis_link> link_;
  redis_address where_;
  redis_welcome welcome_;
};

} // namespace chorus::detail
