#include <chorus/server/gather.hpp>

#include <iterator>
#include <utility>

namespace chorus::detail {

void gather_part::begun() {
  begun_ = true;
  report_when_settled();
}

void gather_part::refuse(const failure &why) {
  for (const auto &[member, core] : std::exchange(waiting_, {})) {
    ++report_.dropped;
    report_.members.push_back({member, delivery::dropped, why});
  }
  begun();
}

void gather_part::settle(std::uint64_t member, write_outcome outcome, bool expired) noexcept {
  const auto found = waiting_.find(member);
  if (reported_ || found == waiting_.end())
    return;
  auto &core = *found->second;
  waiting_.erase(found);
  switch (outcome) {
  case write_outcome::written:
    ++report_.delivered;
    if (list_delivered_)
      report_.members.push_back({member, delivery::delivered, {}});
    break;
  case write_outcome::dropped:
    ++report_.dropped;
    report_.members.push_back({member, delivery::dropped,
                               expired ? failure(error::timed_out, stage::open,
                                                 "still queued when its time to live passed")
                                       : failure(error::queue_full)});
    break;
  case write_outcome::failed:
    if (!core.can_send()) {
      note_failed(core);
      break;
    }
    // An eviction, or a failed write, of which the session is only about to be told.
    failing_.push_back(core.shared_from_this());
    core.home().post(
        [self = shared_from_this(), gone = failing_.back()] { self->settle_failing(gone); });
    break;
  }
  report_when_settled();
}

void gather_part::note_failed(const session_core &member) {
  ++report_.failed;
  auto why = member.can_send() ? failure(error::lost, stage::open,
                                         "the connection failed while it was written to")
                               : member.why_not_sending();
  report_.members.push_back({member.id(), delivery::failed, std::move(why)});
}

void gather_part::note_gone(session_id member) {
  ++report_.failed;
  report_.members.push_back({member, delivery::failed,
                             failure(error::not_open, stage::open,
                                     "it had left before the broker gave the message its place")});
}

void gather_part::settle_failing(const std::shared_ptr<session_core> &member) {
  if (reported_)
    return;
  std::erase(failing_, member);
  note_failed(*member);
  report_when_settled();
}

void gather_part::report_when_settled() {
  if (begun_ && waiting_.empty() && failing_.empty())
    report();
}

void gather_part::give_up() {
  if (reported_)
    return;
  for (const auto &core : std::exchange(failing_, {}))
    note_failed(*core);
  for (const auto &[member, core] : waiting_) {
    ++report_.pending;
    report_.members.push_back({member, delivery::pending, {}});
  }
  waiting_.clear();
  report();
}

void gather_part::report() {
  reported_ = true;
  if (auto whole = std::move(whole_))
    whole->merge(std::move(report_));
}

void gather::merge(broadcast_report part) {
  home_->run([self = shared_from_this(), part = std::move(part)]() mutable {
    auto &all = self->report_;
    all.delivered += part.delivered;
    all.dropped += part.dropped;
    all.failed += part.failed;
    all.pending += part.pending;
    all.members.insert(all.members.end(), std::make_move_iterator(part.members.begin()),
                       std::make_move_iterator(part.members.end()));
    if (--self->parts_ == 0)
      self->sleeper_.wake_later();
  });
}

} // namespace chorus::detail
