#include <chorus/server/pending_leaves.hpp>

namespace chorus::detail {

std::uint64_t pending_leaves::begin(const std::string &channel, const std::string &id) {
  std::lock_guard lock(mutex_);
  auto &s = all_[{channel, id}];
  failed_ -= s.failed ? 1 : 0;
  s = {++number_, false};
  return s.number;
}

void pending_leaves::succeeded(const one &o) {
  std::lock_guard lock(mutex_);
  if (const auto found = find(o); found != all_.end())
    erase(found);
}

bool pending_leaves::failed(const one &o) {
  std::lock_guard lock(mutex_);
  const auto found = find(o);
  if (found == all_.end() || std::exchange(found->second.failed, true))
    return true;
  if (++failed_ <= most)
    return true;
  std::erase_if(all_, [](const auto &entry) { return entry.second.failed; });
  failed_ = 0;
  return false;
}

void pending_leaves::forget(const std::string &channel, const std::string &id) {
  std::lock_guard lock(mutex_);
  if (const auto found = all_.find({channel, id}); found != all_.end())
    erase(found);
}

void pending_leaves::forget_failed() {
  std::lock_guard lock(mutex_);
  std::erase_if(all_, [](const auto &entry) { return entry.second.failed; });
  failed_ = 0;
}

std::vector<pending_leaves::one> pending_leaves::failed() const {
  std::lock_guard lock(mutex_);
  std::vector<one> listed;
  listed.reserve(failed_);
  if (failed_ != 0)
    for (const auto &[key, s] : all_)
      if (s.failed)
        listed.push_back({key.first, key.second, s.number});
  return listed;
}

pending_leaves::states::iterator pending_leaves::find(const one &o) {
  const auto found = all_.find({o.channel, o.id});
  return found != all_.end() && found->second.number == o.number ? found : all_.end();
}

void pending_leaves::erase(states::iterator at) {
  failed_ -= at->second.failed ? 1 : 0;
  all_.erase(at);
}

} // namespace chorus::detail
