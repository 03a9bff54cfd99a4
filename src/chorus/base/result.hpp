#pragma once
// `result<T>`: a value or a `failure`. `.value()` throws `failure_exception`; `*r` and `r->` need a
// value to be there.

#include <chorus/base/failure.hpp>

#include <boost/assert/source_location.hpp>
#include <boost/system/result.hpp>

namespace chorus {

template <class T = void> using result = boost::system::result<T, failure>;

[[noreturn]] void throw_exception_from_error(const failure &f, const boost::source_location &);

} // namespace chorus
