#include "probe_report.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <spdlog/fmt/fmt.h>

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string_view>

namespace cli {

namespace {

constexpr int name_width = 11;
constexpr int time_width = 12;

double milliseconds_of(std::chrono::nanoseconds d) {
  return std::round(static_cast<double>(d.count()) / 1e3) / 1e3;
}

void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// What a peer sent may be no UTF-8, which JSON has to be.
void make_harmless(boost::json::value &v) {
  if (auto *text = v.if_string()) {
    *text = harmless(std::string_view(text->data(), text->size()));
  } else if (auto *array = v.if_array()) {
    for (auto &one : *array)
      make_harmless(one);
  } else if (auto *object = v.if_object()) {
    for (auto &one : *object)
      make_harmless(one.value());
  }
}

// Where the library has nothing to advise.
std::string general_advice(const chorus::failure &why, std::string_view stage) {
  using chorus::error;
  if (why == error::timed_out)
    return "the server answers no pings: look whether it is busy or hangs, or whether something "
           "between here and there holds them up; --timeout waits longer";
  if (why == error::aborted)
    return "the server has to answer a close frame with its own (RFC 6455 section 5.5.1): tell who "
           "runs it; --timeout waits longer";
  if (why == error::closed && stage == "close")
    return "the server's log or documentation says what was wrong with a plain close";
  if (why == error::closed)
    return "the server closes what it has just opened: its log or documentation says why; it may "
           "want credentials (--header), a subprotocol (--subprotocol) or another path";
  if (why == error::lost)
    return "look into the log of the server, and of proxies before it, for why the connection was "
           "cut";
  if (status_of(why) == status::protocol)
    return "the fault is the server's: tell who runs it";
  if (stage == "configure")
    return "correct the options that this is about";
  return "look into the server's log for the other side of it";
}

} // namespace

std::string in_milliseconds(std::chrono::nanoseconds d) {
  return fmt::format("{:.2f} ms", milliseconds_of(d));
}

probe_report::probe_report(const probe_settings &settings)
    : settings_(settings), paint_(!settings.json && wants_color(settings.color, STDOUT_FILENO)) {}

void probe_report::begin() {
  if (!settings_.json)
    put("chorus probe " + paint_(paint::bold, harmless(settings_.url)) + "\n\n");
}

void probe_report::add(probe_stage s) {
  if (!settings_.json)
    print(s);
  stages_.push_back(std::move(s));
}

void probe_report::print(const probe_stage &s) const {
  const bool failed = s.state == finding::failed;
  const bool reached = s.state != finding::unreached;
  const auto color = failed ? paint::red : reached ? paint::green : paint::dim;
  std::string out = "  ";
  out += paint_(color, failed ? "FAIL" : reached ? " ok " : "  - ");
  out += paint_(paint::bold, fmt::format("  {:<{}}", s.name, name_width));
  out += fmt::format("{:>{}}  ", reached ? in_milliseconds(s.time) : "", time_width);
  out += paint_(failed ? paint::red : reached ? paint::plain : paint::dim, harmless(s.summary));
  out += '\n';
  for (const auto &[label, text] : s.details) {
    out.append(static_cast<std::size_t>(6 + 2 + name_width + time_width + 2), ' ');
    if (!label.empty())
      out += paint_(paint::dim, harmless(label)) + ": ";
    out += harmless(text) + '\n';
  }
  put(out);
  std::fflush(stdout); // a stage that takes long is seen to be under way
}

std::chrono::nanoseconds probe_report::total() const noexcept {
  std::chrono::nanoseconds sum{0};
  for (const auto &s : stages_)
    if (s.name != "round trip" && s.name != "close")
      sum += s.time;
  return sum;
}

void probe_report::print_end(const std::string &verdict, bool healthy) const {
  std::string out = "\n";
  for (const auto &r : remarks_)
    out += paint_(paint::yellow, "note: ") + harmless(r) + '\n';
  out += paint_(healthy ? paint::green : paint::red, harmless(verdict)) + '\n';
  put(out);
  std::fflush(stdout);
}

void probe_report::finish(status outcome) {
  if (settings_.json)
    return print_json(outcome, nullptr, {}, {});
  print_end("healthy: open after " + in_milliseconds(total()), true);
}

void probe_report::finish(status outcome, const chorus::failure &why, const std::string &stage,
                          const std::string &advice) {
  if (settings_.json)
    return print_json(outcome, &why, stage, advice);
  const auto told = chorus::explain(why);
  std::string verdict = "not healthy: it fails at " + stage;
  if (!told.said.empty())
    verdict += "; the peer says: " + told.said;
  print_end(verdict, false);
  if (!advice.empty())
    put(paint_(paint::bold, "what to do: ") + harmless(advice) + '\n');
  std::fflush(stdout);
}

void probe_report::print_json(status outcome, const chorus::failure *why, const std::string &stage,
                              const std::string &advice) const {
  boost::json::object out;
  out["url"] = settings_.url;
  out["healthy"] = outcome == status::ok;
  out["status"] = static_cast<int>(outcome);
  out["open_after_ms"] = milliseconds_of(total());
  auto &stages = out["stages"].emplace_array();
  for (const auto &s : stages_) {
    boost::json::object one;
    one["name"] = s.name;
    one["state"] = s.state == finding::good     ? "ok"
                   : s.state == finding::failed ? "failed"
                                                : "not_reached";
    if (s.state == finding::unreached)
      one["ms"] = nullptr;
    else
      one["ms"] = milliseconds_of(s.time);
    for (const auto &fact : s.facts)
      one[fact.key()] = fact.value();
    stages.push_back(std::move(one));
  }
  out["notes"] = boost::json::array(remarks_.begin(), remarks_.end());
  if (why) {
    const auto told = chorus::explain(*why);
    boost::json::object f;
    f["stage"] = stage;
    f["what"] = told.what;
    f["address"] = told.address;
    f["said"] = told.said;
    f["remedy"] = chorus::to_string(told.remedy);
    f["what_to_do"] = advice;
    out["failure"] = std::move(f);
  } else {
    out["failure"] = nullptr;
  }
  boost::json::value all = std::move(out);
  make_harmless(all);
  put(boost::json::serialize(all) + '\n');
  std::fflush(stdout);
}

std::string probe_advice(const chorus::failure &why, std::string_view stage, const std::string &url,
                         const std::vector<std::string> &certificate_names) {
  using chorus::remedy;
  const auto told = chorus::explain(why);
  const auto mark = url.find("://");
  const auto scheme = url.substr(0, mark);
  const auto rest = mark == url.npos ? std::string() : url.substr(mark);
  const auto port = rest.substr(0, rest.find_first_of("/?", 3));
  switch (told.remedy) {
  case remedy::check_name:
    return "check the spelling of the name, and the DNS of this machine (getent hosts NAME asks "
           "it)";
  case remedy::start_server:
    return "check that the server runs, and that it listens at this address and port (ss -ltn on "
           "its "
           "machine tells)";
  case remedy::check_network:
    return "check that the host is up and that no firewall drops the packets; --timeout waits "
           "longer";
  case remedy::use_plain_scheme:
    return "there is no TLS on this port: probe " + std::string(scheme == "wss" ? "ws" : "tcp") +
           rest + ", or find the server's TLS port";
  case remedy::use_other_scheme:
    if (scheme == "ws")
      return "if the port speaks TLS, probe wss" + rest + "; if framed TCP, tcp" + port +
             "; otherwise look at the server: it took the connection and gave no answer to the "
             "upgrade";
    if (scheme == "wss" && told.where == chorus::stage::upgrade)
      return "TLS works, so look behind it: the path, or the server that the TLS end passes on to";
    if (scheme == "wss" || scheme == "tls")
      return "check that this port speaks TLS: probe " +
             std::string(scheme == "wss" ? "ws" : "tcp") + rest + " to see whether it does without";
    break;
  case remedy::trust_authority:
    return "give the certificate of its authority with --ca FILE; --insecure accepts any "
           "certificate, "
           "for tests only";
  case remedy::use_certificate_name: {
    std::string names;
    for (const auto &n : certificate_names)
      names += (names.empty() ? "" : ", ") + n;
    return "connect by a name that the certificate holds" +
           (names.empty() ? std::string() : " (" + names + ")") +
           ", or have one issued for this name; --insecure accepts it, for tests only";
  }
  case remedy::give_certificate:
    return "give a certificate of this side with --tls-cert and --tls-key";
  case remedy::renew_certificate:
    return "renew the server's certificate, or set this machine's clock right";
  case remedy::give_credentials:
    return "give credentials, as in --header 'Authorization: Bearer TOKEN', or user:password@ "
           "before the "
           "host";
  case remedy::check_permission:
    return "check the credentials; a server that compares origins wants --header 'Origin: "
           "https://...'";
  case remedy::check_path:
    return told.hint.empty() ? "check the path of the URL" : told.hint;
  case remedy::proxy_credentials:
    return told.hint + " (--proxy URL)";
  default:
    break;
  }
  const auto usual = advice_of(why);
  return usual.empty() ? general_advice(why, stage) : usual;
}

} // namespace cli
