#pragma once
// The connections to Redis: one for commands and one for subscriptions to each master, made when needed and
// made again when lost. Finds the masters (by address, by Sentinel, by the slots of a cluster), follows
// MOVED and ASK, loads the scripts. Belongs to the thread of its shard, but for what looks at its state.

#include <chorus/async/shard.hpp>
#include <chorus/cluster/redis.hpp>
#include <chorus/cluster/redis_reply.hpp>
#include <chorus/cluster/redis_target.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

// A Lua script: sent by its SHA-1, and by its text where Redis does not know it.
struct redis_script {
  std::string text{};
  std::string sha{}; // 40 hexadecimal digits
};
redis_script make_redis_script(std::string text);

// Where a call may have been executed whose answer never came. Whoever makes it again gives it the same one.
class redis_trail {
public:
  void lost_at(const std::string &run) {
    elsewhere_ = elsewhere_ || (!run_.empty() && run_ != run);
    run_ = run;
  }
  // Nowhere but in the process `run`, which has what it did then.
  bool only_at(const std::string &run) const noexcept {
    return !elsewhere_ && (run_.empty() || run_ == run);
  }

private:
  std::string run_; // the process' run_id
  bool elsewhere_ = false;
};

// bad_option with a sentence; a pool is to be made only of those that pass.
result<> check_redis_options(const redis_options &options);

class redis_pool_core;

class redis_pool {
public:
  // Called on the shard's thread, perhaps from within a call of the pool; may call it, and may close it.
  struct listener {
    // Something was published to a channel that is subscribed.
    std::function<void(std::string_view channel, std::string_view payload)> on_message{};
    // Redis has confirmed a channel: `again`, since the connection was lost or the channel has moved, so
    // that something may have been missed.
    std::function<void(const std::string &channel, bool again)> on_subscribed{};
    // The masters are reached (all of them), or are not: `why`. Told at each change, and once at the
    // beginning. On the way up what was undecided is answered first, while `up` is true already.
    std::function<void()> on_up{};
    std::function<void(const failure &why)> on_down{};
    // A sentence for the log: lost, back, another master.
    std::function<void(std::string_view)> on_event{};
  };

  static std::shared_ptr<redis_pool> make(std::shared_ptr<shard> home, const redis_target &target,
                                          const redis_options &options, listener told);
  ~redis_pool(); // closes: on the shard's thread, unless it was closed before
  redis_pool(const redis_pool &) = delete;
  redis_pool &operator=(const redis_pool &) = delete;

  // Connects from here on. What the options have wrong (a certificate file) is told by on_down, for good.
  void begin();
  // Ends all; what waits is answered not_done or doubtful. Nothing is told any more. The same happens when
  // the shard goes.
  void close() noexcept;

  // `key` (its hash tag) says which master is asked; commands with one key are sent in the order of the
  // calls. Answered once, perhaps within the call, within answer_timeout of being sent, or
  // look_up_timeout when the connection is lost. While there is no connection: at once, not_done.
  // Too many waiting: not_done with queue_full. Of a command that Redis refused without executing it, as it
  // is no master (any more), not_done, too; other error replies are answers.
  void command(std::string_view key, std::vector<std::string> words, redis_answer answer);
  // EVALSHA with `keys`, all in one slot (there is at least one), and `arguments`. The first use on a
  // connection is EVAL. When Redis forgets scripts in between (SCRIPT FLUSH), those that it refuses go again
  // as EVAL, in their order and before what is called later about the same slot; commands that were
  // under way behind them, and that it did execute, have overtaken them. The same holds for what a cluster
  // redirects. With a `trail` a last argument is added: "1" when `only_at` holds for the Redis that gets it,
  // else "0".
  void script(const redis_script &which, std::vector<std::string> keys,
              std::vector<std::string> arguments, redis_answer answer,
              std::shared_ptr<redis_trail> trail = {});
  // On the master of the channel, as long as it is not unsubscribed: sent again by itself after a loss.
  // In a cluster SSUBSCRIBE, else SUBSCRIBE.
  void subscribe(std::string channel);
  void unsubscribe(const std::string &channel);

  // From any thread:
  bool clustered() const noexcept; // so that messages are published by SPUBLISH
  bool up() const noexcept;        // of a cluster: all of its masters that are known
  failure why_down() const;
  broker_stats stats() const; // connects, disconnects, commands, waiting, waiting_bytes, lag, away

private:
  redis_pool() = default;
  std::shared_ptr<redis_pool_core> core_;
};

} // namespace chorus::detail
