#pragma once
// What the verbs of a session have in common.

#include <chorus/async/remote.hpp>
#include <chorus/session/session_core.hpp>

#include <memory>

namespace chorus::detail {

using core_ptr = std::shared_ptr<session_core>;

inline failure no_session() {
  return failure(error::not_open, stage::none, "this handle names no session");
}

template <class T> task<result<T>> failed(failure f) { co_return f; }

// Runs `work` on the session's own thread.
template <class T> task<result<T>> here_or_there(core_ptr core, task<result<T>> work) {
  if (core->home().here())
    co_return co_await std::move(work);
  co_return co_await detail::on_shard<result<T>>(core->home_ptr(), std::move(work));
}

} // namespace chorus::detail
