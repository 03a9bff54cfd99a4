#include <chorus/async/runtime.hpp>

#include <chorus/async/runtime_core.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <stdexcept>

namespace chorus {

namespace asio = boost::asio;

namespace detail {

void runtime_core::stop() noexcept {
  for (auto &s : shards)
    if (!s->stopped())
      s->context().stop();
}

shard &runtime_core::pick() noexcept {
  if (auto *here = shard::current())
    for (auto &s : shards)
      if (s.get() == here)
        return *s;
  return *shards[next_.fetch_add(1, std::memory_order_relaxed) % shards.size()];
}

namespace {

void check(const runtime_options &options) {
  if (options.tick < std::chrono::milliseconds(1))
    throw std::invalid_argument("chorus: runtime_options::tick must be 1 ms or more");
}

void check_owned(const runtime_core &core) {
  if (core.shards.front()->wrapped())
    throw std::logic_error("chorus: this runtime wraps your io_context; call its run() yourself");
}

[[noreturn]] void die(const std::exception_ptr &e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception &x) {
    std::fprintf(stderr, "chorus: an exception left a spawned task: %s\n", x.what());
  } catch (...) {
    std::fprintf(stderr, "chorus: an unknown exception left a spawned task\n");
  }
  std::terminate();
}

} // namespace

} // namespace detail

runtime::runtime(runtime_options options) : core_(std::make_shared<detail::runtime_core>()) {
  detail::check(options);
  const unsigned count =
      options.threads ? options.threads : std::max(1U, std::thread::hardware_concurrency());
  for (unsigned i = 0; i < count; ++i) {
    core_->shards.push_back(detail::shard::make(i, options.tick));
    core_->shards.back()->begin();
  }
}

runtime::runtime(asio::io_context &context, runtime_options options)
    : core_(std::make_shared<detail::runtime_core>()) {
  detail::check(options);
  core_->shards.push_back(detail::shard::make(0, options.tick, &context));
  core_->shards.back()->begin();
}

runtime::~runtime() {
  if (!core_->shards.front()->wrapped())
    core_->stop();
  for (auto &t : core_->threads)
    t.join();
  for (auto &s : core_->shards)
    s->stop_accepting();
  for (auto &s : core_->shards)
    s->tear_down();
}

void runtime::run() {
  detail::check_owned(*core_);
  // However the loops end, they can be run again. They are made ready here and not when the next run
  // begins: a `stop` that comes before that still counts.
  struct ending {
    detail::runtime_core &core;
    ~ending() {
      core.stop();
      for (auto &t : core.threads)
        t.join();
      core.threads.clear();
      for (auto &s : core.shards)
        s->context().restart();
    }
  };
  const ending at_the_end{*core_};
  for (std::size_t i = 1; i < core_->shards.size(); ++i)
    core_->threads.emplace_back([s = core_->shards[i]] { s->run_loop(); });
  core_->shards.front()->run_loop();
}

void runtime::run(task<> main) {
  detail::check_owned(*core_);
  struct outcome {
    std::exception_ptr failed;
    bool awaited = true;
  };
  const auto how = std::make_shared<outcome>();
  asio::co_spawn(core_->shards.front()->context(), std::move(main),
                 [core = core_, how](std::exception_ptr e) {
                   if (how->awaited) {
                     how->failed = std::move(e);
                     core->stop();
                   } else if (e) { // its run was stopped, and another one has carried it on
                     detail::die(e);
                   }
                 });
  struct leaving {
    outcome &mine;
    ~leaving() { mine.awaited = false; }
  };
  {
    const leaving afterwards{*how};
    run();
  }
  if (how->failed)
    std::rethrow_exception(how->failed);
}

void runtime::spawn(task<> t, unsigned index) {
  auto &s = *core_->shards.at(index);
  if (s.stopped())
    return;
  asio::co_spawn(s.context(), std::move(t), [](const std::exception_ptr &e) {
    if (e)
      detail::die(e);
  });
}

void runtime::stop() noexcept { core_->stop(); }

unsigned runtime::size() const noexcept { return static_cast<unsigned>(core_->shards.size()); }

asio::any_io_executor runtime::executor(unsigned shard) const {
  return core_->shards.at(shard)->executor();
}

task<int> runtime::signals() { return signals(SIGINT, SIGTERM); }

task<int> runtime::signals(int first, int second, int third) {
  asio::signal_set set(co_await asio::this_coro::executor);
  for (int number : {first, second, third})
    if (number != 0)
      set.add(number);
  co_return co_await set.async_wait(asio::use_awaitable);
}

task<> sleep(std::chrono::steady_clock::duration d) {
  asio::steady_timer timer(co_await asio::this_coro::executor, d);
  co_await timer.async_wait(asio::use_awaitable);
}

} // namespace chorus
