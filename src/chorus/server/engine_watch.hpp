#pragma once
// Whether the engine that a server shares with others is there: by its own word, and by whether it renews
// the server's lease. From any thread.

#include <chorus/base/failure.hpp>
#include <chorus/server/broker.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace chorus::detail {

struct engine_state {
  bool away = false;
  std::string why{};                             // when it is
  std::chrono::system_clock::time_point since{}; // when it is
  std::chrono::nanoseconds away_for{0};          // this time, or the last
  std::chrono::nanoseconds away_in_all{0};
};

class engine_watch {
public:
  using on_change = std::function<void(const engine_state &)>;

  explicit engine_watch(std::shared_ptr<broker> engine) : engine_(std::move(engine)) {}

  // Before it is shared: told once when the engine goes away and once when it is back, one at a time,
  // on whatever thread saw it; it must be quick.
  void listen(on_change f) { told_ = std::move(f); }
  // The lease was renewed, or was not.
  void renewed(const result<bool> &r);
  // Something has failed, which need not mean that it is away.
  engine_state look();

private:
  using clock = std::chrono::steady_clock;
  void set(bool away, std::string why);
  engine_state now() const;

  const std::shared_ptr<broker> engine_;
  on_change told_;
  std::mutex mutex_;
  bool away_ = false;
  std::string why_;
  std::chrono::system_clock::time_point since_{};
  clock::time_point began_{};
  std::chrono::nanoseconds last_{0};
  std::chrono::nanoseconds over_{0};
};

} // namespace chorus::detail
