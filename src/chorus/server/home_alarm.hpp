#pragma once
// A timer of something that any thread may let go: while it runs it is its shard's, and what it calls has
// to look whether there is still something to do. Belongs to the shard's thread, but for its making and
// for letting go of it.

#include <chorus/async/shard.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace chorus::detail {

class home_alarm final : private timer,
                         private resident,
                         public std::enable_shared_from_this<home_alarm> {
public:
  home_alarm(std::shared_ptr<shard> home, std::function<void()> rings)
      : timer([](timer &t) noexcept { static_cast<home_alarm &>(t).ring(); }),
        home_(std::move(home)), rings_(std::move(rings)) {}

  // Does nothing once the shard has stopped.
  void set(duration after) {
    if (home_->stopped())
      return;
    if (!self_) {
      self_ = shared_from_this();
      home_->enroll(*this);
    }
    home_->start_after(*this, after);
  }
  bool is_set() const noexcept { return self_ != nullptr; }
  void stop() noexcept {
    if (!self_)
      return;
    cancel();
    home_->leave(*this);
    const auto last = std::move(self_);
  }

private:
  void ring() noexcept {
    const auto self = self_;
    stop();
    rings_();
  }
  void on_shard_gone() noexcept override {
    cancel();
    const auto last = std::move(self_);
  }

  const std::shared_ptr<shard> home_;
  const std::function<void()> rings_;
  std::shared_ptr<home_alarm> self_; // while it runs
};

} // namespace chorus::detail
