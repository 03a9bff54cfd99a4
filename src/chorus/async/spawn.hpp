#pragma once
// Starts a coroutine that nobody awaits, the way `co_spawn` does, for those of which there are very
// many: with the Asio it was written for, its first frame takes 240 bytes instead of 464.

#include <chorus/async/task.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/version.hpp>

#include <exception>
#include <utility>

namespace chorus::detail {

#if BOOST_ASIO_VERSION == 102600

template <class End>
boost::asio::awaitable<boost::asio::detail::awaitable_thread_entry_point> spawned(task<> work,
                                                                                  End end) {
  std::exception_ptr thrown;
  try {
    co_await std::move(work);
  } catch (...) {
    thrown = std::current_exception();
  }
  end(std::move(thrown));
}

// Called on `executor`'s thread; `work` begins before this returns. `end` is called once, with what
// escaped from `work`, on the thread where that ended, perhaps before this returns; it is destroyed
// without a call when the coroutine is destroyed where it waits. `cancel` outlives the coroutine.
template <class End>
void spawn_here(const boost::asio::any_io_executor &executor, task<> work,
                boost::asio::cancellation_slot cancel, End end) {
  auto entry = spawned(std::move(work), std::move(end));
  boost::asio::detail::awaitable_thread<boost::asio::any_io_executor>(
      std::move(entry), executor, cancel, boost::asio::cancellation_state(cancel))
      .launch();
}

#else

template <class End>
void spawn_here(const boost::asio::any_io_executor &executor, task<> work,
                boost::asio::cancellation_slot cancel, End end) {
  boost::asio::co_spawn(executor, std::move(work),
                        boost::asio::bind_cancellation_slot(cancel, std::move(end)));
}

#endif

} // namespace chorus::detail
