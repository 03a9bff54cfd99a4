#pragma once
// A server among those that share an engine: its name, its lease for what it says of who is present, and
// the channels by which the others reach it. Belongs to the thread of its shard but for what is marked.

#include <chorus/async/shard.hpp>
#include <chorus/base/backoff.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/engine_watch.hpp>
#include <chorus/server/pending_leaves.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

class room_link;

// How names stand apart at the engine.
std::string room_channel(std::string_view room);
std::string user_channel(std::string_view user);
std::string node_channel(std::string_view node); // empty: of all of them

class broker_node final : public broker_listener,
                          public resident,
                          public std::enable_shared_from_this<broker_node> {
public:
  using on_command = std::function<void(const broker_message &)>;

  static std::shared_ptr<broker_node> make(std::shared_ptr<shard> home,
                                           std::shared_ptr<broker> engine, std::string name,
                                           std::chrono::milliseconds lease);
  ~broker_node();

  // From any thread.
  const std::string &name() const noexcept { return name_; }
  const std::shared_ptr<broker> &engine() const noexcept { return engine_; }
  const std::shared_ptr<shard> &home() const noexcept { return home_; }
  engine_watch &watch() noexcept { return watch_; }
  // Listens, and keeps its lease, from here on; idempotent.
  void begin();
  // The server stops: the lease is renewed once more, for `grace` longer.
  void retire(std::chrono::milliseconds grace);
  // Something of `link` has failed: it is told to mend when the engine answers again, which it is soon
  // asked if it says that it is there. `now`: the lease is gone.
  void look_after(std::weak_ptr<room_link> link, bool now = false);
  // What says who is present, as long as it lives.
  void enlist(std::weak_ptr<room_link> link);
  // Somebody of this server has left what the engine calls `channel`; from any thread. What fails is
  // asked for again whenever the lease is renewed, and `failed`, if there is one, told on any thread.
  void leave(const std::string &channel, const std::string &id,
             std::function<void(const failure &)> failed);
  // Before somebody is said to be there who may have left before; from any thread.
  void entering(const std::string &channel, const std::string &id) { leaves_.forget(channel, id); }
  // For an origin that nobody has had; from any thread.
  std::uint64_t next_number() noexcept { return ++number_; }
  // A command to one node, or (empty) to all others; from any thread. `answer`, if there is one, is
  // called on the home shard.
  void tell(std::string_view node, broker_message m, std::function<void(const result<> &)> answer);
  // Before `begin`; called on the home shard. Commands of its own don't come.
  void listen(on_command f) { on_command_ = std::move(f); }
  // Before `begin`; called on the home shard when the lease was renewed. `fresh`: nobody is present by
  // this server's word.
  void on_lease(std::function<void(bool fresh)> f) { on_lease_ = std::move(f); }
  // Before `begin`.
  void complain_to(std::function<void(std::string_view)> f) { complain_ = std::move(f); }

  // Commands of others beyond these that wait for the shard are dropped.
  static constexpr std::size_t most_commands = 16'384;
  static constexpr std::size_t most_command_bytes = std::size_t{64} << 20;
  std::uint64_t commands_dropped() const noexcept { return dropped_; }

  void on_message(const broker_message &m) noexcept override;
  void on_presence(const broker_change &) noexcept override {}
  // The engine has been away: all that has failed may be tried again.
  void on_gap() noexcept override;
  void on_shard_gone() noexcept override;

private:
  broker_node(std::shared_ptr<shard> home, std::shared_ptr<broker> engine, std::string name,
              std::chrono::milliseconds lease);
  struct pulse final : timer {
    explicit pulse(broker_node &n) noexcept
        : timer([](timer &t) noexcept { static_cast<pulse &>(t).node.renew(); }), node(n) {}
    broker_node &node;
  };

  template <class F> void at_home(F f);
  void subscribe(const std::string &channel, bool &done);
  void renew();
  void renewed(const result<bool> &r);
  void ended(const result<bool> &r);
  void left(const pending_leaves::one &who, const result<> &r);
  void leave_again();
  void soon();
  void complain(const std::string &what, const failure &why);

  const std::shared_ptr<shard> home_;
  const std::shared_ptr<broker> engine_;
  const std::string name_;
  const std::chrono::milliseconds lease_;
  engine_watch watch_;
  on_command on_command_;
  std::function<void(std::string_view)> complain_;
  std::function<void(bool)> on_lease_;
  std::atomic<bool> begun_{false};
  std::atomic<std::uint64_t> number_{0};
  std::atomic<std::size_t> commands_{0}; // on their way to the shard
  std::atomic<std::size_t> command_bytes_{0};
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<bool> dropping_{false}; // and that has been told
  bool retired_ = false;
  bool renewing_ = false;
  bool renew_again_ = false;
  bool starts_over_ = false; // the lease is ended first
  bool troubled_ = false;    // and that has been told
  bool hears_itself_ = false;
  bool hears_all_ = false;
  pulse pulse_{*this};
  pulse retry_{*this};   // before that, when something has failed
  bool failing_ = false; // since the lease was last renewed
  backoff retries_;
  std::mt19937_64 random_;
  pending_leaves leaves_;
  std::vector<std::weak_ptr<room_link>> failed_;
  std::vector<std::weak_ptr<room_link>> all_;
};

} // namespace chorus::detail
