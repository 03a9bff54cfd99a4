#include <chorus/server/gather.hpp>

#include <iterator>

namespace chorus::detail {

void gather_part::begun() {
  begun_ = true;
  if (waiting_.empty())
    report();
}

void gather_part::on_outcome(std::uint64_t member, write_outcome outcome) noexcept {
  if (reported_ || waiting_.erase(member) == 0)
    return;
  switch (outcome) {
  case write_outcome::written:
    ++report_.delivered;
    if (list_delivered_)
      report_.members.push_back({member, delivery::delivered, {}});
    break;
  case write_outcome::dropped:
    ++report_.dropped;
    report_.members.push_back({member, delivery::dropped, failure(error::queue_full)});
    break;
  case write_outcome::failed:
    ++report_.failed;
    report_.members.push_back({member, delivery::failed, failure(error::closed)});
    break;
  }
  if (begun_ && waiting_.empty())
    report();
}

void gather_part::give_up() {
  if (reported_)
    return;
  for (const auto member : waiting_) {
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
