#include <chorus/server/room_log.hpp>

#include <chorus/server/room_core.hpp>

namespace chorus::detail {

room_log::room_log(room_core &room, const room_options &options,
                   std::shared_ptr<history_budget> budget)
    : room_(room), budget_(std::move(budget)), linger_(options.history_linger),
      messages_(room.name(), options, budget_) {}

void room_log::stay() {
  if (self_ || linger_ == duration::zero() || room_.closed() || room_.home()->stopped())
    return;
  self_ = room_.shared_from_this();
  room_.home()->enroll(*this);
}

void room_log::arriving() {
  stay();
  budget_->set_busy(messages_.account());
}

void room_log::published(history_budget::victims gone) {
  tell(std::move(gone));
  stay();
  quiet_since_ = room_.home()->now();
  if (!room_.has_anybody())
    begin_idle();
}

void room_log::emptied() {
  if (room_.has_anybody())
    return;
  quiet_since_ = room_.home()->now();
  begin_idle();
}

void room_log::begin_idle() {
  if (!self_)
    return;
  if (!timer_.active())
    room_.home()->start(timer_, quiet_since_ + linger_);
  history_budget::victims gone;
  budget_->set_idle(messages_.account(), self_, gone);
  tell(std::move(gone));
}

void room_log::on_timer() noexcept {
  const auto keep = self_;
  if (!keep || room_.has_anybody())
    return; // told when they have gone
  const auto due = quiet_since_ + linger_;
  if (room_.home()->now() < due)
    room_.home()->start(timer_, due);
  else
    let_go();
}

void room_log::make_way() {
  if (!room_.has_anybody()) {
    messages_.forget_all();
    budget_->set_busy(messages_.account());
    let_go();
  } else {
    budget_->set_busy(messages_.account());
  }
}

void room_log::let_go() noexcept {
  if (!self_)
    return;
  timer_.cancel();
  room_.home()->leave(*this);
  const auto last = std::move(self_); // perhaps the room itself goes
}

void room_log::tell(history_budget::victims gone) {
  for (auto &weak : gone)
    if (const auto room = weak.lock())
      room->home()->post([weak] {
        if (const auto r = weak.lock())
          r->log()->make_way();
      });
}

} // namespace chorus::detail
