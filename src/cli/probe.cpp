#include "probe.hpp"

#include "header_option.hpp"
#include "probe_report.hpp"
#include "values.hpp"

#include <chorus/base/url.hpp>

#include <boost/json/array.hpp>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <csignal>
#include <ctime>

namespace cli {

namespace {

using chorus::task;
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

// No credentials, and no token: a report is made to be shown.
std::string without_query(const chorus::url &where) {
  const auto text = where.str();
  return text.substr(0, text.find('?'));
}

class examination final : public chorus::connect_observer {
public:
  examination(const probe_settings &settings, probe_report &report, const chorus::url &where,
              std::string target)
      : settings_(settings), report_(report), where_(where), target_(std::move(target)) {}

  task<status> run();

private:
  void on_resolved(std::span<const std::string> addresses) override;
  void on_connected(std::string_view remote, std::string_view local) override;
  void on_proxied() override;
  void on_certificate(const chorus::tls_certificate &shown) override;
  void on_secured(const chorus::tls_info &agreed) override;
  void on_upgraded(unsigned code,
                   std::span<const std::pair<std::string, std::string>> headers) override;
  void on_redirected(unsigned code, std::string_view to) override;

  task<chorus::result<>> round_trips(chorus::session s);
  task<chorus::result<>> close(chorus::session s);
  status give_up(const chorus::failure &why);
  std::string name_of(chorus::stage where) const;
  // The stages of this URL, in their order.
  std::vector<std::string> expected() const;
  probe_stage done(std::string name, std::string summary);
  void describe(probe_stage &s) const; // the certificate

  const probe_settings &settings_;
  probe_report &report_;
  chorus::url where_;
  const std::string target_; // as it was given
  steady::time_point mark_ = steady::now();
  bool proxied_ = false;
  std::string current_; // when a failure itself does not say
  std::optional<chorus::tls_certificate> certificate_;
};

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

void examination::on_resolved(std::span<const std::string> addresses) {
  auto s = done("resolve", listed(addresses.first(std::min<std::size_t>(addresses.size(), 8))));
  if (addresses.size() > 8)
    s.summary += fmt::format(" and {} more", addresses.size() - 8);
  s.facts["addresses"] = array_of(addresses);
  if (s.time > std::chrono::seconds(1))
    report_.remark("looking the name up took long; the DNS server may be slow or partly away");
  report_.add(std::move(s));
}

void examination::on_connected(std::string_view remote, std::string_view local) {
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
  report_.add(std::move(s));
}

void examination::on_upgraded(unsigned code,
                              std::span<const std::pair<std::string, std::string>> headers) {
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
  const auto code = s.end().detail().close_code;
  auto stage = done("close", where_.is_websocket() ? fmt::format("answered with {}", code)
                                                   : std::string("ended in order"));
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
  case chorus::stage::proxy:
    return "proxy";
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
  proxied_ = proxied_ || name == "proxy";
  if (outcome == status::usage ||
      (name.empty() && why.detail().where == chorus::stage::configure)) {
    complain("probe", sentence_of(why));
    return outcome;
  }
  auto s = done(name, told.what);
  s.state = finding::failed;
  if (name == "tls")
    describe(s);
  if (told.where == chorus::stage::upgrade && why.detail().status != 0) {
    s.facts["status"] = why.detail().status;
    boost::json::array all;
    for (const auto &[header, value] : why.detail().headers) {
      all.push_back(boost::json::array{header, value});
      s.details.emplace_back(header, value);
    }
    s.facts["headers"] = std::move(all);
  }
  for (const auto &[address, error] : why.detail().tried)
    s.details.emplace_back("tried", address + ": " + error.message());
  report_.add(std::move(s));
  const auto all = expected();
  const auto here = std::find(all.begin(), all.end(), name);
  for (auto next = here == all.end() ? here : here + 1; next != all.end(); ++next) {
    probe_stage missed;
    missed.name = *next;
    missed.state = finding::unreached;
    missed.summary = "not reached";
    report_.add(std::move(missed));
  }
  report_.finish(outcome, why,
                 probe_advice(why, without_query(where_),
                              certificate_ ? certificate_->alt_names : std::vector<std::string>()));
  complain("probe", name + ": " + sentence_of(why));
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
  if (settings_.proxy != "none")
    options.proxy = settings_.proxy;
  options.proxy_from_environment = settings_.proxy.empty();
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

task<> probe_main(examination &all, status &outcome) { outcome = co_await all.run(); }

} // namespace

CLI::App *add_probe(CLI::App &app, probe_settings &s) {
  auto *sub = app.add_subcommand(
      "probe", "Examine URL stage by stage: times, certificate, headers, and what to do");
  sub->add_option("URL", s.url,
                  "ws://, wss://, ws+unix://PATH:/TARGET, tcp://, tls:// or unix://PATH")
      ->required();
  add_header_option(*sub, s.header_lines, s.headers);
  sub->add_option("--subprotocol", s.subprotocols, "Offer a subprotocol; repeatable, best first")
      ->allow_extra_args(false)
      ->type_name("NAME");
  sub->add_option("--ca", s.tls.ca_file, "Trust these authorities (PEM) instead of the system's")
      ->type_name("FILE");
  sub->add_flag("--insecure", s.insecure, "Accept any certificate: no protection, for tests only");
  auto *cert = sub->add_option("--tls-cert", s.tls.certificate_file, "Client certificate (PEM)")
                   ->type_name("FILE");
  auto *key =
      sub->add_option("--tls-key", s.tls.key_file, "Private key of --tls-cert")->type_name("FILE");
  cert->needs(key);
  key->needs(cert);
  sub->add_option("--alpn", s.tls.alpn, "Offer an ALPN protocol; repeatable, best first")
      ->allow_extra_args(false)
      ->type_name("NAME");
  add_switch(*sub, "--compression", s.compression, "Offer permessage-deflate");
  sub->add_option(
         "--proxy", s.proxy,
         "By this proxy, http://HOST:PORT or socks5://HOST:PORT, or 'none'; by default as the "
         "environment says")
      ->type_name("URL");
  add_number(*sub, "--pings", s.pings, 1U, 1000U, "Round trips to measure");
  add_duration(*sub, "--timeout", s.timeout, "Bound of each stage");
  sub->add_flag("--json", s.json, "One JSON object on standard output instead of the report");
  add_color(*sub, s.color);
  return sub;
}

status run_probe(const probe_settings &given) {
  auto settings = given;
  if (settings.timeout.count() == 0) {
    complain("probe", "--timeout: '0' would wait for ever; say 500ms, 30s or 2m");
    return status::usage;
  }
  if (settings.insecure)
    settings.tls.verify = chorus::tls_verify::insecure_accept_any_certificate;
  const auto where = chorus::url::parse(settings.url);
  if (!where) {
    complain("probe", sentence_of(where.error()));
    return status::usage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  settings.url = without_query(*where);
  probe_report report(settings);
  examination all(settings, report, *where, given.url);
  auto outcome = status::failed;
  chorus::runtime rt;
  rt.run(probe_main(all, outcome));
  if (std::ferror(stdout) != 0 && outcome == status::ok) {
    complain("probe", "writing to standard output failed");
    return status::failed;
  }
  return outcome;
}

} // namespace cli
