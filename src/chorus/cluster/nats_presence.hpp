#pragma once
// Who is present: an entry for each member of a room, the last of its subject, changed only by who knows
// the one before. Belongs to the engine's thread.

#include <chorus/cluster/nats_streams.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace chorus::detail {

// How an entry stands in the stream.
struct nats_present {
  // `claim`: wants to enter a room that may be full; nobody is told of it, nor of its withdrawal.
  enum class kind : std::uint8_t { in, out, claim, withdrawn };
  kind what = kind::in;
  std::string lease{};
  std::uint64_t place = 0; // of its claim, among those who want to enter; 0: its own
  broker_member who{};
  std::string str() const;
  static std::optional<nats_present> parse(std::string_view body, std::uint64_t at);
};

class nats_presence {
public:
  explicit nats_presence(nats_core &core) : core_(core) {}

  void enter(const std::string &room, broker_member who, std::size_t most,
             nats_answer<void> answer);
  void leave(const std::string &room, std::string node, std::string id, nats_answer<void> answer);
  void members(const std::string &room, nats_answer<broker_members> answer);
  // Takes out who is there by the node's word under another lease than `but`.
  task<result<>> sweep(std::string node, std::string but);

  void changed(const std::string &room, const nats_event &e,
               const std::function<void(const broker_change &)> &tell);

private:
  struct room {
    std::string token{};
    std::uint64_t last = 0;          // number of an operation
    std::set<std::uint64_t> going{}; // and those that are not over
    std::vector<std::pair<std::uint64_t, std::function<void()>>> lists{}; // wait for those before
    std::map<std::string, std::deque<std::function<task<>()>>> turns{};   // by id
    std::map<std::string, nats_present> own{}; // as this engine has left them, by id
  };
  using shared_room = std::shared_ptr<room>;
  struct found_members {
    std::uint64_t at = 0;
    std::vector<nats_present> all{};
  };

  shared_room find(const std::string &name);
  void take_turn(const shared_room &r, const std::string &id, std::function<task<>()> f);
  task<> turns_of(shared_room r, std::string id);
  void over(const shared_room &r, std::uint64_t number);
  std::string subject(const room &r, const std::string &id) const {
    return core_.subject("p." + r.token + "." + nats_token(id));
  }
  task<result<>> do_enter(shared_room r, broker_member who, std::size_t most);
  task<result<>> do_leave(shared_room r, std::string node, std::string id);
  task<> do_list(shared_room r, nats_answer<broker_members> answer);
  task<result<found_members>> list(shared_room r);
  task<result<std::optional<nats_present>>> look(shared_room r, std::string id, std::uint64_t &at);
  // How many of the others come before `place`.
  task<result<std::size_t>> before(shared_room r, std::string id, std::uint64_t place);
  void put_out(std::string subject, nats_present p, std::uint64_t at);

  nats_core &core_;
  std::unordered_map<std::string, shared_room> rooms_; // by name
  std::size_t tidy_at_ = 1024;                         // rooms
};

} // namespace chorus::detail
