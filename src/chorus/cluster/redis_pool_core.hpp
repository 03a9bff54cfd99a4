#pragma once
// Inside of `redis_pool`: the masters, which slots they serve, and the calls that wait for their turn.

#include <chorus/cluster/redis_caller.hpp>
#include <chorus/cluster/redis_locators.hpp>
#include <chorus/cluster/redis_pool.hpp>
#include <chorus/cluster/redis_subscriber.hpp>
#include <chorus/cluster/redis_topology.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

// Read from any thread, written on the shard's.
struct redis_pool_counts {
  std::atomic<std::uint64_t> connects{0};
  std::atomic<std::uint64_t> disconnects{0};
  std::atomic<std::uint64_t> commands{0};
  std::atomic<std::size_t> waiting{0};
  std::atomic<std::size_t> waiting_bytes{0};
  std::atomic<std::int64_t> oldest{0};     // ticks of the clock; 0: none waits
  std::atomic<std::int64_t> last_took{0};  // microseconds
  std::atomic<std::int64_t> away{0};       // milliseconds, of what is over
  std::atomic<std::int64_t> away_since{0}; // ticks of the clock; 0: up
  std::atomic<bool> up{false};
};

class redis_pool_core final : public redis_caller_user,
                              public redis_subscriber_user,
                              resident,
                              public std::enable_shared_from_this<redis_pool_core> {
public:
  redis_pool_core(std::shared_ptr<shard> home, const redis_target &target,
                  const redis_options &options, redis_pool::listener told);
  ~redis_pool_core();

  void begin();
  void close() noexcept;
  void submit(std::string_view key, std::vector<std::string> words, const redis_script *script,
              redis_answer answer, std::shared_ptr<redis_trail> trail);
  void subscribe(std::string channel);
  void unsubscribe(const std::string &channel);

  bool clustered() const noexcept { return ground_->target.is == redis_target::kind::cluster; }
  bool up() const noexcept { return counts_.up.load(std::memory_order_acquire); }
  failure why_down() const;
  broker_stats stats() const;

private:
  struct master {
    std::uint64_t number = 0; // no other one of this pool ever has it
    redis_address where{};
    std::shared_ptr<redis_caller> caller{};
    std::shared_ptr<redis_subscriber> subscriber{}; // null: nothing was subscribed yet
    bool was_up = false;                            // ever
    std::string told{};                             // last sentence of why it can't be reached
    std::string told_channels{};                    // the same, of the other connection
    std::string run{};                              // of the process that was reached last
    std::string address{};
  };
  struct parked {
    redis_request call;
    bool asking = false; // with ASKING at `to`
    redis_address to{};
  };
  // Calls about one slot that wait until those before them are out of the way: one was refused without being
  // executed, and is to be sent again before those after it.
  struct lane {
    std::map<std::uint64_t, parked> calls{}; // in their order
    time_point not_before{};
  };
  struct alarm final : timer {
    alarm(redis_pool_core &c, callback f) noexcept : timer(f), core(c) {}
    redis_pool_core &core;
  };

  // Calls (redis_pool_calls.cpp).
  void dispatch(parked p);
  void park(parked p, time_point not_before);
  void pump(std::uint16_t slot);
  void pump_all();
  void lanes_due();
  void finish(redis_request call, redis_outcome outcome);
  void refuse(redis_request call, const failure &why);
  void measure();
  void call_replied(redis_caller &from, redis_request call, redis_reply reply) override;
  bool try_again(redis_caller &from, redis_request &call, const redis_reply &reply);
  void call_ended(redis_request call, redis_outcome::kind how, const failure &why) override;
  void caller_sent(std::size_t commands) override;

  // Masters (redis_pool_core.cpp).
  void caller_up(redis_caller &c) override;
  void caller_ready(redis_caller &c) override;
  void caller_down(redis_caller &c, const failure &why, bool was_up) override;
  void channel_message(std::string_view channel, std::string_view payload) override;
  void channel_subscribed(const std::string &channel, bool again) override;
  void channel_moved(redis_subscriber &from, std::string channel, bool again,
                     std::string refusal) override;
  void subscriber_up(redis_subscriber &s) override;
  void subscriber_down(redis_subscriber &s, const failure &why, bool was_up) override;
  void subscriber_event(std::string_view sentence) override;
  void on_shard_gone() noexcept override;
  std::shared_ptr<master> make_master(const redis_address &where,
                                      std::shared_ptr<redis_locator> locator);
  master *master_of(const redis_caller &c) noexcept;
  master *master_of(const redis_subscriber &s) noexcept;
  master *owner(std::uint16_t slot) noexcept;
  void subscribe_at(master &m, std::string channel, bool again);
  void down(const failure &why);
  void look_if_up(bool tell);
  void event(const std::string &sentence);

  // The map of a cluster (redis_pool_map.cpp).
  master *master_at(const redis_address &where);
  void look_up_map();
  void map_later();
  void map_due();
  static task<> ask_map(std::shared_ptr<redis_pool_core> self);
  void take_map(const std::vector<redis_slot_range> &ranges);
  void map_failed(const failure &why);
  void drop_master(std::shared_ptr<master> m);

  std::shared_ptr<redis_ground> ground_;
  // Shared, since what is told may close the pool.
  std::shared_ptr<const redis_pool::listener> told_;
  redis_pool_counts counts_;
  mutable std::mutex why_mutex_;
  failure why_{error::not_open, stage::none, "Redis was not reached yet"};
  failure fatal_; // of the options
  bool begun_ = false;
  bool closed_ = false;
  bool told_down_ = false;
  bool told_up_owed_ = true;

  std::uint64_t calls_ = 0;
  std::uint64_t masters_made_ = 0;
  std::unordered_map<std::string, std::shared_ptr<const redis_script>> scripts_; // by SHA
  std::vector<std::uint32_t> outstanding_;                                       // by slot
  std::vector<std::uint64_t> asked_; // by slot: number of who was asked last; 0: nobody
  std::unordered_map<std::uint16_t, lane> lanes_;
  alarm lanes_alarm_;

  std::vector<std::shared_ptr<master>> masters_; // of a single one and of Sentinel the only one
  std::vector<std::shared_ptr<master>> leaving_; // serve no slot any more, but calls wait there
  std::vector<master *> slots_;                  // of a cluster, when its map is known
  bool asking_map_ = false;
  bool map_wanted_ = false;
  bool map_failed_ = false;
  std::string map_told_;
  std::size_t next_seed_ = 0;
  backoff map_backoff_;
  alarm map_alarm_;
  std::vector<std::pair<std::string, bool>> homeless_; // channels without a master, and `again`
  boost::asio::cancellation_signal cancel_;
};

} // namespace chorus::detail
