#include "script_run.hpp"

#include "reach_options.hpp"
#include "script_kinds.hpp"
#include "script_names.hpp"
#include "script_within.hpp"
#include "values.hpp"

#include <chorus/base/url.hpp>
#include <chorus/json/json.hpp>
#include <chorus/protocol/utf8.hpp>

#include <boost/json/array.hpp>

#include <array>

namespace cli::script {

namespace json = boost::json;
using chorus::task;
using namespace std::chrono_literals;

namespace {

// Without a password, and without the query, which may hold a token under any name.
std::string public_url(const std::string &url) {
  const auto out = without_secrets(url);
  return out.substr(0, out.find('?'));
}

std::string too_late(const char *what, std::chrono::milliseconds bound) {
  return std::string(what) + " within " + to_text(bound) + "; \"timeout\" sets how long to wait";
}

task<chorus::result<chorus::session>> open(const gate &g) {
  std::vector<std::pair<std::string, std::string>> texts;
  std::vector<std::string> protocols;
  chorus::connect_options options;
  chorus::tls_options tls;
  const auto given = [&](const char *name) { return g.arguments.if_contains(name); };
  // Shorter than the usual waits, so that these see how a connection ended whose peer sent its close
  // frame and stays.
  options.session.close_timeout = 2s;
  if (const auto *v = given("headers"))
    for (const auto &one : v->get_object())
      texts.emplace_back(std::string(one.key().data(), one.key().size()), text_of(one.value()));
  if (const auto *v = given("subprotocols")) {
    if (const auto *array = v->if_array())
      for (const auto &one : *array)
        protocols.push_back(text_of(one));
    else
      protocols.push_back(text_of(*v));
  }
  if (const auto *v = given("ca"))
    tls.ca_file = text_of(*v);
  if (const auto *v = given("tls_cert"))
    tls.certificate_file = text_of(*v);
  if (const auto *v = given("tls_key"))
    tls.key_file = text_of(*v);
  if (const auto *v = given("server_name"))
    tls.server_name = text_of(*v);
  if (const auto *v = given("insecure"); v && boolean_of(*v))
    tls.verify = chorus::tls_verify::insecure_accept_any_certificate;
  if (const auto *v = given("compression"))
    options.session.compression.enabled = boolean_of(*v);
  if (const auto *v = given("max_message"))
    options.session.max_message = size_of(*v);
  if (const auto *v = given("ping_interval")) {
    options.session.heartbeat.ping_interval = duration_of(*v);
    options.session.heartbeat.pong_wait = 2 * duration_of(*v);
  }
  if (const auto *v = given("framing"))
    options.session.frame = text_of(*v) == "lines" ? chorus::framing::lines
                            : text_of(*v) == "raw" ? chorus::framing::raw
                                                   : chorus::framing::length32;
  std::vector<chorus::header> headers;
  for (const auto &[name, value] : texts)
    headers.push_back({name, value});
  const std::vector<std::string_view> offered(protocols.begin(), protocols.end());
  options.headers = headers;
  options.subprotocols = offered;
  options.tls = &tls;
  options.proxy_from_environment = true;
  return chorus::connect(g.url, options); // copies all of it
}

json::object gate_result(const gate &g, bool connected) {
  json::object out;
  out["connected"] = connected;
  if (text_of(g.arguments.at("host")).find("://") != std::string::npos) {
    out["url"] = g.url;
  } else if (const auto url = chorus::url::parse(g.url)) {
    out["host"] = url->host();
    out["port"] = url->port();
  }
  out["type"] = g.websocket ? "websocket" : "tcp";
  if (connected && !g.session.subprotocol().empty())
    out["subprotocol"] = g.session.subprotocol();
  return out;
}

json::object refusal_result(const gate &g, const chorus::failure &why) {
  auto out = gate_result(g, false);
  out["error"] = sentence_of(why, wording::fields);
  if (why.detail().status != 0)
    out["status"] = why.detail().status;
  return out;
}

// Whether the connection failed as "fails" says.
bool foreseen(const std::string &wanted, status got) {
  static constexpr std::array<std::pair<std::string_view, status>, 4> names{
      {{"refused", status::refused},
       {"tls", status::tls},
       {"timeout", status::timeout},
       {"protocol", status::protocol}}};
  if (wanted == "any")
    return true;
  for (const auto &[name, code] : names)
    if (name == wanted)
      return code == got;
  return false;
}

} // namespace

outcome outcome::failed(status code, std::string why, json::value r, std::string n) {
  outcome out(std::move(r), std::move(n));
  out.code = code == status::ok ? status::failed : code;
  out.error = std::move(why);
  return out;
}

outcome outcome::failed(const chorus::failure &why, json::value r, std::string n) {
  return failed(status_of(why), sentence_of(why, wording::fields), std::move(r), std::move(n));
}

std::shared_ptr<gate> gate_of(const call &c, outcome &missing) {
  const auto name = c.text("connection", "main");
  auto g = c.where->find(name);
  // Without a session connect_gate has failed, and only another attempt is of use.
  if (g && (g->session || c.what->what->verb == verb::reconnect))
    return g;
  if (g) {
    missing = outcome::failed(status::failed, "the connection '" + name + "' was not opened");
    return nullptr;
  }
  std::vector<std::string_view> open;
  for (const auto &one : c.where->own)
    open.push_back(one.first);
  missing = outcome::failed(status::failed,
                            "the connection '" + name + "' is not open" + suggestion(name, open));
  return nullptr;
}

std::uint16_t close_code_of(const chorus::failure &end) {
  if (end == chorus::error::closed && code_of_peer(end) != 0)
    return code_of_peer(end);
  if (end == chorus::error::closed && end.detail().close_code != 0)
    return end.detail().close_code;
  return end == chorus::error::closed ? 1005 : 1006;
}

json::object end_of(const chorus::session &s) {
  const auto end = s.end();
  json::object out;
  out["code"] = close_code_of(end);
  out["reason"] = code_of_peer(end) != 0 ? reason_of_peer(end) : end.detail().close_reason;
  out["by_peer"] = end.detail().by_peer;
  out["how"] = sentence_of(end, wording::fields);
  return out;
}

json::object result_of(const chorus::message &m) {
  json::object out;
  out["type"] = m.is_text() ? "text" : "binary";
  out["size"] = m.size();
  if (m.is_text() || chorus::protocol::is_valid_utf8(m.bytes()))
    out["text"] = m.str();
  if (m.is_binary())
    out["hex"] = hex_of(m.text());
  return out;
}

task<outcome> connect_gate(call_ptr c) {
  auto g = std::make_shared<gate>();
  g->arguments = c->arguments;
  g->url = gate_url(c->arguments);
  const auto parsed = chorus::url::parse(g->url);
  g->websocket = parsed && parsed->is_websocket();
  const auto bound = c->duration("timeout", 10s);
  const auto name = c->text("connection", "main");
  const auto note = public_url(g->url);
  const auto wanted = c->text("fails");
  if (const auto old = c->where->own.find(name); old != c->where->own.end() && old->second->session)
    old->second->session.start_close();
  c->where->own.insert_or_assign(name, g);
  auto opened = co_await within(open(*g), bound);
  if (opened && *opened) {
    g->session = std::move(**opened);
    auto result = gate_result(*g, true);
    if (wanted.empty())
      co_return outcome(std::move(result), note);
    co_return outcome::failed(status::failed, "the connection was to fail, but was opened",
                              std::move(result), note);
  }
  const auto why = opened ? opened->error()
                          : chorus::failure(chorus::error::connect_timeout, chorus::stage::connect,
                                            too_late("no connection", bound));
  auto result = refusal_result(*g, why);
  if (!wanted.empty() && foreseen(wanted, status_of(why)))
    co_return outcome(std::move(result), note);
  co_return outcome::failed(why, std::move(result), note);
}

task<outcome> reconnect(call_ptr c) {
  outcome missing;
  auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  auto bound = c->duration("timeout", 0ms);
  if (!c->has("timeout")) {
    const auto *usual = g->arguments.if_contains("timeout");
    bound = usual ? duration_of(*usual) : 10s;
  }
  const auto attempts = c->integer("attempts", 1);
  const auto delay = c->duration("delay", 500ms);
  const auto note = public_url(g->url);
  if (g->session.is_open()) {
    const auto closed = co_await within(g->session.close(), 2s);
    if (!closed)
      g->session.abort();
  }
  chorus::failure why;
  for (std::int64_t i = 1; i <= attempts; ++i) {
    auto opened = co_await within(open(*g), bound);
    if (opened && *opened) {
      g->session = std::move(**opened);
      auto result = gate_result(*g, true);
      result["attempts"] = i;
      co_return outcome(std::move(result), note);
    }
    why = opened ? opened->error()
                 : chorus::failure(chorus::error::connect_timeout, chorus::stage::connect,
                                   too_late("no connection", bound));
    if (i != attempts)
      co_await chorus::sleep(delay);
  }
  auto result = refusal_result(*g, why);
  result["attempts"] = attempts;
  co_return outcome::failed(why, std::move(result), note);
}

// To the kernel, so that a step that went well was sent whatever the next one does.
task<chorus::result<>> deliver(chorus::session to, chorus::message m) {
  auto sent = co_await to.send(std::move(m));
  if (sent)
    sent = co_await to.flush();
  co_return sent;
}

task<outcome> send(call_ptr c) {
  outcome missing;
  const auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  const auto bound = c->duration("timeout", 5s);
  std::string payload;
  auto kind = chorus::message_kind::text;
  if (c->has("hex")) {
    payload = bytes_of_hex(c->text("hex")).value_or(std::string());
    kind = chorus::message_kind::binary;
  } else if (const auto *value = c->find("json")) {
    payload = chorus::json_text(*value);
  } else {
    payload = c->text("text");
  }
  const auto note = shown(kind == chorus::message_kind::text ? payload : hex_of(payload));
  json::object result;
  result["type"] = kind == chorus::message_kind::text ? "text" : "binary";
  result["bytes"] = payload.size();
  chorus::message m(kind, payload.data(), payload.size());
  auto work = deliver(g->session, std::move(m));
  const auto sent = co_await within(std::move(work), bound);
  if (sent && !*sent)
    co_return outcome::failed(sent->error(), std::move(result), note);
  if (sent)
    co_return outcome(std::move(result), note);
  co_return outcome::failed(status::timeout, too_late("the peer did not take the message", bound),
                            std::move(result), note);
}

task<outcome> receive(call_ptr c) {
  outcome missing;
  const auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  const auto bound = c->duration("timeout", 5s);
  auto got = co_await within(g->session.receive(), bound);
  if (!got)
    co_return outcome::failed(status::timeout, too_late("no message came", bound));
  if (!*got)
    co_return outcome::failed(got->error(), end_of(g->session));
  const chorus::message m = std::move(**got);
  auto result = result_of(m);
  const auto note = shown(result.contains("text") ? m.text() : hex_of(m.text()));
  const auto as = c->text("as");
  if (as == "text" && !result.contains("text"))
    co_return outcome::failed(status::failed,
                              "the message is no text: " + hex_of(m.text().substr(0, 100)),
                              std::move(result), note);
  if (as == "hex")
    result["hex"] = hex_of(m.text());
  if (as == "json") {
    auto parsed = chorus::to_json(m, {.max_depth = 64, .max_bytes = 0});
    if (!parsed)
      co_return outcome::failed(status::failed, parsed.error().message() + ": " + note,
                                std::move(result), note);
    result["json"] = std::move(*parsed);
  }
  co_return outcome(std::move(result), note);
}

task<outcome> ping(call_ptr c) {
  outcome missing;
  const auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  const auto bound = c->duration("timeout", 5s);
  if (!g->websocket)
    co_return outcome::failed(status::failed, "only WebSocket has pings, and " +
                                                  public_url(g->url) + " is framed TCP");
  const auto trip = co_await within(g->session.ping(bound.count() == 0 ? 24h : bound), 0ms);
  if (!*trip && trip->error() == chorus::error::timed_out)
    co_return outcome::failed(status::timeout, too_late("no pong came", bound));
  if (!*trip)
    co_return outcome::failed(trip->error());
  json::object result;
  result["round_trip_ms"] = std::chrono::duration<double, std::milli>(**trip).count();
  co_return outcome(std::move(result));
}

task<outcome> close(call_ptr c) {
  outcome missing;
  const auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  const auto bound = c->duration("timeout", 5s);
  const auto code = static_cast<chorus::close_code>(c->integer("code", 1000));
  const auto reason = c->text("reason");
  auto note = std::to_string(static_cast<unsigned>(code));
  const auto done = co_await within(g->session.close(code, reason), bound);
  if (!done) {
    g->session.abort();
    co_return outcome::failed(status::timeout, too_late("the peer did not answer the close", bound),
                              {}, std::move(note));
  }
  auto result = end_of(g->session);
  if (!*done)
    co_return outcome::failed(done->error(), std::move(result), std::move(note));
  co_return outcome(std::move(result), std::move(note));
}

task<outcome> wait_closed(call_ptr c) {
  outcome missing;
  const auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  const auto bound = c->duration("timeout", 5s);
  const auto end = co_await within(g->session.wait_closed(), bound);
  if (!end)
    co_return outcome::failed(status::timeout, too_late("the connection did not end", bound));
  auto result = end_of(g->session);
  const auto code = close_code_of(*end);
  auto note = std::to_string(code);
  if (c->has("code") && c->integer("code", 0) != code)
    co_return outcome::failed(status::failed,
                              "expected the close code " + c->text("code") + ", got " + note +
                                  ": " + sentence_of(*end, wording::fields),
                              std::move(result), note);
  co_return outcome(std::move(result), std::move(note));
}

} // namespace cli::script
