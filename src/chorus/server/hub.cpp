#include <chorus/server/hub.hpp>

#include <chorus/server/room_core.hpp>

namespace chorus::detail {

hub::hub(std::shared_ptr<runtime_core> runtime, room_complaints complaints)
    : runtime_(std::move(runtime)),
      complaints_(std::make_shared<const room_complaints>(std::move(complaints))) {}

room hub::get(std::string_view name) {
  const std::string key(name);
  std::lock_guard lock(mutex_);
  auto &entry = rooms_[key];
  auto core = entry.lock();
  if (!core) {
    core = std::make_shared<room_core>(key, *runtime_, weak_from_this(), complaints_);
    entry = core;
  }
  return room(std::move(core));
}

room hub::everyone() {
  std::lock_guard lock(mutex_);
  if (!everyone_)
    everyone_ =
        std::make_shared<room_core>(std::string(), *runtime_, weak_from_this(), complaints_);
  return room(everyone_);
}

void hub::admit(const session &s) {
  const auto all = everyone();
  if (const auto part = all.core()->part_on(s.core()->home()))
    part->add(s.core()->shared_from_this());
}

void hub::close() noexcept { closed_.store(true, std::memory_order_relaxed); }

std::size_t hub::size() const noexcept {
  std::lock_guard lock(mutex_);
  return rooms_.size();
}

void hub::forget(const std::string &name, const room_core *) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = rooms_.find(name);
  if (found != rooms_.end() && found->second.expired()) // not one made anew meanwhile
    rooms_.erase(found);
}

} // namespace chorus::detail
