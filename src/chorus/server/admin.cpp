#include <chorus/server/admin.hpp>

#include <chorus/protocol/close_code.hpp>
#include <chorus/protocol/header_text.hpp>
#include <chorus/protocol/utf8.hpp>
#include <chorus/server/census.hpp>
#include <chorus/server/http.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/json_pages.hpp>
#include <chorus/server/server_core.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <chrono>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace chorus::detail {

namespace {

namespace json = boost::json;

constexpr std::uint64_t usual_limit = 1000;
constexpr std::uint64_t highest_limit = 10'000;

struct admin_setup {
  std::weak_ptr<server_core> core; // which owns the routes that own this
  std::string token;
};
using shared_setup = std::shared_ptr<const admin_setup>;
using admin_page = task<response> (*)(shared_setup, request);

bool is_text(std::string_view bytes) noexcept {
  return protocol::is_valid_utf8(std::as_bytes(std::span(bytes)));
}

// Room names and headers are bytes; JSON is text.
json::string text_of(std::string_view bytes) {
  json::string text(bytes);
  if (!is_text(bytes))
    std::replace_if(
        text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; }, '?');
  return text;
}

response json_error(unsigned status, std::string_view sentence) {
  json::object told;
  told["error"] = sentence;
  return json_response(told, status);
}

response unknown_room() { return json_error(404, "There is no such room."); }
response going_down() { return json_error(503, "The server is going down."); }

double seconds(std::chrono::nanoseconds d) { return std::chrono::duration<double>(d).count(); }

// What is told of a session wherever one is listed.
json::object describe(const session &s) {
  json::object told;
  told["id"] = s.id();
  told["address"] = text_of(s.remote_address());
  return told;
}

json::object describe_connection(const open_connection &one) {
  auto told = describe(one.handle);
  const auto stats = one.handle.stats();
  told["user_agent"] = text_of(one.asked.header("User-Agent"));
  told["path"] = text_of(one.asked.path()); // not the query, where tokens may stand
  told["subprotocol"] = text_of(one.handle.subprotocol());
  told["uptime_seconds"] = seconds(one.handle.uptime());
  told["messages_received"] = stats.messages_received;
  told["messages_sent"] = stats.messages_sent;
  told["messages_dropped"] = stats.messages_dropped;
  told["bytes_received"] = stats.bytes_received;
  told["bytes_sent"] = stats.bytes_sent;
  told["queued_messages"] = stats.queued_messages;
  told["queued_bytes"] = stats.queued_bytes;
  told["round_trip_seconds"] = seconds(stats.last_round_trip);
  return told;
}

// How many are listed: the query's `limit`.
std::uint64_t limit_of(const request &r) {
  return std::min(r.query_uint("limit").value_or(usual_limit), highest_limit);
}

task<response> list_rooms(shared_setup setup, request r) {
  const auto core = setup->core.lock();
  if (!core)
    co_return going_down();
  auto rooms = core->setup()->rooms->list();
  const std::string after(r.query_param("after"));
  const bool all = !r.has_query("after");
  std::sort(rooms.begin(), rooms.end(),
            [](const auto &a, const auto &b) { return a.name() < b.name(); });
  json::array listed;
  for (const auto &one : rooms) {
    if (!all && one.name() <= after)
      continue;
    if (listed.size() >= limit_of(r))
      break;
    json::object told;
    told["name"] = text_of(one.name());
    told["count"] = one.size();
    listed.push_back(std::move(told));
  }
  json::object answer;
  answer["total"] = rooms.size();
  answer["rooms"] = std::move(listed);
  co_return json_response(answer);
}

task<response> list_users(shared_setup setup, request r) {
  chorus::room where;
  if (const auto core = setup->core.lock())
    where = core->setup()->rooms->find(r.param("room"));
  if (!where)
    co_return unknown_room();
  auto ids = co_await where.members();
  const auto core = setup->core.lock();
  if (!core)
    co_return going_down();
  std::unordered_map<session_id, session> open;
  for (auto &s : core->sessions())
    open.emplace(s.id(), std::move(s));
  std::sort(ids.begin(), ids.end());
  const auto after = r.query_uint("after").value_or(0);
  json::array listed;
  for (auto at = std::upper_bound(ids.begin(), ids.end(), after);
       at != ids.end() && listed.size() < limit_of(r); ++at)
    if (const auto found = open.find(*at); found != open.end()) // else gone meanwhile
      listed.push_back(describe(found->second));
  json::object answer;
  answer["room"] = text_of(where.name());
  answer["count"] = ids.size();
  answer["users"] = std::move(listed);
  co_return json_response(answer);
}

task<response> publish_body(shared_setup setup, request r) {
  chorus::room where;
  if (const auto core = setup->core.lock())
    where = core->setup()->rooms->find(r.param("room"));
  if (!where)
    co_return unknown_room();
  const bool binary =
      protocol::detail::equal_ignoring_case(r.header("Content-Type"), "application/octet-stream");
  if (!binary && !is_text(r.body()))
    co_return json_error(400,
                         "The body is not UTF-8; say Content-Type: application/octet-stream to "
                         "send it as a binary message.");
  json::object answer;
  answer["room"] = text_of(where.name());
  answer["count"] = where.size();
  where.publish(binary ? chorus::binary(r.body()) : chorus::text(r.body()));
  co_return json_response(answer, 202);
}

task<response> list_connections(shared_setup setup, request r) {
  const auto core = setup->core.lock();
  if (!core)
    co_return going_down();
  auto open = core->connections();
  std::sort(open.begin(), open.end(),
            [](const auto &a, const auto &b) { return a.handle.id() < b.handle.id(); });
  const auto after = r.query_uint("after").value_or(0);
  json::array listed;
  for (const auto &one : open) {
    if (one.handle.id() <= after)
      continue;
    if (listed.size() >= limit_of(r))
      break;
    listed.push_back(describe_connection(one));
  }
  json::object answer;
  answer["total"] = open.size();
  answer["connections"] = std::move(listed);
  co_return json_response(answer);
}

task<response> close_connection(shared_setup setup, request r) {
  const auto core = setup->core.lock();
  if (!core)
    co_return going_down();
  auto code = static_cast<std::uint64_t>(close_code::policy_violation);
  if (r.has_query("code")) {
    const auto asked = r.query_uint("code");
    if (!asked || *asked > 0xffff || !protocol::valid_on_wire(static_cast<std::uint16_t>(*asked)))
      co_return json_error(400,
                           "The code is none that a close frame may carry: 1000 to 1003, 1007 to "
                           "1014 and 3000 to 4999 (RFC 6455 section 7.4.2).");
    code = *asked;
  }
  const auto id = r.param_uint("id");
  for (auto &s : core->sessions()) {
    if (s.id() != id)
      continue;
    s.start_close(static_cast<close_code>(code), r.query_param("reason"));
    json::object answer;
    answer["id"] = s.id();
    answer["code"] = code;
    co_return json_response(answer, 202);
  }
  co_return json_error(404, "There is no such connection.");
}

task<response> show_broker(shared_setup setup, request) {
  const auto core = setup->core.lock();
  if (!core)
    co_return going_down();
  const auto e = engine_census(*core);
  if (!e.any)
    co_return json_error(404, "This server has no broker.");
  json::object answer;
  answer["connected"] = !e.state.away;
  if (e.state.away) {
    answer["why"] = text_of(e.state.why);
    answer["away_for_seconds"] = seconds(e.state.away_for);
  }
  answer["away_seconds"] = seconds(e.state.away_in_all);
  answer["connects"] = e.stats.connects;
  answer["disconnects"] = e.stats.disconnects;
  answer["commands"] = e.stats.commands;
  answer["received"] = e.stats.received;
  answer["looked_up"] = e.stats.looked_up;
  answer["calls_refused"] = e.stats.refused;
  answer["gaps"] = e.stats.gaps;
  answer["unreadable"] = e.stats.unreadable;
  answer["calls"] = e.stats.waiting;
  answer["lag_seconds"] = seconds(e.stats.lag);
  json::object messages;
  messages["refused"] = e.refused;
  messages["waited"] = e.waited;
  messages["unnumbered"] = e.unnumbered;
  messages["unconfirmed"] = e.unconfirmed;
  messages["replayed"] = e.replayed;
  messages["waiting"] = e.waiting;
  messages["waiting_bytes"] = e.waiting_bytes;
  answer["messages"] = std::move(messages);
  answer["degraded_rooms"] = e.degraded_rooms;
  answer["degraded_seconds"] = seconds(e.degraded);
  co_return json_response(answer);
}

bool authorized(const admin_setup &setup, const http_head &head) {
  constexpr std::string_view scheme = "Bearer ";
  const auto given = head.find("Authorization");
  if (head.count("Authorization") != 1 ||
      !protocol::detail::equal_ignoring_case(given.substr(0, scheme.size()), scheme))
    return false;
  return same_secret(protocol::detail::trimmed(given.substr(scheme.size())), setup.token);
}

// Before the body: who has no token shall not have a body kept for it.
std::optional<response> turn_away(const admin_setup &setup, const http_head &head) {
  if (authorized(setup, head))
    return std::nullopt;
  auto told = json_error(401, "This needs the header Authorization: Bearer with the admin token.");
  told.set("WWW-Authenticate", "Bearer realm=\"chorus\"");
  return told;
}

task<response> uncached(shared_setup setup, request r, admin_page page) {
  auto answer = co_await page(std::move(setup), std::move(r));
  answer.set("Cache-Control", "no-store");
  co_return answer;
}

} // namespace

bool same_secret(std::string_view given, std::string_view secret) noexcept {
  volatile unsigned char difference = given.size() == secret.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto other = secret.empty() ? '\0' : secret[i % secret.size()];
    difference = difference | static_cast<unsigned char>(given[i] ^ other);
  }
  return difference == 0 && !secret.empty();
}

void add_admin(router &into, std::string_view prefix, std::weak_ptr<server_core> core,
               admin_options options) {
  if (options.token.empty())
    throw std::invalid_argument("chorus: admin_options::token is empty; without a token anybody "
                                "could close every connection");
  if (std::any_of(options.token.begin(), options.token.end(),
                  [](char c) { return c < '!' || c > '~'; }))
    throw std::invalid_argument("chorus: admin_options::token has a blank or a character besides "
                                "ASCII, which no Authorization header can carry");
  auto made = std::make_shared<admin_setup>();
  made->core = std::move(core);
  made->token = std::move(options.token);
  const shared_setup setup = std::move(made);
  const page_guard guard = [setup](const http_head &head) { return turn_away(*setup, head); };
  router part;
  const auto add = [&](std::string_view pattern, std::string_view method, admin_page page) {
    part.add(
        pattern, method, [setup, page](request r) { return uncached(setup, std::move(r), page); },
        guard);
  };
  add("/rooms", "GET", list_rooms);
  add("/rooms/{room}/users", "GET", list_users);
  add("/rooms/{room}/broadcast", "POST", publish_body);
  add("/broker", "GET", show_broker);
  add("/connections", "GET", list_connections);
  add("/connections/{id:uint}", "DELETE", close_connection);
  into.absorb(prefix, std::move(part));
}

} // namespace chorus::detail
