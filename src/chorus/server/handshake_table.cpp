#include <chorus/server/handshake_table.hpp>

#include <chorus/server/server_shard.hpp>

namespace chorus::detail {

bool handshake_table::enter(http_visit &v, const std::string &key, std::size_t limit,
                            time_point now, duration grace, std::shared_ptr<http_visit> &evicted) {
  std::lock_guard lock(mutex_);
  if (limit != 0 && size_ >= limit) {
    evicted = give_up(key, now, grace);
    if (!evicted)
      return false;
  }
  v.arrived = now;
  v.key = key;
  by_address_[key].push_back(&v);
  v.listed = true;
  ++size_;
  return true;
}

std::shared_ptr<http_visit> handshake_table::give_up(const std::string &key, time_point now,
                                                     duration grace) {
  // One whose last owner lets go of it right now can't be had any more.
  const auto take = [&](http_visit &v) {
    auto held = v.waits() ? v.weak_from_this().lock() : nullptr;
    if (held)
      forget(v);
    return held;
  };
  const auto mine = by_address_.find(key);
  const std::size_t own = mine == by_address_.end() ? 0 : mine->second.size();
  const queue *longest = nullptr;
  for (const auto &[address, visits] : by_address_)
    if (visits.size() > own + 1 && (!longest || visits.size() > longest->size()))
      longest = &visits;
  if (longest)
    for (auto *v : *longest)
      if (auto held = take(*v))
        return held;
  http_visit *oldest = nullptr;
  for (const auto &[address, visits] : by_address_)
    for (auto *v : visits)
      if (v->waits() && now - v->arrived >= grace && (!oldest || v->arrived < oldest->arrived))
        oldest = v;
  return oldest ? take(*oldest) : nullptr;
}

void handshake_table::forget(http_visit &v) noexcept {
  const auto it = by_address_.find(v.key);
  it->second.remove(&v);
  if (it->second.empty())
    by_address_.erase(it);
  v.listed = false;
  --size_;
}

void handshake_table::rename(http_visit &v, const std::string &key) {
  std::lock_guard lock(mutex_);
  if (!v.listed)
    return;
  auto &place = by_address_[key]; // first: it may throw
  place.push_back(&v);
  if (v.key == key) {
    place.pop_back();
    return;
  }
  const auto before = by_address_.find(v.key);
  before->second.remove(&v);
  if (before->second.empty())
    by_address_.erase(before);
  v.key = key;
}

void handshake_table::restore(http_visit &v) {
  std::lock_guard lock(mutex_);
  if (v.listed)
    return;
  by_address_[v.key].push_front(&v); // it was the oldest
  v.listed = true;
  ++size_;
}

void handshake_table::leave(http_visit &v) noexcept {
  std::lock_guard lock(mutex_);
  if (v.listed)
    forget(v);
}

std::size_t handshake_table::size() const {
  std::lock_guard lock(mutex_);
  return size_;
}

} // namespace chorus::detail
