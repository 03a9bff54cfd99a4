#include "examination.hpp"

#include <boost/json/array.hpp>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <ctime>

namespace cli {

using chorus::task;

namespace {

using steady = std::chrono::steady_clock;

std::string listed(std::span<const std::string> names, const char *between = ", ") {
  std::string out;
  for (const auto &n : names)
    out += (out.empty() ? "" : between) + n;
  return out;
}

boost::json::array array_of(std::span<const std::string> names) {
  return boost::json::array(names.begin(), names.end());
}

std::string day(std::chrono::system_clock::time_point t) {
  const auto seconds = std::chrono::system_clock::to_time_t(t);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

std::string_view value_of(std::span<const std::pair<std::string, std::string>> headers,
                          std::string_view lower_name) {
  for (const auto &[name, value] : headers)
    if (std::equal(name.begin(), name.end(), lower_name.begin(), lower_name.end(),
                   [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a | 0x20 : a) == b; }))
      return value;
  return {};
}

// Those of the handshake itself tell nothing that the report does not say already.
bool is_formality(std::string_view name) {
  static constexpr std::string_view prefix = "sec-websocket-";
  std::string lower(name);
  for (auto &c : lower)
    c = static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  return lower == "upgrade" || lower == "connection" || lower.starts_with(prefix);
}

} // namespace

std::string without_query(const chorus::url &where) {
  const auto text = where.str();
  return text.substr(0, text.find('?'));
}

std::vector<std::string> examination::expected() const {
  std::vector<std::string> all{"resolve", where_.is_unix() ? "socket" : "tcp"};
  if (proxied_)
    all.push_back("proxy");
  if (where_.is_secure())
    all.push_back("tls");
  if (where_.is_websocket())
    all.push_back("upgrade");
  all.push_back("round trip");
  all.push_back("close");
  return all;
}

probe_stage examination::done(std::string name, std::string summary) {
  const auto now = steady::now();
  probe_stage s;
  s.name = std::move(name);
  s.summary = std::move(summary);
  s.time = now - std::exchange(mark_, now);
  return s;
}

void examination::on_started() {
  mark_ = steady::now();
  resolved_ = connected_ = false;
}

void examination::on_resolved(std::span<const std::string> addresses) {
  resolved_ = true;
  auto s = done("resolve", listed(addresses.first(std::min<std::size_t>(addresses.size(), 8))));
  if (addresses.size() > 8)
    s.summary += fmt::format(" and {} more", addresses.size() - 8);
  s.facts["addresses"] = array_of(addresses);
  if (s.time > std::chrono::seconds(1))
    report_.remark("looking the name up took long; the DNS server may be slow or partly away");
  report_.add(std::move(s));
}

void examination::on_connected(std::string_view remote, std::string_view local) {
  connected_ = true;
  auto s = done(where_.is_unix() ? "socket" : "tcp", "connected to " + std::string(remote));
  if (!where_.is_unix())
    s.details.emplace_back("from", local);
  s.facts["address"] = remote;
  s.facts["local_address"] = local;
  report_.add(std::move(s));
}

void examination::on_proxied() {
  proxied_ = true;
  report_.add(done("proxy", "it has connected to " + where_.authority()));
}

void examination::on_certificate(const chorus::tls_certificate &shown) { certificate_ = shown; }

void examination::describe(probe_stage &s) const {
  if (!certificate_)
    return;
  const auto &c = *certificate_;
  const auto now = std::chrono::system_clock::now();
  const auto days = std::chrono::duration_cast<std::chrono::hours>(c.not_after - now).count() / 24;
  s.details.emplace_back("certificate", c.subject + (c.key.empty() ? "" : " (" + c.key + ")"));
  s.details.emplace_back("issuer", c.issuer);
  s.details.emplace_back("names", c.alt_names.empty() ? "none" : listed(c.alt_names));
  s.details.emplace_back("valid", day(c.not_before) + " to " + day(c.not_after) +
                                      (now > c.not_after    ? ": over"
                                       : now < c.not_before ? ": not yet"
                                                            : fmt::format(": {} day{} left", days,
                                                                          days == 1 ? "" : "s")));
  s.details.emplace_back("chain", (c.chain.empty() ? c.subject : listed(c.chain, " < ")) + ": " +
                                      c.verdict +
                                      (settings_.insecure ? " (not asked for: --insecure)" : ""));
  boost::json::object f;
  f["subject"] = c.subject;
  f["issuer"] = c.issuer;
  f["names"] = array_of(c.alt_names);
  f["not_before"] = day(c.not_before);
  f["not_after"] = day(c.not_after);
  f["key"] = c.key;
  f["chain"] = array_of(c.chain);
  f["trusted"] = c.trusted;
  f["verdict"] = c.verdict;
  s.facts["certificate"] = std::move(f);
}

void examination::on_secured(const chorus::tls_info &agreed) {
  auto s = done("tls", agreed.version + ", " + agreed.cipher +
                           (agreed.alpn.empty() ? ", no ALPN" : ", ALPN " + agreed.alpn));
  s.facts["version"] = agreed.version;
  s.facts["cipher"] = agreed.cipher;
  s.facts["alpn"] = agreed.alpn;
  describe(s);
  if (settings_.insecure)
    report_.remark("--insecure: whoever answers could be an impostor; nothing was verified");
  else if (certificate_ &&
           certificate_->not_after - std::chrono::system_clock::now() < std::chrono::hours(14 * 24))
    report_.remark("the certificate ends on " + day(certificate_->not_after) +
                   ": renew it in time");
  secured_ = std::move(s);
}

void examination::tell_tls() {
  if (secured_)
    report_.add(*std::exchange(secured_, std::nullopt));
}

void examination::on_upgraded(unsigned code,
                              std::span<const std::pair<std::string, std::string>> headers) {
  tell_tls();
  const std::string subprotocol(value_of(headers, "sec-websocket-protocol"));
  const std::string extensions(value_of(headers, "sec-websocket-extensions"));
  auto s = done("upgrade",
                fmt::format("{}, {}, {}", code,
                            subprotocol.empty() ? "no subprotocol" : "subprotocol " + subprotocol,
                            extensions.empty() ? "no extensions" : extensions));
  s.facts["status"] = code;
  s.facts["subprotocol"] = subprotocol;
  s.facts["extensions"] = extensions;
  boost::json::array all;
  for (const auto &[name, value] : headers) {
    all.push_back(boost::json::array{name, value});
    if (!is_formality(name))
      s.details.emplace_back(name, value);
  }
  s.facts["headers"] = std::move(all);
  if (subprotocol.empty() && !settings_.subprotocols.empty())
    report_.remark("the server took none of the subprotocols that were offered");
  report_.add(std::move(s));
}

void examination::on_redirected(unsigned code, std::string_view to) {
  tell_tls();
  auto s = done("upgrade", fmt::format("{}, redirected to {}", code, to));
  s.facts["status"] = code;
  s.facts["redirected_to"] = to;
  report_.add(std::move(s));
  report_.remark("the server redirects; connecting to " + std::string(to) + " saves the detour");
  if (auto next = chorus::url::parse(to))
    where_ = *std::move(next);
  certificate_.reset();
}

task<chorus::result<>> examination::round_trips(chorus::session s) {
  tell_tls();
  current_ = "round trip";
  mark_ = steady::now();
  if (!where_.is_websocket()) {
    probe_stage none;
    none.name = "round trip";
    none.state = finding::unreached;
    none.summary = "framed TCP has no pings; connecting took one round trip";
    report_.add(std::move(none));
    report_.remark(
        "the connection stands, but whether the server speaks framed messages shows only "
        "when one is sent");
    co_return chorus::result<>();
  }
  std::vector<std::chrono::nanoseconds> times;
  for (unsigned i = 0; i < settings_.pings; ++i) {
    auto one = co_await s.ping(settings_.timeout);
    if (!one)
      co_return one.error();
    times.push_back(*one);
  }
  std::sort(times.begin(), times.end());
  const auto median = times[times.size() / 2];
  auto stage =
      done("round trip", fmt::format("{} pings: min {}, median {}, max {}", times.size(),
                                     in_milliseconds(times.front()), in_milliseconds(median),
                                     in_milliseconds(times.back())));
  stage.time = median;
  const auto ms = [](std::chrono::nanoseconds d) {
    return static_cast<double>(d.count() / 1000) / 1e3;
  };
  stage.facts["pings"] = times.size();
  stage.facts["min_ms"] = ms(times.front());
  stage.facts["median_ms"] = ms(median);
  stage.facts["max_ms"] = ms(times.back());
  report_.add(std::move(stage));
  co_return chorus::result<>();
}

task<chorus::result<>> examination::close(chorus::session s) {
  current_ = "close";
  mark_ = steady::now();
  auto closed = co_await s.close();
  if (!closed)
    co_return closed.error();
  const auto end = s.end();
  const auto code = code_of_peer(end);
  if (where_.is_websocket() && !is_normal(code)) {
    chorus::failure_detail detail;
    detail.where = chorus::stage::close;
    detail.by_peer = true;
    detail.close_code = code;
    detail.close_reason = reason_of_peer(end);
    detail.sentence = fmt::format("the server answered with {}", code);
    if (!detail.close_reason.empty())
      detail.sentence += " (" + detail.close_reason + ")";
    co_return chorus::failure(make_error_code(chorus::error::closed), std::move(detail));
  }
  auto stage = done("close", !where_.is_websocket() ? std::string("ended in order")
                             : code == 1005         ? std::string("answered without a code")
                                                    : fmt::format("answered with {}", code));
  if (where_.is_websocket())
    stage.facts["code"] = code;
  report_.add(std::move(stage));
  co_return chorus::result<>();
}

std::string examination::name_of(chorus::stage where) const {
  switch (where) {
  case chorus::stage::resolve:
    return "resolve";
  case chorus::stage::connect:
    return where_.is_unix() ? "socket" : "tcp";
  case chorus::stage::proxy: // the way to it belongs to it
    return !resolved_ ? "resolve" : !connected_ ? "tcp" : "proxy";
  case chorus::stage::tls:
    return "tls";
  case chorus::stage::upgrade:
    return "upgrade";
  default:
    return current_;
  }
}

status examination::give_up(const chorus::failure &why) {
  auto outcome = status_of(why);
  if (why == chorus::error::aborted)
    outcome = status::timeout; // the close that was not answered
  if (outcome == status::ok)
    outcome = status::failed;
  const auto told = chorus::explain(why);
  const auto name = name_of(told.where);
  proxied_ = proxied_ || told.where == chorus::stage::proxy;
  if (outcome == status::usage) {
    complain("probe", sentence_of(why));
    return outcome;
  }
  const auto all = expected();
  auto next = std::find(all.begin(), all.end(), name);
  if (next == all.end()) { // before the first one
    next = all.begin();
  } else {
    if (name != "tls")
      tell_tls();
    auto s = done(name, told.what);
    if (secured_)
      s.time += std::exchange(secured_, std::nullopt)->time;
    s.state = finding::failed;
    if (name == "tls")
      describe(s);
    if (told.where == chorus::stage::upgrade && why.detail().status != 0) {
      s.facts["status"] = why.detail().status;
      boost::json::array shown;
      for (const auto &[header, value] : why.detail().headers) {
        shown.push_back(boost::json::array{header, value});
        s.details.emplace_back(header, value);
      }
      s.facts["headers"] = std::move(shown);
    }
    if (why == chorus::error::closed && name == "close")
      s.facts["code"] = code_of_peer(why);
    for (const auto &[address, error] : why.detail().tried)
      s.details.emplace_back("tried", address + ": " + error.message());
    report_.add(std::move(s));
    ++next;
  }
  for (; next != all.end(); ++next) {
    probe_stage missed;
    missed.name = *next;
    missed.state = finding::unreached;
    missed.summary = "not reached";
    report_.add(std::move(missed));
  }
  const auto stage = name.empty() ? std::string(chorus::to_string(told.where)) : name;
  report_.finish(outcome, why, stage,
                 probe_advice(why, stage, without_query(where_),
                              certificate_ ? certificate_->alt_names : std::vector<std::string>()));
  complain("probe", stage + ": " + sentence_of(why));
  return outcome;
}

task<status> examination::run() {
  std::vector<chorus::header> headers;
  for (const auto &[name, value] : settings_.headers)
    headers.push_back({name, value});
  const std::vector<std::string_view> subprotocols(settings_.subprotocols.begin(),
                                                   settings_.subprotocols.end());
  chorus::connect_options options;
  options.headers = headers;
  options.subprotocols = subprotocols;
  options.tls = &settings_.tls;
  options.session.compression.enabled = settings_.compression;
  options.session.heartbeat.ping_interval = std::chrono::milliseconds(0);
  options.session.heartbeat.pong_wait = std::chrono::milliseconds(0);
  options.session.close_timeout = settings_.timeout;
  options.resolve_timeout = settings_.timeout;
  options.connect_timeout = settings_.timeout;
  options.tls_timeout = settings_.timeout;
  options.upgrade_timeout = settings_.timeout;
  apply(settings_.reach, options);
  options.observer = this;
  report_.begin();
  mark_ = steady::now();
  auto opened = co_await chorus::connect(target_, options);
  if (!opened)
    co_return give_up(opened.error());
  auto session = *std::move(opened);
  session.ignore_input(); // whatever the server has to say must not keep the pongs waiting
  auto measured = co_await round_trips(session);
  if (!measured)
    co_return give_up(measured.error());
  auto closed = co_await close(session);
  if (!closed)
    co_return give_up(closed.error());
  report_.finish(status::ok);
  co_return status::ok;
}

} // namespace cli
