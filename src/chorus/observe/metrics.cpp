#include <chorus/observe/metrics.hpp>

#include <chorus/client/client_core.hpp>
#include <chorus/observe/exposition.hpp>
#include <chorus/server/census.hpp>
#include <chorus/server/server_core.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace chorus::observe {

namespace detail {

namespace {

constexpr std::size_t most_clients = 64;
constexpr unsigned most_scrapes = 4;

struct attached {
  std::string name;
  std::weak_ptr<chorus::detail::client_core> core;
};

struct client_row {
  std::string_view name;
  client_state state;
  client_stats stats;
};

} // namespace

struct metrics_state {
  std::weak_ptr<chorus::detail::server_core> server;
  std::atomic<unsigned> scrapes{0};
  std::mutex mutex;
  std::vector<attached> clients;
};

namespace {

void add_connections(exposition &to, const chorus::detail::census &n) {
  to.counter("chorus_connections_accepted_total", "Connections accepted, whatever became of them.")
      .add(n.counts.accepted);
  to.counter("chorus_accept_errors_total",
             "Calls of accept that failed for want of file descriptors or memory.")
      .add(n.counts.accept_errors);
  to.gauge("chorus_handshakes", "Connections in their handshake, or asking for pages, now.")
      .add(static_cast<double>(n.counts.handshakes));
  to.counter("chorus_handshakes_failed_total",
             "Connections that went, were late, or did not speak HTTP.")
      .add(n.counts.handshakes_failed);
  to.counter("chorus_handshakes_evicted_total",
             "Connections that made room for others among max_handshakes.")
      .add(n.counts.handshakes_evicted);
  to.counter("chorus_tls_handshakes_total", "TLS handshakes, by how they ended.")
      .add(n.counts.tls_handshakes, {{"result", "completed"}})
      .add(n.counts.tls_failed, {{"result", "failed"}});
  to.counter("chorus_tls_resumed_total", "Completed TLS handshakes that a ticket cut short.")
      .add(n.counts.tls_resumed);
  to.histogram("chorus_tls_handshake_seconds", "Time that completed TLS handshakes took.")
      .add(n.tls_seconds);
  to.counter("chorus_refusals_total", "Connections that were refused a session, by reason.");
  for (std::size_t i = 0; i < chorus::detail::refusals; ++i)
    to.add(n.refused[i], {{"reason", to_string(static_cast<chorus::detail::refusal>(i))}});
}

void add_sessions(exposition &to, const chorus::detail::census &n) {
  to.gauge("chorus_sessions", "Sessions open now.").add(static_cast<double>(n.counts.connections));
  to.counter("chorus_sessions_opened_total", "Sessions opened.").add(n.counts.upgraded);
  to.counter("chorus_sessions_closed_total",
             "Sessions ended, by close code and by who began; 1006: without a close frame.");
  for (std::size_t i = 0; i < chorus::detail::close_codes; ++i) {
    const auto code = chorus::detail::close_code_label(i);
    to.add(n.closed[i][0], {{"by", "server"}, {"code", code}});
    to.add(n.closed[i][1], {{"by", "peer"}, {"code", code}});
  }
  to.counter("chorus_sessions_ended_total", "Sessions ended, by how.");
  for (std::size_t i = 0; i < chorus::detail::endings; ++i)
    to.add(n.ended[i], {{"how", chorus::detail::ending_label(i)}});
  to.gauge("chorus_handlers", "Handlers running now.").add(static_cast<double>(n.counts.handlers));
  to.counter("chorus_handler_failures_total", "Handlers and pages that ended by an exception.")
      .add(n.counts.handler_failures);
  to.counter("chorus_sessions_ousted_total",
             "Sessions closed because their user connected once more (over_user_limit).")
      .add(n.counts.users_ousted);
  to.counter("chorus_sessions_rate_closed_total",
             "Sessions closed because their peers sent too fast.")
      .add(n.counts.rate_closed);
  to.counter("chorus_sessions_budget_evicted_total",
             "Sessions closed because all queues together exceeded queue_budget_bytes; among those "
             "that ended as evicted.")
      .add(n.counts.evicted_budget);
  to.histogram("chorus_round_trip_seconds", "Round trips of answered pings.").add(n.round_trips);
}

void add_life(exposition &to, const chorus::detail::census &n, bool ready) {
  to.gauge("chorus_ready", "1 while the server takes new sessions, as /readyz tells.")
      .add(ready ? 1.0 : 0.0);
  to.counter("chorus_drain_sessions_total", "Sessions that a drain found open or saw opened.")
      .add(std::uint64_t{n.drained.sessions});
  to.counter("chorus_drained_sessions_total", "Those of them closed in order, by who began.")
      .add(std::uint64_t{n.drained.closed}, {{"by", "server"}})
      .add(std::uint64_t{n.drained.left}, {{"by", "peer"}});
  const auto &r = n.counts.resume;
  to.counter("chorus_resumes_total",
             "Rooms that clients came back to under the resume protocol: recovered, or why not.")
      .add(r.recovered, {{"result", "recovered"}})
      .add(r.lost_epoch, {{"result", "epoch"}})
      .add(r.lost_trimmed, {{"result", "trimmed"}})
      .add(r.lost_ahead, {{"result", "ahead"}})
      .add(r.lost_no_history, {{"result", "no_history"}});
  to.counter("chorus_resume_acknowledgements_total",
             "Acknowledgements received under the resume protocol.")
      .add(r.acks);
}

void add_traffic(exposition &to, const chorus::detail::census &n) {
  const auto &s = n.sessions;
  to.counter("chorus_messages_received_total", "Messages received in sessions.")
      .add(s.messages_received);
  to.counter("chorus_messages_sent_total", "Messages handed whole to the kernel.")
      .add(s.messages_sent);
  to.counter("chorus_received_bytes_total", "Bytes received in sessions, before TLS.")
      .add(s.bytes_received);
  to.counter("chorus_sent_bytes_total", "Bytes handed to the kernel in sessions, before TLS.")
      .add(s.bytes_sent);
  to.counter(
        "chorus_messages_dropped_total",
        "Messages dropped from full outgoing queues by their overflow policy, replaced by newer "
        "ones (latest), or whose time to live had passed (expired).")
      .add(s.dropped_oldest, {{"policy", "drop_oldest"}})
      .add(s.dropped_newest, {{"policy", "drop_newest"}})
      .add(s.messages_dropped - s.dropped_oldest - s.dropped_newest - s.messages_expired,
           {{"policy", "latest"}})
      .add(s.messages_expired, {{"policy", "expired"}});
  to.counter("chorus_messages_rate_dropped_total",
             "Received messages and pings thrown away because they came too fast.")
      .add(n.counts.rate_dropped);
  to.gauge("chorus_queue_bytes", "Bytes that wait in sessions' outgoing queues.")
      .add(static_cast<double>(n.queued_bytes));
  to.gauge("chorus_queue_messages", "Messages that wait in sessions' outgoing queues.")
      .add(static_cast<double>(n.queued_messages));
  to.gauge("chorus_queue_oldest_seconds",
           "Age of the oldest message that waits in an outgoing queue; 0 when none does.")
      .add(chorus::detail::in_seconds(n.oldest));
  to.gauge("chorus_queue_budget_used_bytes",
           "What counts against queue_budget_bytes: queues whose peers do not keep up.")
      .add(static_cast<double>(n.counts.queued_bytes_waiting));
  to.gauge("chorus_history_bytes", "Bytes of history that rooms keep.")
      .add(static_cast<double>(n.history_bytes));
  to.gauge("chorus_rooms", "Rooms that exist now.").add(static_cast<double>(n.rooms));
  to.histogram("chorus_fan_out_members", "Members of the room that a message was published to.")
      .add(n.members);
  to.histogram("chorus_fan_out_seconds",
               "From the loop turn that brought a published message to a shard until all members "
               "there were served.")
      .add(n.fan_out_seconds);
  to.histogram(
        "chorus_broadcast_seconds",
        "From an awaited broadcast to its report: all copies with the kernel, or the deadline.")
      .add(n.broadcast_seconds);
}

void add_broker(exposition &to, const chorus::detail::census &n) {
  const auto &e = n.engine;
  if (!e.any)
    return;
  const auto &s = e.stats;
  to.gauge("chorus_broker_connected", "1 while the broker's engine is there, 0 while it is away.")
      .add(e.state.away ? 0.0 : 1.0);
  to.gauge("chorus_broker_away_seconds", "Time that the engine was away so far.")
      .add(chorus::detail::in_seconds(
          std::max<std::chrono::nanoseconds>(s.away, e.state.away_in_all)));
  to.counter("chorus_broker_connects_total", "Connections to the engine that came to be used.")
      .add(s.connects);
  to.counter("chorus_broker_disconnects_total", "Those of them that were lost.").add(s.disconnects);
  to.counter("chorus_broker_commands_total", "Commands sent to the engine.").add(s.commands);
  to.counter("chorus_broker_received_total",
             "Messages and changes of presence that the engine sent.")
      .add(s.received);
  to.counter("chorus_broker_looked_up_total",
             "Publishes without an answer whose outcome was found out.")
      .add(s.looked_up);
  to.counter("chorus_broker_calls_refused_total",
             "Calls that failed since the engine was away, or too many waited.")
      .add(s.refused);
  to.counter("chorus_broker_gaps_total", "Times that something may have been lost on the way.")
      .add(s.gaps);
  to.counter("chorus_broker_unreadable_total",
             "Messages and changes of presence that were passed over since this version can't read "
             "them.")
      .add(s.unreadable);
  to.counter("chorus_broker_requests_dropped_total",
             "What other servers asked of this one, dropped since it came faster than it was done.")
      .add(e.requests_dropped);
  to.gauge("chorus_broker_calls", "Calls of the engine without an answer.")
      .add(static_cast<double>(s.waiting));
  to.gauge("chorus_broker_call_bytes", "Bytes of them.").add(static_cast<double>(s.waiting_bytes));
  to.gauge("chorus_broker_lag_seconds",
           "How long the oldest of them has waited, or the last answer took.")
      .add(chorus::detail::in_seconds(s.lag));
  to.histogram("chorus_broker_publish_seconds",
               "From a publish here to its delivery here, by way of the engine.")
      .add(n.engine_seconds);
  to.histogram("chorus_broker_delivery_seconds",
               "From a publish on another server that measures, too, to its delivery here, by the "
               "wall clocks of both machines, which NTP is to keep; less than nothing counts as 0.")
      .add(n.delivery_seconds);
  to.counter("chorus_broker_messages_total",
             "What became of messages otherwise: refused; waited, put off until the engine was "
             "back; unnumbered, given to members here alone; unconfirmed, of which nobody knows; "
             "replayed, read from the history for members who were there.")
      .add(e.refused, {{"fate", "refused"}})
      .add(e.waited, {{"fate", "waited"}})
      .add(e.unnumbered, {{"fate", "unnumbered"}})
      .add(e.unconfirmed, {{"fate", "unconfirmed"}})
      .add(e.replayed, {{"fate", "replayed"}});
  to.gauge("chorus_broker_waiting_messages", "Messages that wait for the engine to come back.")
      .add(static_cast<double>(e.waiting));
  to.gauge("chorus_broker_waiting_bytes", "Bytes of them, with their overhead.")
      .add(static_cast<double>(e.waiting_bytes));
  to.gauge("chorus_broker_degraded_rooms", "Rooms that do without the engine now.")
      .add(static_cast<double>(e.degraded_rooms));
  to.gauge("chorus_broker_degraded_seconds", "Time that rooms did so far, summed over them.")
      .add(chorus::detail::in_seconds(e.degraded));
}

void add_clients(exposition &to, const std::vector<client_row> &rows) {
  if (rows.empty())
    return;
  const auto each = [&](exposition &family, auto value) {
    for (const auto &row : rows)
      family.add(value(row), {{"client", row.name}});
  };
  each(to.gauge("chorus_client_connected", "1 while the client is connected."),
       [](const client_row &r) { return r.state == client_state::open ? 1.0 : 0.0; });
  each(to.counter("chorus_client_attempts_total", "Attempts to connect."),
       [](const client_row &r) { return r.stats.attempts; });
  each(to.counter("chorus_client_connects_total", "Attempts that succeeded."),
       [](const client_row &r) { return r.stats.connects; });
  each(to.counter("chorus_client_reconnects_total", "Connects after the first."),
       [](const client_row &r) { return r.stats.reconnects; });
  each(to.gauge("chorus_client_downtime_seconds", "Time spent between connections so far."),
       [](const client_row &r) { return chorus::detail::in_seconds(r.stats.downtime); });
  each(to.counter("chorus_client_messages_received_total", "Messages received."),
       [](const client_row &r) { return r.stats.messages_received; });
  // Not a counter: what comes back unsent from a lost connection is taken off again.
  each(to.gauge("chorus_client_messages_sent", "Messages handed to a connection so far."),
       [](const client_row &r) { return static_cast<double>(r.stats.messages_sent); });
  each(to.counter("chorus_client_messages_dropped_total",
                  "Messages dropped by the outbox's policy, or left over at the end."),
       [](const client_row &r) { return r.stats.messages_dropped; });
  each(to.counter("chorus_client_messages_unconfirmed_total",
                  "Messages begun on a connection that ended before they were confirmed."),
       [](const client_row &r) { return r.stats.messages_unconfirmed; });
  each(to.gauge("chorus_client_queue_bytes", "Bytes of payload in the offline outbox."),
       [](const client_row &r) { return static_cast<double>(r.stats.queued_bytes); });
  each(to.gauge("chorus_client_queue_messages", "Messages in the offline outbox."),
       [](const client_row &r) { return static_cast<double>(r.stats.queued_messages); });
  each(to.gauge("chorus_client_round_trip_seconds", "The last round trip; 0 before the first."),
       [](const client_row &r) { return chorus::detail::in_seconds(r.stats.last_round_trip); });
  each(to.counter("chorus_client_rooms_recovered_total",
                  "Rooms resumed with all that they had missed."),
       [](const client_row &r) { return r.stats.rooms_recovered; });
  each(to.counter("chorus_client_rooms_lost_total", "Rooms that could not be resumed."),
       [](const client_row &r) { return r.stats.rooms_lost; });
}

task<result<std::string>> scrape_state(std::shared_ptr<metrics_state> state) {
  auto core = state ? state->server.lock() : nullptr;
  if (!core)
    co_return failure(error::shut_down);
  const bool ready = core->ready();
  auto counting = chorus::detail::take_census(std::move(core));
  const auto counted = co_await std::move(counting);
  if (!counted)
    co_return counted.error();

  std::vector<std::pair<std::string, std::shared_ptr<chorus::detail::client_core>>> clients;
  {
    std::lock_guard lock(state->mutex);
    std::erase_if(state->clients, [](const attached &c) { return c.core.expired(); });
    for (const auto &c : state->clients)
      if (auto alive = c.core.lock())
        clients.emplace_back(c.name, std::move(alive));
  }
  std::vector<client_row> rows;
  for (const auto &[name, client] : clients)
    rows.push_back({name, client->state(), client->stats()});

  exposition out;
  add_connections(out, *counted);
  add_sessions(out, *counted);
  add_life(out, *counted, ready);
  add_traffic(out, *counted);
  add_broker(out, *counted);
  add_clients(out, rows);
  co_return out.text();
}

// Takes as long whatever of it is wrong.
bool same(std::string_view given, std::string_view wanted) noexcept {
  unsigned difference = given.size() == wanted.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned char>(wanted.empty() ? 0 : wanted[i % wanted.size()]);
  return difference == 0;
}

class scrape_permit {
public:
  explicit scrape_permit(metrics_state &state) noexcept : state_(state) {
    granted_ = state_.scrapes.fetch_add(1, std::memory_order_relaxed) < most_scrapes;
  }
  ~scrape_permit() { state_.scrapes.fetch_sub(1, std::memory_order_relaxed); }
  scrape_permit(const scrape_permit &) = delete;
  scrape_permit &operator=(const scrape_permit &) = delete;
  explicit operator bool() const noexcept { return granted_; }

private:
  metrics_state &state_;
  bool granted_;
};

task<response> answer(std::shared_ptr<metrics_state> state, std::string token, request r) {
  constexpr std::string_view scheme = "Bearer ";
  const auto given = r.header("Authorization");
  if (!token.empty() && (!given.starts_with(scheme) || !same(given.substr(scheme.size()), token))) {
    response refused(401, "This needs the header Authorization: Bearer with the metrics token.\n");
    refused.set("WWW-Authenticate", "Bearer");
    co_return refused;
  }
  const scrape_permit permit(*state);
  if (!permit) {
    response busy(503, "Others are being answered; scrape less often.\n");
    busy.set("Retry-After", "1");
    co_return busy;
  }
  auto scraping = scrape_state(state);
  auto text = co_await std::move(scraping);
  if (!text)
    co_return response(503, "The server has ended.\n");
  response page(std::move(*text), "text/plain; version=0.0.4; charset=utf-8");
  page.set("Cache-Control", "no-store");
  co_return page;
}

} // namespace

} // namespace detail

void metrics::attach(std::string_view name, const client &c) {
  if (!state_)
    throw std::invalid_argument("chorus: these metrics belong to no server");
  std::lock_guard lock(state_->mutex);
  auto &clients = state_->clients;
  std::erase_if(clients, [](const auto &one) { return one.core.expired(); });
  if (clients.size() >= detail::most_clients)
    throw std::invalid_argument("chorus: metrics show at most 64 clients; each is a label value");
  for (const auto &one : clients)
    if (one.name == name)
      throw std::invalid_argument("chorus: metrics show another client as \"" + std::string(name) +
                                  "\" already");
  clients.push_back({std::string(name), c.core()});
}

task<result<std::string>> metrics::scrape() const { return detail::scrape_state(state_); }

metrics mount_metrics(server &srv, metrics_options options) {
  auto state = std::make_shared<detail::metrics_state>();
  state->server = srv.core();
  srv.get(options.path, [state, token = std::move(options.token)](request r) {
    return detail::answer(state, token, std::move(r));
  });
  srv.core()->setup()->rooms->measures().turn_on();
  return metrics(std::move(state));
}

} // namespace chorus::observe
