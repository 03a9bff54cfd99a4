// Where a client counts its attempts and connections, and tells the log of them: where it connects to,
// without path and query, and how that went, by code, stage and remedy. Sentences of failures are left
// out: they may repeat what a peer said.

#include <chorus/client/client_core.hpp>

#include <chorus/base/explain.hpp>
#include <chorus/session/setup.hpp>

#include <utility>

namespace chorus::detail {

// The id that the session will have.
session_id client_core::begin_attempt() {
  auto &plan = *plans_[next_url_];
  plan.id = next_session_id();
  std::uint64_t number = 0;
  {
    lock held(mutex_);
    number = ++stats_.attempts;
  }
  log_attempt(plan, number);
  return plan.id;
}

void client_core::note_connected(const session &s) {
  bool again = false;
  {
    lock held(mutex_);
    session_ = s;
    accounted_ = false;
    again = stats_.connects++ != 0;
    if (again)
      ++stats_.reconnects;
    if (down_since_)
      stats_.downtime += home_->now() - *std::exchange(down_since_, std::nullopt);
  }
  log_connected(s, again);
}

void client_core::log_attempt(const connect_plan &plan, std::uint64_t number) const noexcept {
  auto *log = log_for(options_.log, log_room::client, log_level::debug);
  if (!log)
    return;
  const auto &where = plan.where;
  const std::string host = where.is_unix() ? where.socket_path() : where.host();
  write_log(*log, log_level::debug, log_room::client, plan.id, "attempt",
            {{"number", number},
             {"scheme", to_string(where.scheme())},
             {"host", host},
             {"port", where.port()}});
}

void client_core::log_connected(const session &s, bool again) const noexcept {
  auto *log = log_for(options_.log, log_room::client, log_level::info);
  if (!log)
    return;
  const std::string remote = s.remote_address();
  write_log(*log, log_level::info, log_room::client, s.id(), "connected",
            {{"remote", remote}, {"again", again}, {"compressed", s.compressed()}});
}

void client_core::log_failed(std::uint64_t id, const failure &why) const noexcept {
  auto *log = log_for(options_.log, log_room::client, log_level::info);
  if (!log)
    return;
  const auto &detail = why.detail();
  const std::string what = why.code().message();
  write_log(*log, log_level::info, log_room::client, id, "attempt_failed",
            {{"stage", to_string(detail.where)},
             {"why", what},
             {"remedy", to_string(remedy_of(why))},
             {"remote", detail.address},
             {"status", detail.status}});
}

void client_core::log_gone(const session &s, const failure &why, bool wanted) const noexcept {
  const auto level = wanted ? log_level::info : log_level::warn;
  auto *log = log_for(options_.log, log_room::client, level);
  if (!log)
    return;
  const auto &detail = why.detail();
  const std::string what = why.code().message();
  write_log(*log, level, log_room::client, s.id(), wanted ? "closed" : "lost",
            {{"code", detail.close_code},
             {"by", detail.by_peer ? "peer" : "client"},
             {"why", what},
             {"seconds", std::chrono::duration<double>(s.uptime()).count()}});
}

void client_core::log_gave_up(const failure &why) const noexcept {
  if (why == error::closed && !why.detail().by_peer)
    return; // it was told to
  auto *log = log_for(options_.log, log_room::client, log_level::error);
  if (!log)
    return;
  const std::string what = why.code().message();
  write_log(*log, log_level::error, log_room::client, 0, "gave_up",
            {{"stage", to_string(why.detail().where)},
             {"why", what},
             {"remedy", to_string(remedy_of(why))},
             {"status", why.detail().status}});
}

void client_core::log_handler_failed(const char *name) const noexcept {
  auto *log = log_for(options_.log, log_room::client, log_level::error);
  if (!log)
    return;
  write_log(*log, log_level::error, log_room::client, 0, "handler_failed",
            {{"handler", std::string_view(name)}});
}

} // namespace chorus::detail
