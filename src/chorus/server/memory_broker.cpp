#include <chorus/server/broker.hpp>

#include <chorus/server/history.hpp>

#include <algorithm>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace chorus {

namespace {

using clock = std::chrono::steady_clock;

// Listeners are told under the lock, which is what keeps the order; they only post.
class memory_broker final : public broker {
public:
  explicit memory_broker(std::size_t max_rooms) : max_rooms_(max_rooms) {}

  void publish(broker_message m, published answer) override {
    broker_position at;
    {
      std::lock_guard lock(mutex_);
      auto &r = room(m.room);
      r.used = ++uses_;
      if (m.keep.keeps_history()) {
        at = m.at = {r.epoch, ++r.last};
        r.keep = m.keep;
        r.bytes += m.content.size();
        r.kept.push_back({m, clock::now()});
        trim(r);
      }
      for (const auto &weak : r.listeners)
        if (const auto to = weak.lock())
          to->on_message(m);
      make_way();
    }
    answer(std::move(at));
  }
  void subscribe(std::string name, std::weak_ptr<broker_listener> to, done answer) override {
    {
      std::lock_guard lock(mutex_);
      room(name).listeners.push_back(std::move(to));
    }
    answer({});
  }
  void unsubscribe(std::string name, const broker_listener *who) override {
    std::lock_guard lock(mutex_);
    auto &r = room(name);
    std::erase_if(r.listeners, [&](const auto &weak) {
      const auto one = weak.lock();
      return !one || one.get() == who;
    });
    make_way();
  }
  void history(std::string name, broker_position since, page_read answer) override {
    broker_page page;
    {
      std::lock_guard lock(mutex_);
      auto &r = room(name);
      trim(r);
      page.epoch = r.epoch;
      page.last = r.last;
      page.trimmed = r.trimmed;
      const auto after = since.epoch == r.epoch ? since.offset : 0;
      for (const auto &one : r.kept)
        if (one.content.at.offset > after)
          page.messages.push_back(one.content);
    }
    answer(std::move(page));
  }
  void enter(std::string name, broker_member who, std::chrono::milliseconds alive,
             done answer) override {
    {
      std::lock_guard lock(mutex_);
      auto &r = room(name);
      auto id = who.id;
      r.members.insert_or_assign(std::move(id), present{std::move(who), clock::now() + alive});
    }
    answer({});
  }
  void leave(std::string name, std::string id, done answer) override {
    {
      std::lock_guard lock(mutex_);
      room(name).members.erase(id);
    }
    answer({});
  }
  void members(std::string name, members_read answer) override {
    std::vector<broker_member> all;
    {
      std::lock_guard lock(mutex_);
      auto &here = room(name).members;
      std::erase_if(here, [now = clock::now()](const auto &m) { return m.second.until < now; });
      for (const auto &[id, m] : here)
        all.push_back(m.who);
    }
    answer(std::move(all));
  }

private:
  struct kept_one {
    broker_message content;
    clock::time_point at;
  };
  struct present {
    broker_member who;
    clock::time_point until;
  };
  struct state {
    std::string epoch = detail::random_epoch();
    std::uint64_t last = 0;
    std::uint64_t trimmed = 0;
    std::uint64_t used = 0;
    std::size_t bytes = 0;
    room_options keep;
    std::deque<kept_one> kept;
    std::vector<std::weak_ptr<broker_listener>> listeners;
    std::unordered_map<std::string, present> members;
  };

  state &room(const std::string &name) { return rooms_[name]; }
  static void trim(state &r) {
    const auto oldest = clock::now() - r.keep.history_age;
    while (!r.kept.empty() &&
           (r.bytes > r.keep.history_bytes ||
            (r.keep.history_messages != 0 && r.kept.size() > r.keep.history_messages) ||
            (r.keep.history_age.count() != 0 && r.kept.front().at < oldest))) {
      r.trimmed = r.kept.front().content.at.offset;
      r.bytes -= r.kept.front().content.content.size();
      r.kept.pop_front();
    }
  }
  void make_way() {
    while (rooms_.size() > max_rooms_) {
      auto oldest = rooms_.end();
      for (auto at = rooms_.begin(); at != rooms_.end(); ++at)
        if (at->second.listeners.empty() && at->second.members.empty() &&
            (oldest == rooms_.end() || at->second.used < oldest->second.used))
          oldest = at;
      if (oldest == rooms_.end())
        return;
      rooms_.erase(oldest);
    }
  }

  const std::size_t max_rooms_;
  std::mutex mutex_;
  std::uint64_t uses_ = 0;
  std::unordered_map<std::string, state> rooms_;
};

} // namespace

std::shared_ptr<broker> make_memory_broker(std::size_t max_rooms) {
  return std::make_shared<memory_broker>(max_rooms);
}

} // namespace chorus
