#pragma once
// The broker on Redis: `redis_engine` does it all, on one shard; calls wait in `redis_shared`, in their
// order, until its next turn. When its shard has gone the next one that was attached gets an engine of its
// own, which goes on with the same listeners and leases.

#include <chorus/async/shard.hpp>
#include <chorus/cluster/redis_calls.hpp>
#include <chorus/cluster/redis_scripts.hpp>

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace chorus::detail {

class redis_engine;

// Who listens to a channel.
struct redis_subscription {
  std::string room{};
  std::vector<std::weak_ptr<broker_listener>> listeners{};
  struct waiting {
    std::weak_ptr<broker_listener> to{};
    redis_owed<void> answer{};
    time_point until{};
  };
  std::vector<waiting> waits{}; // for Redis' confirmation
  bool confirmed = false;
  bool missed = false; // something may have been, before it was confirmed
  bool kept = false;   // it has a history, whose keys must not expire
  std::string epoch{};
  std::uint64_t last = 0; // of the newest message that came; 0: none known
  // The newest place that Redis is known to have given, by whatever came; it stays over gaps.
  broker_position seen{};
  void note(const std::string &of, std::uint64_t offset) {
    if (seen.epoch != of)
      seen = {of, offset};
    else
      seen.offset = std::max(seen.offset, offset);
  }
};

// A node's, as this process knows it.
struct redis_lease {
  struct room {
    bool added = false; // to the rooms that are left when the node is dead
    bool adding = false;
    std::uint64_t entered = 0;                               // calls
    std::deque<std::function<void(const failure *)>> held{}; // until it is added, or is not: why
  };
  std::string incarnation{}; // empty: Redis has not answered yet
  time_point until{};
  unsigned renewing = 0;
  unsigned swept = 0; // since it is over
  std::deque<std::function<void()>> held{};
  std::unordered_map<std::string, room> rooms{};
};

// A kept message on its way; of those that pass only what can wait for others.
struct redis_publish {
  std::string room{};
  std::string wire{};
  std::string origin{};
  bool kept = false;
  bool command = false;
  std::size_t messages = 0;
  std::size_t bytes = 0;
  std::chrono::milliseconds age{0};
  std::chrono::milliseconds linger{0};
  redis_owed<broker_position> answer{};
  time_point sent{};       // first
  std::uint64_t known = 0; // offset before that; 0: none
  std::uint64_t order = 0; // among those of its room
  bool on_its_way = false; // to be answered
  bool again = false;
  std::shared_ptr<redis_trail> trail{}; // of what is kept
};

// Messages of a room whose outcome is not known. While `settling`, those after them wait.
struct redis_lane {
  std::deque<std::shared_ptr<redis_publish>> flying{}; // that are kept
  std::deque<std::shared_ptr<redis_publish>> waiting{};
  std::uint64_t sent = 0;       // ever
  std::size_t on_their_way = 0; // of those flying, and what looks for them
  bool settling = false;
};

// Looks for all that is flying of a room, page by page.
struct redis_look_up {
  std::string room{};
  std::string from{}; // an offset; -1: by the time
  std::string since{};
  std::uint64_t until = 0;                 // what comes later was sent by others; 0: not known yet
  bool all_kept = true;                    // that came after the first `from`
  std::shared_ptr<redis_publish> newest{}; // of those flying that are there
  std::unordered_map<std::string, std::shared_ptr<redis_publish>> sought{}; // by origin
};

// What broker and engine share.
struct redis_shared {
  redis_shared(redis_target t, redis_options o)
      : target(std::move(t)), options(std::move(o)), names{prefix()},
        budget(std::make_shared<redis_budget>(options.max_waiting, options.max_waiting_bytes)) {}

  // Channels know no databases: the names must tell them apart.
  std::string prefix() const {
    return target.database == 0 ? options.prefix
                                : options.prefix + std::to_string(target.database) + ":";
  }

  const redis_target target;
  const redis_options options;
  const redis_names names;
  const std::shared_ptr<redis_budget> budget;
  std::atomic<std::uint64_t> refused{0};
  std::atomic<bool> stats_asked{false}; // for, and the engine has not looked yet

  std::mutex mutex; // guards the rest
  std::vector<std::weak_ptr<shard>> homes;
  std::shared_ptr<redis_engine> engine;
  bool attached = false; // ever
  bool closed = false;
  std::deque<std::function<void(redis_engine &)>> calls;
  bool posted = false;
  broker_status status{false, "the connection to Redis is being made"};
  broker_stats stats;
};

struct redis_string_hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const noexcept {
    return std::hash<std::string_view>()(s);
  }
};
using redis_subscriptions =
    std::unordered_map<std::string, redis_subscription, redis_string_hash, std::equal_to<>>;
using redis_leases = std::map<std::string, redis_lease, std::less<>>;

// The engine's shard has gone; with the mutex held. Begins one on the next shard that lives; if there is
// none, the calls that wait are let go.
std::deque<std::function<void(redis_engine &)>> move_on(const std::shared_ptr<redis_shared> &shared,
                                                        redis_subscriptions subscriptions,
                                                        redis_leases leases);

class redis_engine final : public resident, public std::enable_shared_from_this<redis_engine> {
public:
  redis_engine(std::shared_ptr<shard> home, std::shared_ptr<redis_shared> shared,
               redis_subscriptions subscriptions, redis_leases leases);
  const std::shared_ptr<shard> &home() const noexcept { return home_; }

  // All of it on the shard.
  void begin();
  bool enrolled() const noexcept {
    return enrolled_;
  } // from any thread: it is told of its shard's end
  void close() noexcept;
  void drain();

  void publish(std::shared_ptr<redis_publish> p);
  void subscribe(std::string room, std::weak_ptr<broker_listener> to, redis_owed<void> answer);
  void unsubscribe(const std::string &room, const broker_listener *who);
  void history(const std::string &room, const broker_position &since, redis_owed<broker_page> a);
  void begin_epoch(const std::string &room, std::string ended, redis_owed<void> answer);
  void enter(const std::string &room, broker_member who, std::size_t most, redis_owed<void> answer);
  void leave(const std::string &room, const std::string &node, const std::string &id,
             redis_owed<void> answer);
  void members(const std::string &room, redis_owed<broker_members> answer);
  void renew(const std::string &node, std::chrono::milliseconds alive, redis_owed<bool> answer);
  void take_stats();

private:
  struct beat final : timer {
    beat(redis_engine &e, void (redis_engine::*f)()) noexcept
        : timer([](timer &t) noexcept {
            auto &self = static_cast<beat &>(t);
            const auto held = self.engine.shared_from_this();
            ((*held).*self.due)();
          }),
          engine(e), due(f) {}
    redis_engine &engine;
    void (redis_engine::*const due)();
  };
  struct listing;
  struct claim;

  void on_shard_gone() noexcept override;
  // `f(self, outcome)`. When the engine or its shard ends, what `f` owes is answered by letting it go: the
  // pool may be told of the shard's end first.
  template <class F> redis_answer then(F f) {
    return [weak = weak_from_this(), f = std::move(f)](redis_outcome o) {
      const auto self = weak.lock();
      if (self && !self->closed_ &&
          (o.is == redis_outcome::kind::answered || !self->home_->stopped()))
        f(*self, o);
    };
  }
  void tick();
  void decided();
  void told_status();
  std::string verb() const { return pool_->clustered() ? "SPUBLISH" : "PUBLISH"; }
  std::string lives(const redis_publish &p) const;

  // Subscriptions.
  void came(std::string_view channel, std::string_view payload);
  void confirmed(const std::string &channel, bool again);
  void came_kept(redis_subscription &s, const redis_news &news);
  template <class F> void tell(redis_subscription &s, F f);
  void gap(redis_subscription &s);
  void drop_if_unheard(const std::string &channel);
  void fail_waits(const failure *why);
  void keep_alive(redis_subscription &s, const std::string &channel);
  void touch_some();

  // Publishes.
  void send(const std::shared_ptr<redis_publish> &p);
  void sent_passing(const std::shared_ptr<redis_publish> &p, const redis_outcome &o);
  void sent_kept(const std::shared_ptr<redis_publish> &p, const redis_outcome &o);
  void finish(const std::shared_ptr<redis_publish> &p, result<broker_position> r);
  redis_lane *idle_lane(const std::string &room);
  void settle(const std::string &room);
  void look_up(const std::string &room, redis_lane &lane);
  void look_on(const std::shared_ptr<redis_look_up> &l);
  void looked(const std::shared_ptr<redis_look_up> &l, const redis_outcome &o);
  void send_again(const std::string &room);
  void leave_unconfirmed(const std::string &room, const std::string &why);
  static void end_overtaken(redis_lane &lane, const redis_publish &by, const failure &why);
  void note_place(const std::string &room, const broker_position &at);
  void settle_all();

  // Presence.
  void send_enter(const std::string &room, const broker_member &who, std::size_t most,
                  const redis_owed<void> &answer);
  void send_leave(const std::string &room, const std::string &node, const std::string &id,
                  const redis_owed<void> &answer);
  void add_room(const std::string &room, const std::string &node);
  void forget_room(const std::string &room, const std::string &node, std::uint64_t entered,
                   const redis_reply &left);
  void list(const std::shared_ptr<listing> &l);
  void listed(const std::shared_ptr<listing> &l, const redis_reply &r);
  void renewed(const std::string &node, time_point until, const redis_reply &r);
  void run_held(const std::string &node);
  void drop_lease(const std::string &node, const failure &why);
  void sweep();
  void start_sweep();
  void look_for_dead();
  void work(std::string claimed, std::function<void()> done);
  void take_rooms(const std::shared_ptr<claim> &c);
  void empty_room(const std::shared_ptr<claim> &c, const std::string &room, std::string cursor);
  void emptied(const std::shared_ptr<claim> &c, const std::string &room, bool done);
  void end_claim(const std::shared_ptr<claim> &c);

  const std::shared_ptr<shard> home_;
  const std::shared_ptr<redis_shared> shared_;
  std::shared_ptr<redis_engine> self_; // until it is closed
  std::shared_ptr<redis_pool> pool_;
  std::atomic<bool> enrolled_{false};
  bool closed_ = false;
  bool decided_ = false; // Redis is reached, or is not: until then calls wait
  time_point begun_{};
  redis_subscriptions subscriptions_;
  std::unordered_set<std::string> unconfirmed_;            // channels that calls wait for
  std::deque<std::pair<time_point, std::string>> touches_; // of channels, the next one first
  std::unordered_set<std::string> touched_;                // those in it
  std::unordered_map<std::string, redis_lane> lanes_;
  redis_leases leases_;
  bool claiming_ = false; // one that is dead, of another
  std::uint64_t received_ = 0;
  std::uint64_t looked_up_ = 0;
  std::uint64_t gaps_ = 0;
  std::uint64_t unreadable_ = 0;
  beat tick_{*this, &redis_engine::tick};
  beat lapse_{*this, &redis_engine::sweep};
};

} // namespace chorus::detail
