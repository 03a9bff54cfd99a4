// What a server and its shards tell the log. Of connections: addresses, routes, codes and counts; a
// path without its query only where there is no route to name; never what a peer wrote besides.

#include <chorus/server/server_core.hpp>

namespace chorus::detail {

void server_setup::report(std::string_view what, const session *s, std::string_view event,
                          session_id id) const noexcept {
  if (auto *log = log_for(log_room::server, log_level::warn))
    write_log(*log, log_level::warn, log_room::server, s ? s->id() : id, event, {{"what", what}});
  if (!options.on_error)
    return;
  try {
    options.on_error(what, s);
  } catch (...) {
    // There is nobody left to tell.
  }
}

void server_setup::log_engine(const engine_state &now) noexcept {
  const auto &all = rooms->measures().engine;
  const std::array<std::uint64_t, 3> counted{all.waited, all.refused, all.unnumbered};
  const auto level = now.away ? log_level::warn : log_level::info;
  if (auto *log = log_for(log_room::server, level)) {
    if (now.away)
      write_log(*log, level, log_room::server, 0, "broker_away", {{"why", now.why}});
    else
      write_log(*log, level, log_room::server, 0, "broker_back",
                {{"seconds", in_seconds(now.away_for)},
                 {"waited", counted[0] - before_away[0]},
                 {"refused", counted[1] - before_away[1]},
                 {"unnumbered", counted[2] - before_away[2]}});
  }
  before_away = counted;
}

// In the terms of server_stats.
void server_shard::count_refusal(refusal why) noexcept {
  const auto which = [&]() -> std::atomic<std::uint64_t> & {
    switch (why) {
    case refusal::origin:
      return count.refused_origin;
    case refusal::unauthorized:
      return count.refused_unauthorised;
    case refusal::limit:
    case refusal::handshake_limit:
    case refusal::descriptors:
      return count.refused_limit;
    case refusal::address_limit:
      return count.refused_address;
    case refusal::user_limit:
      return count.refused_user;
    case refusal::proxy_header:
      return count.refused_proxy;
    case refusal::draining:
      count.drain_refused.fetch_add(1, std::memory_order_relaxed);
      return count.refused_other;
    default:
      return count.refused_other;
    }
  };
  which().fetch_add(1, std::memory_order_relaxed);
}

void server_shard::refused(refusal why, unsigned status, session_id id,
                           const transport::stream *carrier, std::string_view target) noexcept {
  measures.note(why);
  count_refusal(why);
  auto *log = setup_->log_for(log_room::server, log_level::info);
  if (!log)
    return;
  const std::string remote = carrier ? carrier->remote_address() : std::string();
  write_log(*log, log_level::info, log_room::server, id, "refused",
            {{"reason", to_string(why)},
             {"status", status},
             {"remote", remote},
             {"path", loggable_path(split_target(target).path)}});
}

void server_shard::log_tls(session_id id, const transport::stream &carrier, const result<> &done,
                           std::chrono::nanoseconds took) const noexcept {
  auto *log = setup_->log_for(log_room::transport, log_level::debug);
  if (!log)
    return;
  const std::string remote = carrier.remote_address();
  if (done)
    write_log(*log, log_level::debug, log_room::transport, id, "tls_completed",
              {{"remote", remote}, {"seconds", in_seconds(took)}, {"alpn", carrier.alpn()}});
  else
    write_log(*log, log_level::debug, log_room::transport, id, "tls_failed",
              {{"remote", remote}, {"why", done.error().code().message()}});
}

void server_shard::log_failed_handshake(session_id id, const transport::stream *carrier,
                                        std::string_view why) const noexcept {
  auto *log = setup_->log_for(log_room::server, log_level::debug);
  if (!log)
    return;
  const std::string remote = carrier ? carrier->remote_address() : std::string();
  write_log(*log, log_level::debug, log_room::server, id, "handshake_failed",
            {{"why", why}, {"remote", remote}});
}

void server_shard::log_accepted(session_id id, const transport::stream &carrier) const noexcept {
  if (auto *log = setup_->log_for(log_room::server, log_level::debug)) {
    const std::string remote = carrier.remote_address();
    write_log(*log, log_level::debug, log_room::server, id, "accepted", {{"remote", remote}});
  }
}

void server_shard::log_upgraded(const session &s,
                                const chorus::detail::route &target) const noexcept {
  auto *log = setup_->log_for(log_room::session, log_level::debug);
  if (!log)
    return;
  const std::string remote = s.remote_address();
  write_log(*log, log_level::debug, log_room::session, s.id(), "upgraded",
            {{"remote", remote}, {"route", target.pattern}, {"compressed", s.compressed()}});
}

void server_shard::log_end(const session &s) const noexcept {
  const auto why = s.end();
  const bool evicted = why == error::evicted;
  const auto level = evicted ? log_level::warn : log_level::debug;
  auto *log = setup_->log_for(log_room::session, level);
  if (!log)
    return;
  const auto stats = s.stats();
  write_log(*log, level, log_room::session, s.id(), evicted ? "evicted" : "closed",
            {{"code", why.detail().close_code},
             {"by", why.detail().by_peer ? "peer" : "server"},
             {"how", ending_label(ending_index(why))},
             {"seconds", in_seconds(s.uptime())},
             {"messages_received", stats.messages_received},
             {"messages_sent", stats.messages_sent},
             {"messages_dropped", stats.messages_dropped}});
}

void server_core::log_listening() const noexcept {
  auto *log = setup_->log_for(log_room::server, log_level::info);
  if (!log)
    return;
  for (const auto &address : addresses_)
    write_log(*log, log_level::info, log_room::server, 0, "listening",
              {{"address", address}, {"tls", setup_->tls != nullptr}, {"shards", shards_.size()}});
}

void server_core::log_phase(std::string_view event) const noexcept {
  if (auto *log = setup_->log_for(log_room::server, log_level::info))
    write_log(*log, log_level::info, log_room::server, 0, event, {{"sessions", open_sessions()}});
}

void server_core::log_drained(bool interrupted) const noexcept {
  auto *log = setup_->log_for(log_room::server, log_level::info);
  if (!log)
    return;
  drain_report sum;
  for (const auto &s : shards_)
    s->add_to(sum);
  write_log(*log, log_level::info, log_room::server, 0, "drained",
            {{"sessions", sum.sessions},
             {"closed", sum.closed},
             {"left", sum.left},
             {"upgrades_refused", sum.upgrades_refused},
             {"interrupted", interrupted}});
}

void server_core::log_stopped() const noexcept {
  if (auto *log = setup_->log_for(log_room::server, log_level::info))
    write_log(*log, log_level::info, log_room::server, 0, "stopped",
              {{"sessions_aborted", report_.sessions_aborted},
               {"handlers_cancelled", report_.handlers_cancelled}});
}

} // namespace chorus::detail
