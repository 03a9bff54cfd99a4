#pragma once
// One event loop: an io_context, its poller, its timer wheel, its read buffer and the flushes that
// are due at the end of the turn. Everything but `post` and the constants belongs to the thread that
// runs the loop. Handles keep the shard alive after its runtime has gone; it then answers `post`
// with false.

#include <chorus/async/poller.hpp>
#include <chorus/async/timer_wheel.hpp>
#include <chorus/base/buffer.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace chorus::detail {

// Something to be flushed once, at the end of the current turn. Intrusive: a flushable is queued at
// most once.
class flushable {
public:
  virtual void flush_turn() noexcept = 0;

protected:
  ~flushable() = default;

private:
  friend class shard;
  bool flush_queued_ = false;
};

// Something that lives on a shard and must end when the shard is torn down around it.
class resident {
public:
  // On the thread that tears down; the io_context still exists but runs nothing any more.
  virtual void on_shard_gone() noexcept = 0;

protected:
  ~resident() = default;

private:
  friend class shard;
  resident *next_ = nullptr;
  resident *prev_ = nullptr;
  bool enrolled_ = false;
};

class shard : public std::enable_shared_from_this<shard> {
public:
  // The read buffer that all connections of the shard share.
  static constexpr std::size_t read_buffer_size = 256 * 1024;

  // With a context of its own, or around `wrapped`, which must outlive the runtime.
  static std::shared_ptr<shard> make(unsigned index, duration tick,
                                     boost::asio::io_context *wrapped = nullptr);
  ~shard();

  unsigned index() const noexcept { return index_; }
  bool wrapped() const noexcept { return wrapped_; }
  boost::asio::io_context &context() noexcept { return *context_; }
  boost::asio::any_io_executor executor() noexcept { return executor_; }

  // True on the thread that runs this loop.
  bool here() const noexcept;
  // The shard whose loop runs on this thread; null on a foreign thread.
  static shard *current() noexcept;
  // The shard registered with the execution context behind `ex`; null when there is none.
  static shard *of(const boost::asio::any_io_executor &ex) noexcept;

  // Runs `f` on the shard's thread, never inline. From any thread; false, and nothing is run, after
  // the shard has stopped.
  template <class F> bool post(F f) {
    std::lock_guard lock(post_mutex_);
    if (stopped_)
      return false;
    boost::asio::post(*context_, [this, self = shared_from_this(), f = std::move(f)]() mutable {
      turn t(*this);
      f();
    });
    return true;
  }
  // Like `post`, but inline when called on the shard's thread.
  template <class F> bool run(F f) {
    if (here()) {
      if (stopped_)
        return false;
      f();
      return true;
    }
    return post(std::move(f));
  }
  bool stopped() const noexcept { return stopped_.load(std::memory_order_acquire); }

  poller &poll() noexcept { return poller_; }
  // Wheel time, and the start of a timer on it: `when` is absolute.
  time_point now() const noexcept { return manual_ ? manual_now_ : clock::now(); }
  duration tick() const noexcept { return wheel_.tick(); }
  void start(timer &t, time_point when);
  void start_after(timer &t, duration d) { start(t, now() + d); }

  // A simulated clock for tests: from here on time moves by `advance` only.
  void use_manual_clock() noexcept;
  void advance(duration d);

  // Has `f` flushed at the end of this turn (or soon, when no turn runs). `f` stays alive till then
  // or withdraws itself.
  void flush_later(flushable &f);
  void withdraw(flushable &f) noexcept;

  // Residents are told when the shard is torn down, unless they leave before.
  void enroll(resident &r) noexcept;
  void leave(resident &r) noexcept;

  // The time at which the present turn began: good enough for coarse deadlines, and free.
  time_point turn_time() const noexcept { return manual_ ? manual_now_ : turn_time_; }

  // A generation of publishes that members have not been given yet: rooms count themselves in while
  // they hold some, so that a session with nothing to catch up with pays one comparison.
  unsigned pending_rooms = 0;

  // The shared read buffer; `lease` gives it away (to a batch of messages) and takes a fresh one.
  buffer &read_buffer();
  buffer lease() { return std::exchange(read_buffer_, buffer()); }

  // Runs `f` and turns an exception that escapes from a resumed coroutine's completion handler into
  // one that leaves the loop's `run()`, with the shard's own state intact.
  template <class F> void guard(F &&f) noexcept {
    try {
      f();
    } catch (...) {
      rethrow_from_loop(std::current_exception());
    }
  }

  // Set up and torn down by the runtime. `begin` starts to watch the poller.
  void begin();
  void run_loop();                // owned contexts only
  void stop_accepting() noexcept; // `post` answers false from here on
  void tear_down() noexcept;      // destroys what still waits; owned contexts are gone afterwards

  // A turn of the loop: marks the thread, and flushes what is due when the outermost one ends.
  class turn {
  public:
    explicit turn(shard &s);
    ~turn();
    turn(const turn &) = delete;
    turn &operator=(const turn &) = delete;

  private:
    shard &shard_;
    shard *previous_;
  };

private:
  shard(unsigned index, duration tick, boost::asio::io_context *wrapped);
  void watch();
  void arm_tick();
  void run_flushes() noexcept;
  void rethrow_from_loop(std::exception_ptr e) noexcept;
  void check_thread();

  struct waits; // the Asio objects, out of this header

  const unsigned index_;
  const bool wrapped_;
  std::unique_ptr<boost::asio::io_context> owned_;
  boost::asio::io_context *context_;
  boost::asio::any_io_executor executor_;
  poller poller_;
  timer_wheel wheel_;
  std::unique_ptr<waits> waits_;
  bool ticking_ = false;
  bool manual_ = false;
  time_point manual_now_{};
  std::vector<flushable *> flushes_;
  std::vector<flushable *> flushing_;
  bool flush_posted_ = false;
  resident *residents_ = nullptr;
  time_point turn_time_{};
  unsigned depth_ = 0;
  buffer read_buffer_;

  mutable std::mutex post_mutex_; // guards the context against its end
  std::atomic<bool> stopped_{false};

  // Who ran the loop last, and whether somebody is in it: two threads are misuse.
  std::atomic<std::thread::id> runner_{};
  std::atomic<int> inside_{0};
};

} // namespace chorus::detail
