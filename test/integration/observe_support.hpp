#pragma once
// A server with metrics on it, and what a scrape of it says.

#include "server_support.hpp"

#include <chorus/observe.hpp>
#include <chorus/server/server_core.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace observe_test {

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;

// Values by series, as they stand in the text: `name{label="value"}`.
class scraped {
public:
  explicit scraped(const std::string &text) {
    for (std::size_t at = 0; at < text.size();) {
      const auto end = text.find('\n', at);
      const auto line = text.substr(at, end - at);
      at = end == text.npos ? text.size() : end + 1;
      if (line.empty() || line.front() == '#')
        continue;
      const auto space = line.rfind(' ');
      values_[line.substr(0, space)] = std::stod(line.substr(space + 1));
    }
  }
  bool knows(const std::string &series) const { return values_.contains(series); }
  double operator[](const std::string &series) const {
    const auto found = values_.find(series);
    BOOST_REQUIRE_MESSAGE(found != values_.end(), "no series " + series);
    return found->second;
  }
  // Over all series of a family.
  double sum(const std::string &family) const {
    double all = 0;
    for (const auto &[series, value] : values_)
      if (series == family || series.starts_with(family + "{"))
        all += value;
    return all;
  }
  std::size_t size() const { return values_.size(); }

private:
  std::map<std::string, double> values_;
};

inline std::string get(std::uint16_t port, std::string_view path, std::string_view more = {}) {
  wire w(port);
  w.send("GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(more) + "\r\n");
  return w.read_response();
}

struct fixture {
  running loop;
  std::optional<chorus::server> server;
  chorus::observe::metrics metrics;

  explicit fixture(chorus::server_options options = {}, unsigned threads = 1,
                   chorus::observe::metrics_options how = {})
      : loop(threads) {
    server.emplace(loop.rt(), std::move(options));
    server->route("/echo", echo);
    metrics = chorus::observe::mount_metrics(*server, std::move(how));
    chorus::observe::mount_health(*server);
  }
  ~fixture() { loop.wait(server->stop(5s)); }
  void start() {
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  std::uint16_t port() const { return server->port(); }
  scraped scrape() {
    const auto text = loop.wait(metrics.scrape());
    BOOST_REQUIRE_MESSAGE(text, text.error().message());
    return scraped(*text);
  }
  // Scrapes until `f` holds of it.
  template <class F> scraped until(F f) {
    std::optional<scraped> last;
    BOOST_CHECK(comes_true([&] {
      last.emplace(scrape());
      return f(*last);
    }));
    return *last;
  }
};

inline std::string code(std::string_view which, std::string_view by) {
  return "chorus_sessions_closed_total{by=\"" + std::string(by) + "\",code=\"" +
         std::string(which) + "\"}";
}
inline std::string refused(std::string_view why) {
  return "chorus_refusals_total{reason=\"" + std::string(why) + "\"}";
}

} // namespace observe_test
