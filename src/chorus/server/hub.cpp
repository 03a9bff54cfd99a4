#include <chorus/server/hub.hpp>

#include <chorus/server/broker_node.hpp>
#include <chorus/server/room_core.hpp>
#include <chorus/server/room_link.hpp>

namespace chorus::detail {

hub::hub(std::shared_ptr<runtime_core> runtime, room_complaints complaints,
         make_room_options options, hub_limits limits)
    : runtime_(std::move(runtime)),
      complaints_(std::make_shared<const room_complaints>(std::move(complaints))),
      options_(std::move(options)) {
  around_.budget = std::make_shared<history_budget>(limits.history_bytes, limits.lingering_rooms);
  around_.resume = std::make_shared<resume_setup>();
  around_.resume->hello_wait = limits.hello_wait;
  around_.measures = std::make_shared<room_measures>(runtime_->shards.size());
  around_.measures->engine.most_bytes = limits.history_bytes;
  around_.measures->engine.most_owing = limits.lingering_rooms;
  if (!limits.engine)
    return;
  attached_ = limits.engine->attach(runtime_->shards.front()->executor());
  around_.node = broker_node::make(runtime_->shards.front(), std::move(limits.engine),
                                   random_epoch(), limits.lease);
  claims_ = std::make_shared<user_claims>(around_.node);
  around_.node->on_lease([weak = std::weak_ptr(claims_)](bool fresh) {
    if (const auto claims = weak.lock())
      claims->say_again(fresh);
  });
  around_.node->complain_to([told = complaints_](std::string_view what) {
    if (*told)
      (*told)(what, session());
  });
}

room hub::get(std::string_view name) {
  const std::string key(name);
  room_options options;
  if (options_) {
    {
      std::lock_guard lock(mutex_);
      if (const auto found = rooms_.find(key); found != rooms_.end())
        if (auto core = found->second.lock())
          return room(std::move(core));
    }
    options = options_for(name); // user code, which may want rooms itself
  }
  std::lock_guard lock(mutex_);
  auto &entry = rooms_[key];
  auto core = entry.lock();
  if (!core) {
    core = std::make_shared<room_core>(key, *runtime_, weak_from_this(), complaints_, options,
                                       around_);
    core->settle_in(around_);
    if (options.presence && options.presence_grace.count() > longest_grace_.load())
      longest_grace_ = options.presence_grace.count();
    entry = core;
  }
  return room(std::move(core));
}

room_options hub::options_for(std::string_view name) const {
  std::string what;
  try {
    const auto options = options_(name);
    const auto complaint = complaint_about(options);
    if (complaint.empty())
      return options;
    what =
        "server_options::rooms answered with options that can't be used: " + std::string(complaint);
  } catch (const std::exception &x) {
    what = std::string("server_options::rooms threw ") + x.what();
  } catch (...) {
    what = "server_options::rooms threw an exception of unknown type";
  }
  if (*complaints_)
    (*complaints_)(what + "; the room is made without.", session());
  return {};
}

room hub::find(std::string_view name) {
  std::lock_guard lock(mutex_);
  const auto found = rooms_.find(std::string(name));
  return room(found == rooms_.end() ? nullptr : found->second.lock());
}

std::vector<room> hub::list() {
  std::vector<room> all; // they go without the lock, which a room's end takes
  std::lock_guard lock(mutex_);
  all.reserve(rooms_.size());
  for (const auto &[name, entry] : rooms_)
    if (auto core = entry.lock())
      all.emplace_back(std::move(core));
  return all;
}

room hub::everyone() {
  std::lock_guard lock(mutex_);
  if (!everyone_)
    everyone_ = std::make_shared<room_core>(std::string(), *runtime_, weak_from_this(), complaints_,
                                            room_options(), around_);
  return room(everyone_);
}

room hub::user(std::string_view name) {
  const std::string key(name);
  std::lock_guard lock(mutex_);
  auto &entry = users_[key];
  auto core = entry.lock();
  if (!core) {
    auto around = around_;
    around.implicit = true;
    core = std::make_shared<room_core>(key, *runtime_, weak_from_this(), complaints_,
                                       room_options(), around);
    core->settle_in(around);
    entry = core;
  }
  return room(std::move(core));
}

room hub::known_user(std::string_view name) {
  std::lock_guard lock(mutex_);
  const auto found = users_.find(std::string(name));
  return found == users_.end() ? room() : room(found->second.lock());
}

std::size_t hub::disconnect_user(std::string_view name, close_code code, std::string_view reason) {
  const auto all = known_user(name);
  if (!all)
    return 0;
  for (const auto &part : all.core()->parts())
    part->home()->run([part, code, why = std::string(reason)] { part->close_all(code, why); });
  return all.size();
}

std::shared_ptr<membership> hub::admit(const session &s) {
  const auto all = everyone();
  if (const auto part = all.core()->part_on(s.core()->home()))
    part->add(s.core()->shared_from_this());
  const auto name = s.user();
  if (name.empty() || !s.core()->can_send())
    return nullptr;
  const auto own = user(name);
  const auto part = own.core()->part_on(s.core()->home());
  part->add(s.core()->shared_from_this());
  own.core()->connect();
  return std::make_shared<membership>(own.core(), part, s.id());
}

void hub::close() noexcept {
  closed_.store(true, std::memory_order_relaxed);
  if (around_.node)
    around_.node->retire(std::chrono::milliseconds(longest_grace_.load()));
  for (const auto &one : list())
    if (one.core()->log())
      one.core()->home()->post([weak = std::weak_ptr(one.core())] {
        const auto core = weak.lock();
        if (core && core->link())
          core->link()->end();
        if (core)
          core->log()->let_go();
      });
}

std::size_t hub::size() const noexcept {
  std::lock_guard lock(mutex_);
  return rooms_.size();
}

void hub::forget(const std::string &name, const room_core *) noexcept {
  std::lock_guard lock(mutex_);
  for (auto *list : {&rooms_, &users_}) {
    const auto found = list->find(name);
    if (found != list->end() && found->second.expired()) // not one made anew meanwhile
      list->erase(found);
  }
}

} // namespace chorus::detail
