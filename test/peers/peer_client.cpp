// A user of the library for peers to try: what happens to it comes out as JSON, one object on a line.
//
//   peer_client once URL [OPTION VALUE...]     connects, closes in order, and ends
//   peer_client stay URL... [OPTION VALUE...]  a client that comes back; goes by the lines of standard input
//
// Options: ca, cert, key, insecure yes, subprotocol, timeout (of connecting), ping, pong, initial, cap,
// proven (in milliseconds).
// Input of `stay`: "send TEXT", "stats", "now" (reconnect_now), "close"; its end closes, too.

#include <chorus/chorus.hpp>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace {

using chorus::task;
namespace json = boost::json;
using options_map = std::map<std::string, std::string>;

// Input is answered on a thread of its own, events come on the client's.
void tell(const json::object &what) {
  static std::mutex one_line_at_a_time;
  const std::lock_guard guard(one_line_at_a_time);
  std::cout << json::serialize(what) << std::endl;
}

const char *name_of(const chorus::error_code &code) {
  using chorus::error;
  static const std::map<error, const char *> names{
      {error::closed, "closed"},
      {error::lost, "lost"},
      {error::timed_out, "timed_out"},
      {error::write_timeout, "write_timeout"},
      {error::aborted, "aborted"},
      {error::protocol, "protocol"},
      {error::not_open, "not_open"},
      {error::bad_url, "bad_url"},
      {error::bad_option, "bad_option"},
      {error::resolve_failed, "resolve_failed"},
      {error::connect_failed, "connect_failed"},
      {error::connect_timeout, "connect_timeout"},
      {error::tls_failed, "tls_failed"},
      {error::tls_timeout, "tls_timeout"},
      {error::tls_not_tls, "tls_not_tls"},
      {error::tls_expired, "tls_expired"},
      {error::tls_wrong_host, "tls_wrong_host"},
      {error::tls_unknown_issuer, "tls_unknown_issuer"},
      {error::tls_bad_certificate, "tls_bad_certificate"},
      {error::tls_bad_configuration, "tls_bad_configuration"},
      {error::upgrade_refused, "upgrade_refused"},
      {error::upgrade_invalid, "upgrade_invalid"},
      {error::upgrade_timeout, "upgrade_timeout"},
  };
  if (code.category() != chorus::error_category())
    return code.category().name();
  const auto found = names.find(static_cast<error>(code.value()));
  return found == names.end() ? "another" : found->second;
}

json::object told(const char *event, const chorus::failure &why) {
  const auto parts = chorus::explain(why);
  json::object out;
  out["event"] = event;
  out["error"] = name_of(why.code());
  out["stage"] = to_string(parts.where);
  out["remedy"] = to_string(parts.remedy);
  out["what"] = parts.what;
  out["hint"] = parts.hint;
  out["said"] = parts.said;
  out["alert"] = why.detail().tls_alert;
  out["status"] = why.detail().status;
  out["close_code"] = why.detail().close_code;
  out["fatal"] = chorus::is_fatal(why);
  return out;
}

json::object opened(const chorus::session &s) {
  return {{"event", "open"}, {"subprotocol", s.subprotocol()}, {"address", s.remote_address()}};
}

std::chrono::milliseconds time_of(const options_map &given, const char *name,
                                  std::chrono::milliseconds usual) {
  const auto found = given.find(name);
  return found == given.end() ? usual : std::chrono::milliseconds(std::stoi(found->second));
}

chorus::tls_options tls_of(const options_map &given) {
  const auto value = [&](const char *name) {
    const auto found = given.find(name);
    return found == given.end() ? std::string() : found->second;
  };
  chorus::tls_options tls;
  tls.ca_file = value("ca");
  tls.certificate_file = value("cert");
  tls.key_file = value("key");
  if (value("insecure") == "yes")
    tls.verify = chorus::tls_verify::insecure_accept_any_certificate;
  return tls;
}

task<> once(std::string url, const options_map &given) {
  const auto tls = tls_of(given);
  std::vector<std::string_view> subprotocols;
  if (const auto found = given.find("subprotocol"); found != given.end())
    subprotocols.push_back(found->second);
  chorus::connect_options options;
  options.tls = &tls;
  options.subprotocols = subprotocols;
  options.connect_timeout = time_of(given, "timeout", options.connect_timeout);
  auto s = co_await chorus::connect(url, options);
  if (!s) {
    tell(told("failed", s.error()));
    co_return;
  }
  tell(opened(*s));
  const auto closed = co_await s->close();
  tell(closed ? json::object{{"event", "closed"}} : told("failed", closed.error()));
}

chorus::client_options client_of(std::vector<std::string> urls, const options_map &given) {
  chorus::client_options options;
  options.urls = std::move(urls);
  options.tls = tls_of(given);
  if (const auto found = given.find("subprotocol"); found != given.end())
    options.subprotocols = {found->second};
  auto &beat = options.session.heartbeat;
  beat.ping_interval = time_of(given, "ping", beat.ping_interval);
  beat.pong_wait = time_of(given, "pong", beat.pong_wait);
  options.backoff.initial = time_of(given, "initial", options.backoff.initial);
  options.backoff.cap = time_of(given, "cap", options.backoff.cap);
  options.proven_after = time_of(given, "proven", options.proven_after);
  options.connect_timeout = time_of(given, "timeout", options.connect_timeout);
  options.on_connect = [](chorus::session &s) { tell(opened(s)); };
  options.on_message = [](const chorus::message &m) {
    tell({{"event", "message"}, {"size", m.size()}, {"text", m.text().substr(0, 200)}});
  };
  options.on_disconnect = [](const chorus::failure &why) { tell(told("lost", why)); };
  options.on_error = [](const chorus::failure &why) { tell(told("attempt", why)); };
  options.on_state = [](chorus::client_state state) {
    if (state == chorus::client_state::closed)
      tell({{"event", "ended"}});
  };
  return options;
}

json::object counted(const chorus::client_stats &s) {
  return {{"event", "stats"},
          {"attempts", s.attempts},
          {"connects", s.connects},
          {"received", s.messages_received},
          {"sent", s.messages_sent},
          {"unconfirmed", s.messages_unconfirmed},
          {"queued", s.queued_messages},
          {"round_trip_us", s.last_round_trip.count() / 1000},
          {"downtime_ms", s.downtime.count() / 1'000'000}};
}

void obey(chorus::client &c) {
  for (std::string line; std::getline(std::cin, line) && line != "close";) {
    if (line.starts_with("send "))
      // Room for everything the tests send: nothing has to wait.
      if (const auto queued = c.try_send(chorus::message(line.substr(5))); !queued)
        tell(told("unsent", queued.error()));
    if (line == "stats")
      tell(counted(c.stats()));
    if (line == "now")
      c.reconnect_now();
  }
}

task<> end(chorus::client &c, chorus::runtime &rt) {
  const auto closed = co_await c.close();
  tell(closed ? json::object{{"event", "closed"}} : told("failed", closed.error()));
  rt.stop();
}

int stay(std::vector<std::string> urls, const options_map &given) {
  chorus::runtime rt;
  chorus::client c(rt, client_of(std::move(urls), given));
  std::thread input([&] {
    obey(c);
    rt.spawn(end(c, rt));
  });
  rt.run();
  input.join();
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  std::vector<std::string> urls;
  options_map given;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.find("://") != word.npos)
      urls.push_back(word);
    else if (++i < argc)
      given[word] = argv[i];
  }
  const std::string_view how = argc > 1 ? argv[1] : "";
  try {
    if (how == "once" && urls.size() == 1) {
      chorus::runtime rt;
      rt.run(once(urls[0], given));
      return 0;
    }
    if (how == "stay" && !urls.empty())
      return stay(urls, given);
  } catch (const std::exception &x) {
    std::cerr << "peer_client: " << x.what() << '\n';
    return 1;
  }
  std::cerr << "usage: peer_client once|stay URL... [OPTION VALUE...]\n";
  return 2;
}
