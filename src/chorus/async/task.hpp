#pragma once
// `task<T>`: the coroutine type of every awaitable verb. It is Asio's own, so that it composes with
// any Asio operation, with `co_spawn`, and with `||` and `&&` of `chorus/operators.hpp`.

#include <boost/asio/awaitable.hpp>

namespace chorus {

template <class T = void> using task = boost::asio::awaitable<T>;

} // namespace chorus
