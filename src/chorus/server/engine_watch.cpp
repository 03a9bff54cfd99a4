#include <chorus/server/engine_watch.hpp>

#include <utility>

namespace chorus::detail {

engine_state engine_watch::now() const {
  engine_state s;
  s.away = away_;
  s.why = why_;
  s.since = since_;
  s.away_for = away_ ? clock::now() - began_ : last_;
  s.away_in_all = over_ + (away_ ? s.away_for : std::chrono::nanoseconds(0));
  return s;
}

// Under the lock, so that what is told has an order, too.
void engine_watch::set(bool away, std::string why) {
  if (away == away_)
    return;
  if (away) {
    began_ = clock::now();
    since_ = std::chrono::system_clock::now();
    why_ = std::move(why);
  } else {
    last_ = clock::now() - began_;
    over_ += last_;
  }
  away_ = away;
  if (told_)
    told_(now());
  if (!away)
    why_.clear();
}

void engine_watch::renewed(const result<bool> &r) {
  std::lock_guard lock(
      mutex_); // before it is asked, so that nothing older is noted after what is newer
  auto status = engine_->status();
  if (!status.connected)
    set(true, std::move(status.why));
  else
    set(r.has_error(), r.has_error() ? r.error().message() : std::string());
}

engine_state engine_watch::look() {
  std::lock_guard lock(
      mutex_); // before it is asked, so that nothing older is noted after what is newer
  auto status = engine_->status();
  if (!status.connected)
    set(true, std::move(status.why));
  return now();
}

} // namespace chorus::detail
