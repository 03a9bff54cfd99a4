#pragma once
// `event_handler`: what a client calls when something happens. Holds a plain function, or a coroutine
// (a callable that returns task<>), or nothing.
//
//   options.on_message = [](const chorus::message &m) { std::cout << m.text() << "\n"; };
//   options.on_message = [&](chorus::message m) -> chorus::task<> { co_await db.store(m); };

#include <chorus/async/task.hpp>

#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

namespace chorus {

template <class... Args> class event_handler {
  template <class F> struct emptiable : std::is_pointer<F> {};
  template <class R, class... A> struct emptiable<std::function<R(A...)>> : std::true_type {};
  template <class F>
  static constexpr bool usable = !std::is_same_v<std::decay_t<F>, event_handler> &&
                                 std::is_invocable_v<std::decay_t<F> &, Args...>;

public:
  event_handler() noexcept = default;
  event_handler(std::nullptr_t) noexcept {}
  // Copies or moves `f`, which has to be copyable. An empty std::function or null pointer: nothing.
  template <class F>
  requires usable<F> event_handler(F &&f) {
    using callable = std::decay_t<F>;
    using returned = std::invoke_result_t<callable &, Args...>;
    if constexpr (emptiable<callable>::value)
      if (!f)
        return;
    if constexpr (std::is_same_v<returned, task<>>)
      coroutine_ = std::forward<F>(f);
    else
      plain_ = std::forward<F>(f);
  }

  explicit operator bool() const noexcept { return plain_ || coroutine_; }
  bool is_coroutine() const noexcept { return static_cast<bool>(coroutine_); }
  // Calls the plain function, if there is one.
  void operator()(Args... args) const {
    if (plain_)
      plain_(std::forward<Args>(args)...);
  }
  // The coroutine, which begins when it is awaited; only if there is one. Parameters that it takes by
  // reference are to live until it has ended.
  task<> start(Args... args) const { return coroutine_(std::forward<Args>(args)...); }

private:
  std::function<void(Args...)> plain_;
  std::function<task<>(Args...)> coroutine_;
};

} // namespace chorus
