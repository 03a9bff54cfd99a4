#pragma once
// `reconnect_policy`: whether and when a client tries again.

#include <chorus/base/backoff.hpp>
#include <chorus/base/failure.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace chorus {

// What a policy goes by: a failed attempt, or a connection that was lost.
struct reconnect_question {
  unsigned in_row = 1;    // waits since a connection had proven itself, this one included
  bool connected = false; // a connection was lost, as opposed to a failed attempt
  failure why;
  // When the server asks its clients to come back (see client_options::max_retry_after, its bound).
  std::optional<std::chrono::milliseconds> server_asks;
  std::uint64_t random = 0; // 64 uniformly random bits, for jitter
};

class reconnect_policy {
public:
  // How long to wait; nothing: the client ends, with what went wrong. Called on the client's shard; not
  // for what `is_fatal` says yes to. Its answer stands: it decides what to make of `server_asks`.
  // Negative counts as zero. When it throws, the client ends with handler_failed.
  using function =
      std::function<std::optional<std::chrono::milliseconds>(const reconnect_question &)>;

  // As client_options::backoff says: exponential.
  reconnect_policy() noexcept = default;
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, reconnect_policy> &&
           std::is_constructible_v<function, F>) reconnect_policy(F &&own)
      : own_(std::forward<F>(own)) {}

  // These heed what the server asks for (client_options::max_retry_after).
  static reconnect_policy exponential(backoff_options options = {});
  // The same delay each time. Clients that lost one server together come back together without jitter.
  static reconnect_policy constant(std::chrono::milliseconds delay,
                                   jitter spread = jitter::partial);
  // The first failed attempt or lost connection ends the client, other URLs or not.
  static reconnect_policy none();

  const function &own() const noexcept { return own_; }
  const std::optional<backoff_options> &delays() const noexcept { return delays_; }

private:
  function own_;
  std::optional<backoff_options> delays_;
};

} // namespace chorus
