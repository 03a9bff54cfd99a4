#pragma once
// Times of options that mean never, as milliseconds::max() does, made such that they can be added to the
// present one.

#include <chorus/session/options.hpp>

#include <chrono>

namespace chorus::detail {

inline constexpr std::chrono::milliseconds longest_time = std::chrono::hours(24 * 365);

// The same within `longest_time`; times of the heartbeat that reach it are zero, which is never.
session_options bounded(session_options given) noexcept;

} // namespace chorus::detail
