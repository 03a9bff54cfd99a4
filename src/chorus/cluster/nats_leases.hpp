#pragma once
// Leases of nodes: a record for each, which its renewals replace. Every engine sees them and counts from
// then on by its own clock; of those who find one over, one gets to say so, and takes out who was present by
// that node's word. Belongs to the engine's thread.

#include <chorus/cluster/nats_streams.hpp>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace chorus::detail {

class nats_leases {
public:
  explicit nats_leases(nats_core &core) : core_(core) {}

  void renew(std::string node, std::chrono::milliseconds alive, nats_answer<bool> answer);
  // The number of the node's lease, that tells it from others before and after. Empty: it has none.
  task<result<std::string>> number_of(std::string node);
  // No other engine can have ended that lease yet.
  bool sure(const std::string &node, const std::string &number) const;
  // The same, or JetStream says that nobody has.
  task<result<bool>> stands(std::string node, std::string number);

  // By the core.
  task<result<>> restore();
  void changed(std::string_view token, const nats_event &e);
  void missed();
  void expire(nats_core::clock::time_point now);

private:
  struct lease {
    std::string node{};
    std::string number{};
    std::uint64_t at = 0; // of its record
    std::chrono::milliseconds alive{0};
    bool ending = false;
    bool claiming = false;
    nats_core::clock::time_point until{};
    nats_core::clock::time_point sure_until{};
    std::string str() const;
  };

  std::string subject(const std::string &token) const { return core_.subject("l." + token); }
  void learn(const std::string &token, std::string_view body, std::uint64_t at);
  task<result<>> look(std::string token);
  task<> next(std::string token);
  task<result<bool>> prolong(std::string node, std::chrono::milliseconds alive);
  task<result<bool>> end(std::string node);
  task<result<bool>> clear(std::string token, lease l);
  task<> claim(std::string token);
  task<> read_again();

  nats_core &core_;
  std::map<std::string, lease> all_; // by token
  bool missed_ = false;              // something since the reading began
  bool reading_again_ = false;
  std::map<std::string, std::deque<std::function<task<>()>>> turns_;
};

} // namespace chorus::detail
