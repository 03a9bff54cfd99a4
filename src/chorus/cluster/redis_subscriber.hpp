#pragma once
// The connection for subscriptions to one master. Channels are subscribed again by themselves, in one batch
// of each new connection.

#include <chorus/cluster/redis_line.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace chorus::detail {

class redis_subscriber;

class redis_subscriber_user {
public:
  virtual void channel_message(std::string_view channel, std::string_view payload) = 0;
  virtual void channel_subscribed(const std::string &channel, bool again) = 0;
  // It is not served here (any more): `refusal` says where, if Redis said it ("MOVED 12 host:port").
  virtual void channel_moved(redis_subscriber &from, std::string channel, bool again,
                             std::string refusal) = 0;
  virtual void subscriber_up(redis_subscriber &s) = 0;
  virtual void subscriber_down(redis_subscriber &s, const failure &why, bool was_up) = 0;
  virtual void subscriber_event(std::string_view sentence) = 0;

protected:
  ~redis_subscriber_user() = default;
};

class redis_subscriber final : public redis_line {
public:
  // `sharded`: SSUBSCRIBE. `owner` closes it before it goes.
  redis_subscriber(std::shared_ptr<const redis_ground> ground,
                   std::shared_ptr<redis_locator> locator, redis_subscriber_user &owner,
                   bool sharded);

  void add(std::string channel, bool again);
  // False: it was not here.
  bool remove(const std::string &channel);
  // Those whose names it says, each with `again`: they are not here any more.
  std::vector<std::pair<std::string, bool>>
  take_if(const std::function<bool(const std::string &)> &wanted);
  std::size_t size() const noexcept { return channels_.size(); }

private:
  struct channel {
    std::uint64_t life = 0;               // from one `add` to its `remove`
    bool again = false;                   // it was confirmed once
    bool confirmed = false;               // on this connection
    time_point retry = time_point::max(); // refused, to be tried again
    unsigned refusals = 0;
  };
  enum class question : unsigned char { subscribe, unsubscribe, ping };
  struct asked {
    question what = question::ping;
    std::string channel{};
    std::uint64_t life = 0;
    time_point since{};
  };
  void opened(const redis_welcome &welcome) override;
  void lost(const failure &why, std::uint64_t taken) override;
  void failed(const failure &why) override;
  void tick(time_point now) override;
  bool idle() const noexcept override { return asked_.empty(); }
  void on_reply(redis_reply r) override;
  void ask(question what, const std::string &channel, std::uint64_t life);
  void confirmed(const std::string &channel);
  void refused(const std::string &text);
  void ended(const std::string &channel);

  redis_subscriber_user *user_;
  bool sharded_;
  std::string scratch_;
  std::uint64_t lives_ = 0;
  std::unordered_map<std::string, channel> channels_;
  std::deque<asked> asked_;
  std::size_t refused_ = 0; // channels with a `retry`, or more
};

} // namespace chorus::detail
