#include <chorus/client/reconnect_policy.hpp>

#include <chorus/session/bounds.hpp>

#include <algorithm>

namespace chorus {

reconnect_policy reconnect_policy::exponential(backoff_options options) {
  reconnect_policy p;
  p.delays_ = options;
  return p;
}

reconnect_policy reconnect_policy::constant(std::chrono::milliseconds delay, jitter spread) {
  delay = std::min(delay, detail::longest_time);
  // The cap is not the delay: partial jitter goes both ways.
  const auto cap = spread == jitter::partial ? delay + delay / 4 : delay;
  return exponential({.initial = delay, .factor = 1.0, .cap = cap, .spread = spread});
}

reconnect_policy reconnect_policy::none() {
  return reconnect_policy(
      [](const reconnect_question &) -> std::optional<std::chrono::milliseconds> { return {}; });
}

} // namespace chorus
