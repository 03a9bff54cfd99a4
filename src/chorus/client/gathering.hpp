#pragma once
// Tasks on one shard that are awaited together, so many at a time. Each can be given up alone.

#include <chorus/async/shard.hpp>
#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/client/wait_list.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace chorus::detail {

// Everything happens on the shard, construction and destruction aside.
class gathering : public std::enable_shared_from_this<gathering> {
public:
  // `make` is asked for the task of a number once it is its turn.
  gathering(std::shared_ptr<shard> home, std::size_t count, std::size_t at_a_time,
            std::function<task<result<>>(std::size_t)> make);

  // Starts, and completes with the outcome of each. At the deadline (zero: none) those that are left are
  // given up. Cancelling gives all of them up and throws, by Asio's own rule.
  static task<result<std::vector<result<>>>> all(std::shared_ptr<gathering> self,
                                                 std::chrono::milliseconds deadline);

  // Cancels the task, or does not begin it: its outcome is `why`, unless it has one by then.
  void give_up(std::size_t number, const failure &why);
  // One of its attempts has failed; the `limit`th of a task that has begun is its outcome. 0: none is.
  void attempt_failed(std::size_t number, unsigned limit, const failure &why);

private:
  struct slot {
    boost::asio::cancellation_signal stop;
    std::optional<failure> given_up;
    std::optional<result<>> outcome;
    bool running = false;
    unsigned failed = 0;
  };
  void start_more();
  void start(std::size_t number);
  void settle(slot &s, result<> outcome);
  void give_up_all(const failure &why);

  const std::shared_ptr<shard> home_;
  const std::size_t at_a_time_;
  const std::function<task<result<>>(std::size_t)> make_;
  std::vector<slot> slots_;
  std::size_t next_ = 0;
  std::size_t running_ = 0;
  std::size_t settled_ = 0;
  std::mutex mutex_; // of the list
  wait_list finished_;
};

} // namespace chorus::detail
