#pragma once
// A broker that hands everything on to another one, for tests that want to meddle with some of it.

#include <chorus/server/broker.hpp>

#include <memory>
#include <string>
#include <utility>

namespace test_support {

class forwarding_broker : public chorus::broker {
public:
  explicit forwarding_broker(std::shared_ptr<chorus::broker> inner = chorus::make_memory_broker())
      : inner_(std::move(inner)) {}
  // Where nobody meddles.
  const std::shared_ptr<chorus::broker> &inner() const noexcept { return inner_; }

  chorus::result<> attach(boost::asio::any_io_executor e) override {
    return inner_->attach(std::move(e));
  }
  void publish(chorus::broker_message m, published answer) override {
    inner_->publish(std::move(m), std::move(answer));
  }
  void subscribe(std::string room, std::weak_ptr<chorus::broker_listener> to,
                 done answer) override {
    inner_->subscribe(std::move(room), std::move(to), std::move(answer));
  }
  void unsubscribe(std::string room, const chorus::broker_listener *who) override {
    inner_->unsubscribe(std::move(room), who);
  }
  void history(std::string room, chorus::broker_position since, page_read answer) override {
    inner_->history(std::move(room), std::move(since), std::move(answer));
  }
  void enter(std::string room, chorus::broker_member who, std::size_t most, done answer) override {
    inner_->enter(std::move(room), std::move(who), most, std::move(answer));
  }
  void leave(std::string room, std::string node, std::string id, done answer) override {
    inner_->leave(std::move(room), std::move(node), std::move(id), std::move(answer));
  }
  void members(std::string room, members_read answer) override {
    inner_->members(std::move(room), std::move(answer));
  }
  void renew(std::string node, std::chrono::milliseconds alive, renewed answer) override {
    inner_->renew(std::move(node), alive, std::move(answer));
  }
  void begin_epoch(std::string room, std::string ended, done answer) override {
    inner_->begin_epoch(std::move(room), std::move(ended), std::move(answer));
  }
  chorus::broker_status status() const override { return inner_->status(); }
  chorus::broker_stats stats() const override { return inner_->stats(); }

private:
  const std::shared_ptr<chorus::broker> inner_;
};

} // namespace test_support
