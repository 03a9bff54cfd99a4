#pragma once
// `rpc_methods`: the handlers of one side of an `rpc`, by name.
//
// A handler is a coroutine. Its arguments say what it wants of the params:
//
//   ()                     nothing: they are not looked at
//   (json::value)          as they came; null when there were none
//   (T)                    converted as a whole (`from_json<T>`): a described class, a vector, a map
//   (T, U, ...)            an array with exactly these elements; so is a single number or string
//
// each with an `rpc_call` before it, if it likes. What does not convert is answered with -32602, and
// the member named. It returns a task of a value, of `result<>` or of nothing; a failure that is an
// `rpc_failure` is sent as it is, any other, and an exception, as -32603 without a word of why.
//
// Handlers run at once on the session's shard and may overlap; each is cancelled when the session has
// ended.

#include <chorus/async/task.hpp>
#include <chorus/json/convert.hpp>
#include <chorus/json/rpc_error.hpp>

#include <boost/json/value.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace chorus {

class rpc;

namespace detail {
class rpc_core;
}

// One request or notification, as its handler sees it.
class rpc_call {
public:
  rpc_call(std::string method, boost::json::value params, bool notification,
           std::shared_ptr<detail::rpc_core> core) noexcept
      : method_(std::move(method)), params_(std::move(params)), core_(std::move(core)),
        notification_(notification) {}

  const std::string &method() const noexcept { return method_; }
  // Null, an array or an object. Empty once they were taken or converted.
  const boost::json::value &params() const noexcept { return params_; }
  boost::json::value take_params() noexcept { return std::exchange(params_, nullptr); }
  bool is_notification() const noexcept { return notification_; } // nobody gets the answer
  // The other side, to ask it back. This handle does not keep the `rpc` going.
  rpc peer() const;

private:
  std::string method_;
  boost::json::value params_;
  std::shared_ptr<detail::rpc_core> core_;
  bool notification_;
};

namespace detail {

using rpc_method = std::function<task<result<boost::json::value>>(rpc_call)>;
using rpc_table = std::unordered_map<std::string, std::shared_ptr<const rpc_method>>;

failure wrong_params(const failure &why);

template <class R> result<boost::json::value> rpc_outcome(R &&value) {
  return boost::json::value_from(std::forward<R>(value));
}
template <class T> result<boost::json::value> rpc_outcome(result<T> &&r) {
  if (r.has_error())
    return r.error();
  if constexpr (std::is_void_v<T>)
    return boost::json::value(nullptr);
  else if constexpr (std::is_same_v<T, boost::json::value>)
    return std::move(r);
  else
    return boost::json::value_from(*r);
}

template <class T> task<result<boost::json::value>> rpc_finish(task<T> work) {
  if constexpr (std::is_void_v<T>) {
    co_await std::move(work);
    co_return boost::json::value(nullptr);
  } else {
    auto value = co_await std::move(work);
    co_return rpc_outcome(std::move(value));
  }
}
inline task<result<boost::json::value>> rpc_refuse(failure why) { co_return why; }

template <class T>
inline constexpr bool is_single_element =
    std::is_arithmetic_v<T> || std::is_enum_v<T> || boost::json::is_string_like<T>::value;

// What is left of a handler's arguments once the `rpc_call` is off.
template <class... Args> struct rpc_arguments {
  template <class F, class... Call> static auto run(F &f, rpc_call &call, Call &&...first) {
    using boost::json::value;
    if constexpr (sizeof...(Args) == 0) {
      return rpc_finish(f(std::forward<Call>(first)...));
    } else if constexpr (sizeof...(Args) > 1 || (is_single_element<Args> && ...)) {
      auto got = from_json<std::tuple<Args...>>(call.params());
      if (got.has_error())
        return rpc_refuse(wrong_params(got.error()));
      return std::apply(
          [&](Args &...each) {
            return rpc_finish(f(std::forward<Call>(first)..., std::move(each)...));
          },
          *got);
    } else if constexpr ((std::is_same_v<Args, value> && ...)) {
      return rpc_finish(f(std::forward<Call>(first)..., call.take_params()));
    } else {
      return one<Args...>(f, call, std::forward<Call>(first)...);
    }
  }
  template <class T, class F, class... Call>
  static task<result<boost::json::value>> one(F &f, rpc_call &call, Call &&...first) {
    auto got = from_json<T>(call.params());
    if (got.has_error())
      return rpc_refuse(wrong_params(got.error()));
    return rpc_finish(f(std::forward<Call>(first)..., std::move(*got)));
  }
};

template <class F, class... Args> struct rpc_adapter {
  static task<result<boost::json::value>> run(F &f, rpc_call call) {
    return rpc_arguments<Args...>::run(f, call);
  }
};
template <class F, class... Args> struct rpc_adapter<F, rpc_call, Args...> {
  static task<result<boost::json::value>> run(F &f, rpc_call call) {
    auto rest = call;
    return rpc_arguments<Args...>::run(f, rest, std::move(call));
  }
};

template <class F> struct rpc_signature : rpc_signature<decltype(&F::operator())> {};
template <class R, class... Args> struct rpc_signature<R (*)(Args...)> {
  template <class F> using adapter = rpc_adapter<F, std::remove_cvref_t<Args>...>;
};
template <class C, class R, class... Args>
struct rpc_signature<R (C::*)(Args...)> : rpc_signature<R (*)(Args...)> {};
template <class C, class R, class... Args>
struct rpc_signature<R (C::*)(Args...) const> : rpc_signature<R (*)(Args...)> {};

} // namespace detail

// A value: copies are independent, and an `rpc` keeps what it was given.
class rpc_methods {
public:
  rpc_methods() = default;

  // Adds or replaces. `handler`: see above; it is kept as long as one of its calls runs.
  template <class F> rpc_methods &add(std::string_view name, F handler) {
    using adapter = typename detail::rpc_signature<F>::template adapter<F>;
    auto kept = std::make_shared<F>(std::move(handler));
    return put(name, [kept](rpc_call call) { return adapter::run(*kept, std::move(call)); });
  }
  bool contains(std::string_view name) const;

  const std::shared_ptr<detail::rpc_table> &table() const noexcept { return table_; }

private:
  rpc_methods &put(std::string_view name, detail::rpc_method method);
  std::shared_ptr<detail::rpc_table> table_; // replaced by a copy when somebody else has it, too
};

} // namespace chorus
