#pragma once
// `runtime`: the event loops that connections live on. It owns N shards, each an io_context with a
// thread of its own, or wraps one io_context of the user's.
//
//   chorus::runtime rt{{.threads = 2}};
//   rt.run(main_task());
//
// A connection lives on one shard for its whole life and only that shard's thread touches it.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>

namespace boost::asio {
class io_context;
}

namespace chorus {

namespace detail {
class shard;
class runtime_core;
} // namespace detail

struct runtime_options {
  unsigned threads = 1; // shards; 0 means one per core
  // Resolution of heartbeats, idle limits and deadlines. 1 ms or more.
  std::chrono::milliseconds tick{50};
};

class runtime {
public:
  explicit runtime(runtime_options options = {});
  // Around the user's context, which must outlive the runtime and be run by one thread at a time: a
  // second thread is detected and makes that thread's `run()` throw std::logic_error. The context
  // does not run out of work while the runtime exists: end `run()` with the context's `stop()`.
  // At most one runtime per context (throws std::logic_error).
  explicit runtime(boost::asio::io_context &context, runtime_options options = {});
  // Stops, destroys every coroutine that still waits, joins the threads. Does not block on peers.
  // Not to be called from one of the runtime's own threads.
  ~runtime();
  runtime(const runtime &) = delete;
  runtime &operator=(const runtime &) = delete;

  // Runs `main` on the first shard, on the calling thread, the other shards on threads of their
  // own; returns when `main` has ended and rethrows what it threw, or returns when `stop` was
  // called. Not for a runtime around the user's own context (std::logic_error): run that yourself.
  // It can be run again, by one thread at a time: what still waited goes on, a main that `stop` left
  // behind included; what that one throws then ends the program as from `spawn`. A `stop` between two
  // runs ends the next one at once.
  void run(task<> main);
  // Runs the loops without a main task until `stop`.
  void run();
  // Starts a coroutine on the given shard (the first one by default). An exception that leaves it is
  // a bug nobody else could see: it is printed and ends the program. From any thread. Once the
  // runtime is being destroyed the task is destroyed unstarted.
  void spawn(task<> t, unsigned shard = 0);
  // Ends the loops soon, whatever still waits. From any thread.
  void stop() noexcept;
  // Completes with the number of the first of these signals to arrive (SIGINT and SIGTERM by
  // default). Cancelling it throws, by Asio's own rule.
  task<int> signals();
  task<int> signals(int first, int second = 0, int third = 0);

  unsigned size() const noexcept;
  boost::asio::any_io_executor executor(unsigned shard = 0) const;

  const std::shared_ptr<detail::runtime_core> &core() const noexcept { return core_; }

private:
  std::shared_ptr<detail::runtime_core> core_;
};

// Completes after `d`. Cancelling it throws, by Asio's own rule.
task<> sleep(std::chrono::steady_clock::duration d);

} // namespace chorus
