#pragma once
// What a server counts, for Prometheus: text exposition on a path of the server's own.
//
//   chorus::server srv{rt, {}};
//   chorus::observe::mount_metrics(srv);                       // GET /metrics
//   chorus::observe::mount_metrics(srv, {.token = "secret"});  // with Authorization: Bearer secret
//
// A scrape reads the sessions' own counters on their shards, 256 sessions at a time and then others'
// turn: it holds nobody up for longer than some tens of microseconds, and nothing is counted for it per
// message. The number of series does not depend on how many connections, rooms or users there are.
// docs/observe.md has the table.

#include <chorus/client/client.hpp>
#include <chorus/server/server.hpp>

#include <memory>
#include <string>
#include <string_view>

namespace chorus::observe {

struct metrics_options {
  std::string path = "/metrics";
  // What a scraper has to say in `Authorization: Bearer …`, else it gets 401; empty: anyone may ask.
  std::string token{};
};

namespace detail {
struct metrics_state;
}

// A handle: cheap to copy, may outlive the server. From any thread.
class metrics {
public:
  metrics() noexcept = default;
  explicit metrics(std::shared_ptr<detail::metrics_state> state) noexcept
      : state_(std::move(state)) {}

  // Shows a client's counters under the label client="name" from now on, until the client is
  // destroyed. Each name is a label value, so at most 64 clients; more, or a name that is taken by a
  // living client, throw std::invalid_argument.
  void attach(std::string_view name, const client &c);
  // What a scrape gets, on any thread of the runtime. Fails with shut_down when the server has gone.
  task<result<std::string>> scrape() const;

private:
  std::shared_ptr<detail::metrics_state> state_;
};

// Before the server starts (std::logic_error), once for a server. At most four scrapes at a time are
// answered, others get 503.
metrics mount_metrics(server &srv, metrics_options options = {});

} // namespace chorus::observe
