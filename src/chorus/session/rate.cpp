#include <chorus/session/rate.hpp>

#include <algorithm>

namespace chorus::detail {

namespace {
constexpr std::int64_t token = 1'000'000'000;
constexpr std::int64_t deepest_debt = -4 * token * token;
constexpr std::uint64_t most_at_once = UINT32_MAX;
} // namespace

token_bucket::token_bucket(std::uint32_t per_second, std::uint32_t burst, time_point now) noexcept
    : level_(token * (burst != 0 ? burst : per_second)), most_(level_), per_second_(per_second),
      as_of_(now) {}

void token_bucket::refill(time_point now) noexcept {
  if (now <= as_of_)
    return;
  const std::int64_t passed =
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - as_of_).count();
  as_of_ = now;
  if (passed > (most_ - level_) / per_second_)
    level_ = most_;
  else
    level_ += passed * per_second_;
}

bool token_bucket::open(time_point now) noexcept {
  if (per_second_ == 0)
    return true;
  refill(now);
  return level_ >= token;
}

void token_bucket::take(std::uint64_t tokens, time_point now) noexcept {
  if (per_second_ == 0)
    return;
  refill(now);
  const auto cost = static_cast<std::int64_t>(std::min(tokens, most_at_once)) * token;
  level_ = std::max(level_ - cost, deepest_debt);
}

time_point token_bucket::open_at(time_point now) noexcept {
  if (open(now))
    return now;
  const auto missing = token - level_;
  return now + std::chrono::nanoseconds((missing + per_second_ - 1) / per_second_);
}

rate_gate::rate_gate(const rate_options &options, time_point now) noexcept
    : messages_(options.messages_per_second, options.burst_messages, now),
      bytes_(options.bytes_per_second, options.burst_bytes, now) {}

bool rate_gate::pass(std::size_t bytes, time_point now) noexcept {
  if (!messages_.open(now) || !bytes_.open(now))
    return false;
  charge(bytes, now);
  return true;
}

time_point rate_gate::charge(std::size_t bytes, time_point now) noexcept {
  messages_.take(1, now);
  bytes_.take(bytes, now);
  return std::max(messages_.open_at(now), bytes_.open_at(now));
}

} // namespace chorus::detail
