#pragma once
// A room's connection to the engine that it shares with other servers. What is to be kept goes to the
// engine first and comes back with its place, for the publisher's own server as for all. On the room's
// home shard, but for what the engine calls.

#include <chorus/async/timer_wheel.hpp>
#include <chorus/server/arrival.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/room_core.hpp>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

class room_link final : public broker_listener, public std::enable_shared_from_this<room_link> {
public:
  room_link(std::weak_ptr<room_core> room, std::shared_ptr<shard> home, std::string name,
            std::shared_ptr<broker> engine, std::string server);

  // A message that the engine numbers; delivered when it comes back.
  void publish(const message &m, sent_out with);
  // One that is with this server's members already.
  void pass_on(const message &m, const publish_terms *terms);
  // True when `a` may enter now; else it is taken, and comes back to the room when all is there.
  bool ready_for(const std::shared_ptr<arrival> &a);
  // The room is going, from any thread.
  void close() noexcept;

  void on_message(const broker_message &m) noexcept override;
  void on_gap() noexcept override;

private:
  enum class state : unsigned char { idle, subscribing, filling, ready };

  broker_message outgoing(const room_core &room, const message &m, const publish_terms *terms);
  void answered(const std::string &origin, const result<broker_position> &r);
  void arrived(const broker_message &m);
  void deliver(room_core &room, const broker_message &m);
  void subscribed(const result<> &r);
  void fill();
  void filled(const result<broker_page> &page);
  void become_ready(room_core &room);
  void forget_passed(room_core &room);
  void give_up(const failure &why);
  void complain(std::string_view what, const failure &why);
  // Runs `f` with the room on its home shard, as long as there is one.
  template <class F> void at_home(F f);

  const std::weak_ptr<room_core> room_;
  const std::shared_ptr<shard> home_;
  const std::string name_;
  const std::shared_ptr<broker> engine_;
  const std::string server_; // what our origins begin with
  state state_ = state::idle;
  bool again_ = false; // while filling: more has come than was kept here
  bool stuck_ = false; // while filling: the engine did not answer; the next event asks again
  std::size_t early_bytes_ = 0;
  std::uint64_t number_ = 0;
  std::unordered_map<std::string, sent_out> sent_; // by origin
  std::vector<broker_message> early_;              // while filling
  std::vector<std::shared_ptr<arrival>> arrivals_;
};

} // namespace chorus::detail
