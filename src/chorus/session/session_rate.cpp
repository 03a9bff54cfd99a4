#include <chorus/session/session_core.hpp>

// A peer that may send only so fast. What comes too fast for over_rate::delay has been parsed already
// when it is found out: it passes, and the rest of what was read is held until the time has come.

namespace chorus::detail {

// Accounts for a message or ping; true when it is to be thrown away.
bool session_core::over_rate(std::size_t size) noexcept {
  if (!terms_ || !terms_->rate || terms_->rate->lifted || late_ || closing_)
    return false;
  auto &rate = *terms_->rate;
  if (rate.closing)
    return true;
  const auto now = home_->now();
  switch (rate.options.policy) {
  case chorus::over_rate::delay:
    if (const auto next = rate.gate.charge(size, now); next > now)
      hold_input(next);
    return false;
  case chorus::over_rate::drop:
    if (rate.gate.pass(size, now))
      return false;
    ++rate.dropped;
    if (rate.totals)
      rate.totals->dropped.fetch_add(1, std::memory_order_relaxed);
    return true;
  case chorus::over_rate::close:
    break;
  }
  if (rate.gate.pass(size, now))
    return false;
  rate.closing = true;
  if (rate.totals)
    rate.totals->closed.fetch_add(1, std::memory_order_relaxed);
  // Not in the midst of a read turn.
  home_->post([self = shared_from_this()] {
    self->start_close(close_code::policy_violation,
                      "messages came faster than this server takes them; send less often");
  });
  return true;
}

void session_core::hold_input(time_point until) noexcept {
  auto &rate = *terms_->rate;
  if (!rate.holding) {
    rate.holding = true;
    rate.held_owner = input_owner_;
    rate.held = input_;
    if (!input_.empty() && !input_owner_) {
      rate.held_owner = buffer::allocate(input_.size());
      std::memcpy(rate.held_owner.data(), input_.data(), input_.size());
      rate.held = rate.held_owner.span().first(input_.size());
    }
    input_ = {};
  }
  home_->start(rate, until);
  stall();
}

void session_core::release_input() noexcept {
  auto &rate = *terms_->rate;
  rate.cancel();
  rate.holding = false;
  auto owner = std::exchange(rate.held_owner, buffer());
  const auto held = std::exchange(rate.held, std::span<std::byte>());
  if (held.empty() || (input_ended_ && !late_))
    return;
  input_owner_ = std::move(owner);
  input_ = held;
}

void session_core::on_rate_timer(timer &t) noexcept {
  auto &core = *static_cast<inbound_rate &>(t).owner;
  const auto keep = core.shared_from_this();
  core.release_input();
  core.continue_turn();
}

std::unique_ptr<inbound_rate> make_inbound_rate(const rate_options &options, time_point now,
                                                std::shared_ptr<rate_counters> totals) {
  if (options.messages_per_second == 0 && options.bytes_per_second == 0)
    return nullptr;
  auto rate = std::make_unique<inbound_rate>(options, now, &session_core::on_rate_timer);
  rate->totals = std::move(totals);
  return rate;
}

} // namespace chorus::detail
