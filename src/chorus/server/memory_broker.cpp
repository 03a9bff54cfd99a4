#include <chorus/server/broker.hpp>

#include <chorus/server/history.hpp>

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

namespace chorus {

namespace {

using clock = std::chrono::steady_clock;

// Epochs of a room that were ended, and whose offsets are remembered to go on.
constexpr std::size_t most_ended = 16;

// Listeners are told under the lock, which is what keeps the order; they only post.
class memory_broker final : public broker {
public:
  explicit memory_broker(std::size_t max_rooms) : max_rooms_(max_rooms) {}

  void publish(broker_message m, published answer) override {
    broker_position at;
    bool heard = m.command.empty();
    {
      std::lock_guard lock(mutex_);
      end_leases();
      auto &r = room(m.room);
      r.used = ++uses_;
      if (m.keep.keeps_history()) {
        at = m.at = {r.epoch, ++r.last};
        r.keep = m.keep;
        r.bytes += m.content.size();
        r.kept.push_back({m, clock::now()});
        trim(r);
      }
      tell(r, [&](broker_listener &to) {
        to.on_message(m);
        heard = true;
      });
      make_way();
    }
    if (heard)
      answer(std::move(at));
    else
      answer(failure(error::not_open, stage::none, "nobody listens to " + m.room));
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
    const auto found = rooms_.find(name);
    if (found == rooms_.end())
      return;
    std::erase_if(found->second.listeners, [&](const auto &weak) {
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
      const bool known = since.epoch == r.epoch || std::ranges::count(r.ended, since.epoch) != 0;
      const auto after = known ? since.offset : 0;
      for (const auto &one : r.kept)
        if (one.content.at.offset > after)
          page.messages.push_back(one.content);
    }
    answer(std::move(page));
  }
  void begin_epoch(std::string name, std::string ended, done answer) override {
    {
      std::lock_guard lock(mutex_);
      if (auto &r = room(name); r.epoch == ended) {
        r.ended.push_back(std::exchange(r.epoch, detail::random_epoch()));
        if (r.ended.size() > most_ended)
          r.ended.pop_front();
        for (auto &one : r.kept)
          one.content.at.epoch = r.epoch;
        tell(r, [](broker_listener &to) { to.on_gap(); });
      }
    }
    answer({});
  }
  void enter(std::string name, broker_member who, std::size_t most, done answer) override {
    result<> entered;
    {
      std::lock_guard lock(mutex_);
      end_leases();
      if (!leases_.contains(who.node))
        entered = failure(error::not_open, stage::none,
                          "the node " + who.node + " has no lease: renew it, and enter again");
      else
        entered = let_in(name, std::move(who), most);
    }
    answer(std::move(entered));
  }
  void leave(std::string name, std::string node, std::string id, done answer) override {
    {
      std::lock_guard lock(mutex_);
      if (const auto found = rooms_.find(name); found != rooms_.end()) {
        let_out(name, found->second, node, id);
        make_way();
      }
    }
    answer({});
  }
  void members(std::string name, members_read answer) override {
    broker_members all;
    {
      std::lock_guard lock(mutex_);
      end_leases();
      auto &r = room(name);
      all.at = {r.epoch, r.changes};
      for (const auto &[id, who] : r.members)
        all.members.push_back(who);
    }
    std::sort(all.members.begin(), all.members.end(),
              [](const auto &a, const auto &b) { return a.at < b.at; });
    answer(std::move(all));
  }
  void renew(std::string node, std::chrono::milliseconds alive, renewed answer) override {
    bool had;
    {
      std::lock_guard lock(mutex_);
      end_leases();
      had = leases_.contains(node);
      if (alive.count() > 0)
        leases_[node].until = clock::now() + alive;
      else
        end_lease(node);
    }
    answer(had);
  }

private:
  struct kept_one {
    broker_message content;
    clock::time_point at;
  };
  struct lease {
    clock::time_point until;
    std::set<std::pair<std::string, std::string>> present; // room and id
  };
  struct state {
    std::string epoch = detail::random_epoch();
    std::deque<std::string> ended; // the epochs before
    std::uint64_t last = 0;
    std::uint64_t trimmed = 0;
    std::uint64_t used = 0;
    std::size_t bytes = 0;
    room_options keep;
    std::deque<kept_one> kept;
    std::vector<std::weak_ptr<broker_listener>> listeners;
    std::uint64_t changes = 0;                              // of who is present
    std::unordered_map<std::string, broker_member> members; // by id
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
  template <class F> static void tell(state &r, F f) {
    std::erase_if(r.listeners, [&](const auto &weak) {
      const auto to = weak.lock();
      if (to)
        f(*to);
      return !to;
    });
  }
  result<> let_in(const std::string &name, broker_member who, std::size_t most) {
    auto &r = room(name);
    const auto found = r.members.find(who.id);
    const bool known = found != r.members.end();
    if (known && found->second.node == who.node && found->second.data == who.data)
      return {};
    if (most != 0 && r.members.size() - (known ? 1 : 0) >= most)
      return failure(error::limit_reached, stage::open,
                     std::to_string(most) + " are there already, which is all that may be");
    if (known)
      leases_[found->second.node].present.erase({name, who.id});
    who.at = ++r.changes;
    leases_[who.node].present.emplace(name, who.id);
    const auto &now = r.members[who.id] = std::move(who);
    const broker_change change{name, now, true, {r.epoch, r.changes}};
    tell(r, [&](broker_listener &to) { to.on_presence(change); });
    return {};
  }
  void let_out(const std::string &name, state &r, const std::string &node, const std::string &id) {
    const auto found = r.members.find(id);
    if (found == r.members.end() || found->second.node != node)
      return;
    if (const auto held = leases_.find(node); held != leases_.end())
      held->second.present.erase({name, id});
    r.members.erase(found);
    ++r.changes;
    const broker_change change{name, {node, id, {}, r.changes}, false, {r.epoch, r.changes}};
    tell(r, [&](broker_listener &to) { to.on_presence(change); });
  }
  void end_lease(const std::string &node) {
    const auto found = leases_.find(node);
    if (found == leases_.end())
      return;
    const auto ended = std::move(found->second);
    leases_.erase(found);
    for (const auto &[name, id] : ended.present)
      if (const auto at = rooms_.find(name); at != rooms_.end())
        let_out(name, at->second, node, id);
    make_way();
  }
  void end_leases() {
    const auto now = clock::now();
    std::vector<std::string> over;
    for (const auto &[node, held] : leases_)
      if (held.until < now)
        over.push_back(node);
    for (const auto &node : over)
      end_lease(node);
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
  std::unordered_map<std::string, lease> leases_; // by node
};

} // namespace

std::shared_ptr<broker> make_memory_broker(std::size_t max_rooms) {
  return std::make_shared<memory_broker>(max_rooms);
}

} // namespace chorus
