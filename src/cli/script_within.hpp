#pragma once
// An operation with a bound on its time.

#include <chorus/async/runtime.hpp>
#include <chorus/async/task.hpp>
#include <chorus/operators.hpp>

#include <chrono>
#include <optional>
#include <utility>

namespace cli::script {

// Nothing when `bound` has passed and `work` was cancelled; a bound of zero is none.
template <class T>
chorus::task<std::optional<T>> within(chorus::task<T> work, std::chrono::milliseconds bound) {
  using namespace chorus::operators;
  std::optional<T> out;
  if (bound.count() == 0) {
    out.emplace(co_await std::move(work));
    co_return out;
  }
  auto first = co_await (std::move(work) || chorus::sleep(bound));
  if (auto *done = std::get_if<0>(&first))
    out.emplace(std::move(*done));
  co_return out;
}

} // namespace cli::script
