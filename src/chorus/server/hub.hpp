#pragma once
// The rooms of one server.

#include <chorus/async/runtime_core.hpp>
#include <chorus/server/room_core.hpp>
#include <chorus/server/room_options.hpp>
#include <chorus/server/room_part.hpp>
#include <chorus/server/user_claims.hpp>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

struct hub_limits {
  std::size_t history_bytes = std::size_t{256} << 20;
  std::size_t lingering_rooms = 10'000;
  std::chrono::milliseconds hello_wait{10'000};
  std::shared_ptr<broker> engine{};
  std::chrono::milliseconds lease{15'000};
};

class hub : public std::enable_shared_from_this<hub> {
public:
  // `complaints`, if not empty, is told of what user code throws in rooms: on the shard where it
  // happened, and it must not throw itself. What no member is to blame for comes with an empty session.
  explicit hub(std::shared_ptr<runtime_core> runtime, room_complaints complaints = {},
               make_room_options options = {}, hub_limits limits = {});

  // From any thread.
  room get(std::string_view name);
  room everyone();
  room find(std::string_view name); // null when there is none
  std::vector<room> list();         // all but everyone(), in no order
  // No join succeeds from here on; members stay until their sessions end.
  void close() noexcept;
  bool closed() const noexcept { return closed_.load(std::memory_order_relaxed); }
  std::size_t size() const noexcept; // rooms
  const std::shared_ptr<resume_setup> &resume() const noexcept { return around_.resume; }
  history_budget &budget() const noexcept { return *around_.budget; }
  room_measures &measures() const noexcept { return *around_.measures; }
  // What the engine said to this server.
  const result<> &attached() const noexcept { return attached_; }
  // Null without an engine.
  const std::shared_ptr<broker_node> &node() const noexcept { return around_.node; }

  // The connections of a user: an implicit room that exists as long as they or handles do.
  room user(std::string_view name);
  room known_user(std::string_view name); // an empty handle when there is none
  // Closes those that are here; how many there were.
  std::size_t disconnect_user(std::string_view name, close_code code, std::string_view reason);
  user_claims &claims() const noexcept { return *claims_; }                       // with an engine
  std::shared_ptr<user_claims> shared_claims() const noexcept { return claims_; } // null: none

  // A fresh session becomes a member of `everyone()` until it ends, and of its user's room if it has a
  // user: then that membership is returned, to be held as long. On the session's shard, before its
  // handler runs.
  std::shared_ptr<membership> admit(const session &s);

  // Before rooms are asked for: a hook for all of them.
  void set_on_join(join_hook hook) {
    on_join_ = std::make_shared<const join_hook>(std::move(hook));
  }
  const std::shared_ptr<const join_hook> &on_join() const noexcept { return on_join_; }

private:
  friend class room_core;
  void forget(const std::string &name, const room_core *which) noexcept;
  room_options options_for(std::string_view name) const;

  std::shared_ptr<runtime_core> runtime_;
  std::shared_ptr<const room_complaints> complaints_;
  const make_room_options options_;
  room_surroundings around_;
  result<> attached_;
  std::shared_ptr<user_claims> claims_;
  std::atomic<std::int64_t> longest_grace_{0}; // milliseconds
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::weak_ptr<room_core>> rooms_;
  std::unordered_map<std::string, std::weak_ptr<room_core>> users_;
  std::shared_ptr<room_core> everyone_;
  std::shared_ptr<const join_hook> on_join_;
  std::atomic<bool> closed_{false};
};

} // namespace chorus::detail
