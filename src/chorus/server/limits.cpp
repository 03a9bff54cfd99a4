#include <chorus/server/limits.hpp>

#include <algorithm>

namespace chorus::detail {

bool address_tally::take(const std::string &key, std::size_t limit) {
  std::lock_guard lock(mutex_);
  auto &count = counts_[key];
  if (count >= limit)
    return false; // not empty, so it stays
  ++count;
  return true;
}

void address_tally::release(const std::string &key) noexcept {
  std::lock_guard lock(mutex_);
  const auto it = counts_.find(key);
  if (it != counts_.end() && --it->second == 0)
    counts_.erase(it);
}

std::size_t address_tally::size() const {
  std::lock_guard lock(mutex_);
  return counts_.size();
}

std::shared_ptr<user_table::place> user_table::take(const std::string &user, std::size_t limit,
                                                    over_user_limit how, session &ousted) {
  auto mine = std::make_shared<place>(user);
  std::lock_guard lock(mutex_);
  auto &places = users_[user];
  if (places.size() >= limit) { // at least one
    if (how == over_user_limit::refuse_new)
      return nullptr;
    const auto oldest = std::move(places.front());
    places.pop_front();
    oldest->given_up_ = true;
    ousted = oldest->holder_;
  }
  places.push_back(mine);
  return mine;
}

bool user_table::open(place &p, session holder) {
  std::lock_guard lock(mutex_);
  p.holder_ = std::move(holder);
  return !p.given_up_;
}

void user_table::release(const std::shared_ptr<place> &p) noexcept {
  session last; // goes outside the lock
  std::lock_guard lock(mutex_);
  last = std::move(p->holder_);
  const auto it = users_.find(p->user_);
  if (p->given_up_ || it == users_.end())
    return;
  std::erase(it->second, p);
  if (it->second.empty())
    users_.erase(it);
}

std::size_t user_table::size() const {
  std::lock_guard lock(mutex_);
  return users_.size();
}

} // namespace chorus::detail
