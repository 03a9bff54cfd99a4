#pragma once
// `a || b` (the first to end wins, the other is cancelled) and `a && b` on tasks:
//   using namespace chorus::operators;

#include <boost/asio/experimental/awaitable_operators.hpp>

namespace chorus::operators {
using namespace boost::asio::experimental::awaitable_operators;
}
