#pragma once
// How many bytes the outgoing queues of all sessions of a server may hold together. Each shard knows
// the sum of its own, of the sessions whose peers do not keep up; it adds what has changed to the whole
// once per turn, after the turn's flushes. When that is too much the largest queues go first, on
// whatever shard they are: their sessions are evicted (1013) until the rest fits.

#include <chorus/async/shard.hpp>
#include <chorus/session/session_core.hpp>
#include <chorus/session/terms.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace chorus::detail {

class shard_queues;

class queue_budget {
public:
  explicit queue_budget(std::size_t limit) noexcept : limit_(limit) {} // 0: none
  std::size_t limit() const noexcept { return limit_; }
  std::size_t total() const noexcept { return total_.load(std::memory_order_relaxed); }
  std::uint64_t evicted() const noexcept { return evicted_.load(std::memory_order_relaxed); }

private:
  friend class shard_queues;
  struct round;
  static void relieve(const std::shared_ptr<queue_budget> &self);
  static void choose(const std::shared_ptr<round> &r);
  static void finish(const std::shared_ptr<round> &r);

  const std::size_t limit_;
  std::vector<std::weak_ptr<shard_queues>> shards_; // constant once the server has been made
  std::atomic<std::size_t> total_{0};
  std::atomic<std::uint64_t> evicted_{0};
  std::atomic<bool> busy_{false}; // somebody relieves it
};

// The queues on one shard. Belongs to its thread.
class shard_queues final : public flushable, public std::enable_shared_from_this<shard_queues> {
public:
  // Before the server starts.
  static std::shared_ptr<shard_queues> make(std::shared_ptr<shard> home,
                                            std::shared_ptr<queue_budget> whole);
  ~shard_queues();
  shard_queues(const shard_queues &) = delete;
  shard_queues &operator=(const shard_queues &) = delete;

  class meter final : public queue_meter {
  public:
    explicit meter(std::shared_ptr<shard_queues> owner) noexcept : owner_(std::move(owner)) {}
    ~meter() override = default; // its session is over: it holds nothing
    void watch(session_core &core) noexcept { core_ = &core; }
    void changed(std::size_t bytes) noexcept override;

  private:
    friend class shard_queues;
    friend class queue_budget;
    std::shared_ptr<shard_queues> owner_;
    session_core *core_ = nullptr;
    std::size_t bytes_ = 0;
    meter *next_ = nullptr; // linked while it holds something
    meter *prev_ = nullptr;
  };

  void flush_turn() noexcept override;

private:
  friend class queue_budget;
  shard_queues(std::shared_ptr<shard> home, std::shared_ptr<queue_budget> whole);

  std::shared_ptr<shard> home_;
  std::shared_ptr<queue_budget> whole_;
  meter *first_ = nullptr;
  std::size_t sum_ = 0;
  std::size_t told_ = 0; // what `whole_` knows of `sum_`
  bool behind_flushes_ = false;
};

} // namespace chorus::detail
