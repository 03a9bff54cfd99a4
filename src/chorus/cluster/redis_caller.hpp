#pragma once
// The connection for commands to one master: first in, first out, pipelined. What was sent when it is lost
// waits until the next connection has ended it at Redis.

#include <chorus/cluster/redis_line.hpp>
#include <chorus/cluster/redis_pool.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace chorus::detail {

struct redis_request {
  std::uint64_t order = 0;          // of the calls of a pool
  std::vector<std::string> words{}; // of a script: the number of keys, the keys, the arguments
  std::shared_ptr<const redis_script> script{};
  redis_answer answer{};
  std::shared_ptr<redis_trail> trail{}; // null: it does not matter
  time_point since{};
  std::size_t bytes = 0;
  std::uint16_t slot = 0;
  unsigned tries = 0; // times that it was refused without being executed
};

class redis_caller;

class redis_caller_user {
public:
  virtual void call_replied(redis_caller &from, redis_request call, redis_reply reply) = 0;
  virtual void call_ended(redis_request call, redis_outcome::kind how, const failure &why) = 0;
  // It is open; then what was undecided ends; then there is time for anything else.
  virtual void caller_up(redis_caller &c) = 0;
  virtual void caller_ready(redis_caller &c) = 0;
  // It was up, or an attempt to get there has failed.
  virtual void caller_down(redis_caller &c, const failure &why, bool was_up) = 0;
  virtual void caller_sent(std::size_t commands) = 0;

protected:
  ~redis_caller_user() = default;
};

class redis_caller final : public redis_line {
public:
  // `owner` closes it before it goes.
  redis_caller(std::shared_ptr<const redis_ground> ground, std::shared_ptr<redis_locator> locator,
               redis_caller_user &owner);

  // While it is open. `asking`: ASKING goes before it.
  void send(redis_request call, bool asking);
  // This Redis does not know it any more: its text goes with the next use.
  void forget(const redis_script &which) { known_.erase(which.sha); }
  // What waits is answered not_done or `how`.
  void close() noexcept override;
  void end_calls(redis_outcome::kind how, const failure &why);
  bool quiet() const noexcept { return waiting_.empty(); }
  // Since when the oldest command has no answer; max(): none is without.
  time_point oldest() const noexcept;

private:
  struct sent_call {
    redis_request call;
    time_point sent{};
    std::uint64_t end = 0; // in bytes of the link
    bool own = false;      // PING or ASKING, which nobody waits for
  };
  void opened(const redis_welcome &welcome) override;
  void lost(const failure &why, std::uint64_t taken) override;
  void failed(const failure &why) override;
  void tick(time_point now) override;
  bool idle() const noexcept override { return waiting_.empty(); }
  redis_client_id before() const override { return before_; }
  void on_reply(redis_reply r) override;
  void send_own(std::initializer_list<std::string_view> words);

  redis_caller_user *user_;
  std::string scratch_;
  std::set<std::string> known_; // SHAs that went by EVAL on this connection
  std::deque<sent_call> waiting_;
  std::deque<redis_request> undecided_; // sent on `before_`
  redis_client_id before_;              // not known to have ended; empty: none
  redis_client_id present_;
  time_point lost_at_{};
  failure lost_why_;
};

} // namespace chorus::detail
