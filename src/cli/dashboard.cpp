#include "dashboard.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

namespace cli {

namespace {

namespace json = boost::json;
using chorus::task;
using steady = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto look_every = 500ms;
constexpr std::size_t rooms_listed = 20;

using fractional_ms = std::chrono::duration<double, std::milli>;

json::object counters(const chorus::server_stats &s) {
  return {{"connections", s.connections},
          {"handlers", s.handlers},
          {"handshakes", s.handshakes},
          {"accepted", s.accepted},
          {"upgraded", s.upgraded},
          {"refused_limit", s.refused_limit},
          {"refused_origin", s.refused_origin},
          {"refused_address", s.refused_address},
          {"refused_user", s.refused_user},
          {"refused_proxy", s.refused_proxy},
          {"refused_other", s.refused_other},
          {"handshakes_failed", s.handshakes_failed},
          {"accept_errors", s.accept_errors},
          {"handler_failures", s.handler_failures},
          {"messages_received", s.messages_received},
          {"messages_sent", s.messages_sent},
          {"messages_dropped", s.messages_dropped},
          {"evicted", s.evicted},
          {"evicted_budget", s.evicted_budget},
          {"rate_closed", s.rate_closed},
          {"rate_dropped", s.rate_dropped},
          {"resumes_recovered", s.resume.recovered},
          {"resumes_lost", s.resume.lost_epoch + s.resume.lost_trimmed + s.resume.lost_ahead +
                               s.resume.lost_no_history}};
}

// Of the sessions that have been pinged; sorts its argument.
json::object percentiles(std::vector<std::chrono::nanoseconds> &trips) {
  json::object out{{"count", trips.size()}};
  if (trips.empty())
    return out;
  std::sort(trips.begin(), trips.end());
  const auto at = [&](double p) {
    const auto last = static_cast<double>(trips.size() - 1);
    return fractional_ms(trips[static_cast<std::size_t>(p * last + 0.5)]).count();
  };
  out["p50"] = at(0.50);
  out["p90"] = at(0.90);
  out["p99"] = at(0.99);
  out["max"] = at(1.0);
  return out;
}

class stats_page {
public:
  stats_page(chorus::server &srv, std::shared_ptr<chat> rooms, shared_engine engine)
      : server_(srv), chat_(std::move(rooms)), engine_(std::move(engine)) {}

  task<chorus::response> answer() {
    auto text = kept();
    if (text.empty()) {
      text = co_await look();
      const std::lock_guard lock(guard_);
      kept_ = text;
      kept_until_ = steady::now() + look_every;
    }
    chorus::response out(std::move(text), "application/json");
    out.set("Cache-Control", "no-store");
    out.set("X-Content-Type-Options", "nosniff");
    co_return out;
  }

private:
  std::string kept() const {
    const std::lock_guard lock(guard_);
    return steady::now() < kept_until_ ? kept_ : std::string();
  }

  json::value state_of_engine() const {
    if (!engine_.broker)
      return nullptr;
    const auto now = engine_.broker->status();
    const auto stats = engine_.broker->stats();
    return json::object{{"engine", engine_.name},
                        {"connected", now.connected},
                        {"why", now.why},
                        {"disconnects", stats.disconnects},
                        {"commands", stats.commands},
                        {"received", stats.received},
                        {"refused", stats.refused},
                        {"gaps", stats.gaps},
                        {"waiting", stats.waiting},
                        {"lag_ms", fractional_ms(stats.lag).count()}};
  }

  task<std::string> look() {
    std::size_t queued_bytes = 0;
    std::size_t queued_messages = 0;
    std::size_t longest_queue = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    std::vector<std::chrono::nanoseconds> trips;
    for (const auto &s : co_await server_.sessions()) {
      const auto stats = s.stats();
      queued_bytes += stats.queued_bytes;
      queued_messages += stats.queued_messages;
      longest_queue = std::max(longest_queue, stats.queued_bytes);
      bytes_in += stats.bytes_received;
      bytes_out += stats.bytes_sent;
      if (stats.last_round_trip > 0ns)
        trips.push_back(stats.last_round_trip);
    }
    json::object out;
    out["time"] = std::chrono::duration<double>(steady::now() - begun_).count();
    out["run"] = run_;
    out["server"] = counters(server_.stats());
    out["queues"] = {
        {"bytes", queued_bytes}, {"messages", queued_messages}, {"longest_bytes", longest_queue}};
    out["open_sessions"] = {{"bytes_received", bytes_in}, {"bytes_sent", bytes_out}};
    out["round_trip_ms"] = percentiles(trips);
    out["broker"] = state_of_engine();
    json::array rooms;
    const auto fullest = co_await chat_->rooms(rooms_listed);
    for (const auto &room : fullest)
      rooms.push_back({{"name", room.name},
                       {"users", room.users},
                       {"members", room.stats.members},
                       {"published", room.stats.published},
                       {"deliveries", room.stats.deliveries},
                       {"dropped", room.stats.dropped},
                       {"evicted", room.stats.evicted}});
    out["rooms"] = std::move(rooms);
    co_return json::serialize(out);
  }

  chorus::server &server_;
  const std::shared_ptr<chat> chat_;
  const shared_engine engine_;
  const steady::time_point begun_ = steady::now();
  // Tells one life of the server from the next: counters start over with it.
  const std::int64_t run_ = std::chrono::system_clock::now().time_since_epoch().count() / 1000;
  mutable std::mutex guard_;
  std::string kept_;
  steady::time_point kept_until_{};
};

} // namespace

void serve_stats(chorus::server &srv, std::string_view path, std::shared_ptr<chat> rooms,
                 shared_engine engine) {
  auto page = std::make_shared<stats_page>(srv, std::move(rooms), std::move(engine));
  srv.get(path, [page](chorus::request) { return page->answer(); });
}

} // namespace cli
