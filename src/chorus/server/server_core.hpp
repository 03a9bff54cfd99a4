#pragma once
// A server behind its handle: one `server_shard` per shard of the runtime, and the order in which
// they start and stop. The first shard conducts: what is marked belongs to its thread.

#include <chorus/async/runtime_core.hpp>
#include <chorus/server/remote_calls.hpp>
#include <chorus/server/server_shard.hpp>
#include <chorus/transport/waiter.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace chorus::detail {

struct drain_state;

class server_core : public std::enable_shared_from_this<server_core> {
public:
  enum class phase : unsigned char { idle, starting, running, draining, stopping, stopped };

  server_core(std::shared_ptr<runtime_core> runtime, server_options options);

  const std::shared_ptr<server_setup> &setup() const noexcept { return setup_; }
  phase now() const noexcept { return phase_.load(std::memory_order_acquire); }
  const std::shared_ptr<shard> &conductor() const noexcept { return runtime_->shards.front(); }
  bool ready() const noexcept { return now() == phase::running; }
  // Since `start` has completed; empty before.
  const std::string &address() const noexcept;
  const std::vector<std::string> &addresses() const noexcept;
  std::uint16_t port() const noexcept;
  server_stats stats() const;
  server_stats
  counters() const; // the same without the sums over sessions, which take a look at each
  std::vector<session> sessions() const;
  session find(session_id id) const;
  // Null without a broker.
  const std::shared_ptr<remote_calls> &calls() const noexcept { return calls_; }
  std::vector<open_connection> connections() const;
  std::size_t open_sessions() const noexcept;
  const std::vector<std::shared_ptr<server_shard>> &shards() const noexcept { return shards_; }

  // Aborts everything soon. From any thread; nobody waits.
  void abandon() noexcept;

  // On the conductor's thread.
  static task<result<>> start(std::shared_ptr<server_core> self);
  static task<result<stop_report>> stop(std::shared_ptr<server_core> self,
                                        std::chrono::milliseconds deadline);
  static task<result<drain_report>> drain(std::shared_ptr<server_core> self, drain_options options);
  // server_doors.cpp: descriptors for all its listening sockets; and an end to accepting on them, while
  // somebody else does.
  static task<result<std::vector<socket_copy>>>
  duplicate_listeners(std::shared_ptr<server_core> self);
  static task<result<>> release_listeners(std::shared_ptr<server_core> self);
  // server_tls.cpp
  static task<result<>> reload_tls(std::shared_ptr<server_core> self);

private:
  static task<result<>> open_listeners(std::shared_ptr<server_core> self);
  static task<result<>> open_doors(std::shared_ptr<server_core> self); // server_doors.cpp
  result<> make_tls();
  void add_shared(server_stats &sum) const;
  static task<> conduct_stop(std::shared_ptr<server_core> self);
  static task<> wait_stopped(std::shared_ptr<server_core> self);
  // server_drain.cpp
  static task<> conduct_drain(std::shared_ptr<server_core> self);
  static task<bool> drain_begin(std::shared_ptr<server_core> self);
  static task<bool> drain_pause(std::shared_ptr<server_core> self, time_point deadline);
  void drain_some(const std::vector<duration> &delays, time_point now);
  void interrupt_drain() noexcept;
  // server_log.cpp
  void log_listening() const noexcept;
  void log_phase(std::string_view event) const noexcept;
  void log_drained(bool interrupted) const noexcept;
  void log_stopped() const noexcept;
  void begin_stop();
  void stop_shards();
  void begin_cut();
  void wake(transport::waiter *which) noexcept;
  void close_listeners() noexcept;

  std::shared_ptr<runtime_core> runtime_;
  std::shared_ptr<server_setup> setup_;
  std::vector<std::shared_ptr<server_shard>> shards_; // constant; one for each of the runtime's
  std::shared_ptr<remote_calls> calls_;
  std::atomic<phase> phase_{phase::idle};
  std::vector<std::string> addresses_; // written before `running`

  // The conductor's.
  std::size_t busy_shards_ = 0; // those with something left
  std::size_t unanswered_ = 0;  // shards that have not reached the stop yet
  time_point stop_at_ = time_point::max();
  bool cut_ = false;
  // Shards report to these while the server is cut; the conductor's again once it is stopped.
  std::mutex cutting_;
  std::vector<std::shared_ptr<server_shard>> uncut_; // have not said yet what they cut
  stop_report report_;
  std::shared_ptr<transport::tls_context> tls_; // the newest
  std::shared_ptr<drain_state> drain_;          // null: never drained
  transport::waiter *conducting_ = nullptr;
  std::vector<transport::waiter *> callers_;
};

} // namespace chorus::detail
