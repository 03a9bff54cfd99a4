#pragma once
// What callers of the Redis broker are owed: each call holds its answer and its part of the budget until it
// is answered, and answers shut_down when it is let go without.

#include <chorus/base/result.hpp>
#include <chorus/cluster/redis_reply.hpp>
#include <chorus/server/broker.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::detail {

// From any thread.
class redis_budget {
public:
  redis_budget(std::size_t calls, std::size_t bytes) noexcept
      : most_calls_(calls), most_bytes_(bytes) {}

  bool take(std::size_t bytes) noexcept {
    const auto had = bytes_.fetch_add(bytes, std::memory_order_relaxed);
    if (calls_.fetch_add(1, std::memory_order_relaxed) < most_calls_ &&
        (had == 0 || had + bytes <= most_bytes_))
      return true;
    give_back(bytes);
    return false;
  }
  void give_back(std::size_t bytes) noexcept {
    calls_.fetch_sub(1, std::memory_order_relaxed);
    bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  std::size_t calls() const noexcept { return calls_.load(std::memory_order_relaxed); }
  std::size_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

private:
  const std::size_t most_calls_;
  const std::size_t most_bytes_;
  std::atomic<std::size_t> calls_{0};
  std::atomic<std::size_t> bytes_{0};
};

template <class T> class redis_call {
public:
  using answer = std::function<void(result<T>)>;

  redis_call(answer a, std::shared_ptr<redis_budget> taken, std::size_t bytes)
      : answer_(std::move(a)), taken_(std::move(taken)), bytes_(bytes) {}
  redis_call(const redis_call &) = delete;
  redis_call &operator=(const redis_call &) = delete;
  ~redis_call() {
    if (answer_)
      (*this)(failure(error::shut_down, stage::none, "the runtime that spoke to Redis has ended"));
  }
  void operator()(result<T> r) {
    if (const auto told = std::exchange(answer_, nullptr)) {
      taken_->give_back(bytes_);
      told(std::move(r));
    }
  }

private:
  answer answer_;
  std::shared_ptr<redis_budget> taken_;
  std::size_t bytes_;
};
template <class T> using redis_owed = std::shared_ptr<redis_call<T>>;

// What kept a command from its effect, or hid it; no code where its reply is to be read.
failure why_not(const redis_outcome &o);
// Redis' sentence and what to do about it.
failure refused_by_redis(const std::string &error);
// An error reply to what would be executed at another time.
bool is_not_executed(const redis_reply &r);
// The answer is not what the script answers: another version's, or somebody else's.
failure redis_nonsense();

// What is published to a room's channel.
struct redis_news {
  enum class kind : unsigned char { unknown, kept, passing, entered, left, gap };
  kind is = kind::unknown;
  std::string epoch{};
  std::uint64_t offset = 0;
  std::uint64_t before = 0; // of a message that is kept: the offset before it; 0: it is the first
  std::string_view rest{};  // the message or the member
};
redis_news read_redis_news(std::string_view payload);

// "INCARNATION OFFSET MEMBER"
result<broker_member> read_present(std::string_view value);

} // namespace chorus::detail
