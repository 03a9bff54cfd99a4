#include <chorus/cluster/redis_broker.hpp>

#include <chorus/cluster/redis.hpp>
#include <chorus/cluster/wire.hpp>

#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <utility>

namespace chorus {

namespace detail {

namespace {

// Of a call's answer and names, beside its contents.
constexpr std::size_t call_cost = 256;

result<> check_options(const redis_options &o) {
  if (o.prefix.find_first_of("{}") != std::string::npos)
    return failure(error::bad_option, stage::configure,
                   "redis_options::prefix must have no braces: Redis Cluster would place the keys "
                   "by them");
  return check_redis_options(o);
}

// The tag of its keys, by which Redis Cluster places them, would be empty.
bool good_room(std::string_view room) {
  return !room.empty() && room.front() != '}' && room.size() <= max_broker_name;
}

// What was called last is done still, as a lease that is ended: the engine closes when all is answered, or
// `until`. If its shard stops before, that closes it.
void wind_up(const std::shared_ptr<redis_engine> &engine,
             const std::shared_ptr<redis_shared> &shared, time_point until) {
  engine->home()->post([engine, shared, until] {
    if (shared->budget->calls() == 0 || clock::now() >= until) {
      engine->close();
      return;
    }
    engine->drain();
    const auto timer = std::make_shared<boost::asio::steady_timer>(engine->home()->executor());
    timer->expires_after(std::chrono::milliseconds(10));
    timer->async_wait([engine, shared, timer, until](boost::system::error_code) {
      wind_up(engine, shared, until);
    });
  });
}

class redis_broker final : public broker {
public:
  redis_broker(result<redis_target> target, redis_options options)
      : target_failure_(target.has_error() ? target.error() : failure()),
        shared_(std::make_shared<redis_shared>(
            target.has_value() ? std::move(*target) : redis_target(), std::move(options))) {}
  ~redis_broker() override {
    std::shared_ptr<redis_engine> engine;
    {
      std::lock_guard lock(shared_->mutex);
      shared_->closed = true;
      engine.swap(shared_->engine);
    }
    if (engine)
      wind_up(engine, shared_, clock::now() + shared_->options.answer_timeout);
  }

  result<> attach(boost::asio::any_io_executor executor) override {
    if (target_failure_.code())
      return target_failure_;
    if (auto usable = check_options(shared_->options); !usable)
      return usable;
    auto *const found = shard::of(executor);
    if (!found)
      return failure(error::no_runtime, stage::configure,
                     "a Redis broker works on a shard of a runtime: attach it to its executor");
    auto home = found->shared_from_this();
    std::lock_guard lock(shared_->mutex);
    shared_->attached = true;
    if (shared_->engine) {
      std::erase_if(shared_->homes, [](const auto &one) { return one.expired(); });
      shared_->homes.push_back(home);
      return {};
    }
    start(shared_, home, {}, {});
    return {};
  }

  // With the mutex held.
  static bool start(const std::shared_ptr<redis_shared> &shared, const std::shared_ptr<shard> &home,
                    redis_subscriptions subscriptions, redis_leases leases) {
    auto engine =
        std::make_shared<redis_engine>(home, shared, std::move(subscriptions), std::move(leases));
    if (!home->post([engine] { engine->begin(); }))
      return false;
    shared->engine = std::move(engine);
    return true;
  }

  void publish(broker_message m, published answer) override {
    auto p = std::make_shared<redis_publish>();
    p->kept = m.keep.keeps_history();
    p->wire = write_broker_message(m);
    p->origin = std::move(m.origin);
    p->room = std::move(m.room);
    p->command = !m.command.empty();
    p->messages = m.keep.history_messages;
    p->bytes = m.keep.history_bytes;
    p->age = m.keep.history_age;
    p->linger = m.keep.history_linger;
    p->answer = owed<broker_position>(p->room, p->wire.size(), std::move(answer));
    if (p->answer)
      call([p](redis_engine &e) { e.publish(p); }, p->answer);
  }
  void subscribe(std::string room, std::weak_ptr<broker_listener> to, done answer) override {
    const auto a = owed<void>(room, 0, std::move(answer));
    if (a)
      call([room = std::move(room), to = std::move(to),
            a](redis_engine &e) { e.subscribe(room, to, a); },
           a);
  }
  void unsubscribe(std::string room, const broker_listener *who) override {
    call([room = std::move(room), who](redis_engine &e) { e.unsubscribe(room, who); },
         redis_owed<void>());
  }
  void history(std::string room, broker_position since, page_read answer) override {
    const auto a = owed<broker_page>(room, 0, std::move(answer));
    if (a)
      call([room = std::move(room), since = std::move(since),
            a](redis_engine &e) { e.history(room, since, a); },
           a);
  }
  void enter(std::string room, broker_member who, std::size_t most, done answer) override {
    const auto a = owed<void>(room, who.data.size() + who.id.size(), std::move(answer));
    if (a)
      call([room = std::move(room), who = std::move(who), most,
            a](redis_engine &e) { e.enter(room, who, most, a); },
           a);
  }
  void leave(std::string room, std::string node, std::string id, done answer) override {
    const auto a = owed<void>(room, 0, std::move(answer));
    if (a)
      call([room = std::move(room), node = std::move(node), id = std::move(id),
            a](redis_engine &e) { e.leave(room, node, id, a); },
           a);
  }
  void members(std::string room, members_read answer) override {
    const auto a = owed<broker_members>(room, 0, std::move(answer));
    if (a)
      call([room = std::move(room), a](redis_engine &e) { e.members(room, a); }, a);
  }
  void renew(std::string node, std::chrono::milliseconds alive, renewed answer) override {
    const auto a = owed<bool>("node/" + node, 0, std::move(answer));
    if (a)
      call([node = std::move(node), alive, a](redis_engine &e) { e.renew(node, alive, a); }, a);
  }
  void begin_epoch(std::string room, std::string ended, done answer) override {
    const auto a = owed<void>(room, 0, std::move(answer));
    if (a)
      call([room = std::move(room), ended = std::move(ended),
            a](redis_engine &e) { e.begin_epoch(room, ended, a); },
           a);
  }

  broker_status status() const override {
    std::lock_guard lock(shared_->mutex);
    return shared_->status;
  }
  // As of the engine's last beat; asking makes it look again.
  broker_stats stats() const override {
    broker_stats all;
    std::shared_ptr<redis_engine> engine;
    {
      std::lock_guard lock(shared_->mutex);
      all = shared_->stats;
      engine = shared_->engine;
    }
    // One post, however often it is asked while the shard is busy.
    if (engine && !shared_->stats_asked.exchange(true) &&
        !engine->home()->post([engine] { engine->take_stats(); }))
      shared_->stats_asked = false;
    all.refused = shared_->refused.load(std::memory_order_relaxed);
    all.waiting = shared_->budget->calls();
    all.waiting_bytes = shared_->budget->bytes();
    return all;
  }

private:
  // Empty when it has been answered: too many wait, or there can't be such a room.
  template <class T>
  redis_owed<T> owed(const std::string &room, std::size_t bytes,
                     std::function<void(result<T>)> answer) {
    if (!good_room(room)) {
      answer(failure(error::bad_option, stage::none,
                     "Redis can't have a room whose name is empty, begins with } or is longer "
                     "than 64 KiB"));
      return {};
    }
    const auto cost = bytes + room.size() + call_cost;
    if (!shared_->budget->take(cost)) {
      shared_->refused.fetch_add(1, std::memory_order_relaxed);
      answer(failure(error::queue_full, stage::none,
                     "too many calls wait for Redis (redis_options::max_waiting, "
                     "max_waiting_bytes)"));
      return {};
    }
    return std::make_shared<redis_call<T>>(std::move(answer), shared_->budget, cost);
  }
  // Into the queue, in the order of the calls. One post for all that wait.
  template <class F, class Owed> void call(F f, const Owed &answer) {
    std::shared_ptr<redis_engine> engine;
    bool attached = true;
    {
      std::lock_guard lock(shared_->mutex);
      engine = shared_->engine;
      attached = shared_->attached;
      if (engine) {
        shared_->calls.push_back(std::move(f));
        if (std::exchange(shared_->posted, true))
          return;
      }
    }
    if (engine) {
      if (!engine->home()->post([engine] { engine->drain(); }) && !engine->enrolled())
        never_began(engine);
    } else if (!attached && answer)
      (*answer)(failure(error::no_runtime, stage::none,
                        "no server has been given this broker yet: it has no runtime to work on"));
  }

  // Its shard has ended before it ran, so that the engine can't hear of it.
  void never_began(const std::shared_ptr<redis_engine> &engine) {
    std::deque<std::function<void(redis_engine &)>> calls;
    std::lock_guard lock(shared_->mutex);
    if (shared_->engine == engine)
      calls = move_on(shared_, {}, {});
  }

  const failure target_failure_;
  const std::shared_ptr<redis_shared> shared_;
};

} // namespace

std::deque<std::function<void(redis_engine &)>> move_on(const std::shared_ptr<redis_shared> &shared,
                                                        redis_subscriptions subscriptions,
                                                        redis_leases leases) {
  shared->engine.reset();
  shared->posted = false;
  shared->status = {false, "the runtime that spoke to Redis has ended"};
  while (!shared->homes.empty() && !shared->closed) {
    const auto next = shared->homes.front().lock();
    shared->homes.erase(shared->homes.begin());
    if (next && redis_broker::start(shared, next, subscriptions, leases))
      return {};
  }
  return std::exchange(shared->calls, {});
}

} // namespace detail

std::shared_ptr<broker> redis(std::string_view url, redis_options options) {
  return std::make_shared<detail::redis_broker>(detail::parse_redis_url(url), std::move(options));
}

} // namespace chorus
