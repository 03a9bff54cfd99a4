#include "live_room.hpp"

#include "chat_text.hpp"
#include "values.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <chrono>
#include <string>
#include <utility>

namespace cli {

namespace {

using chorus::message;
using chorus::task;
using namespace std::chrono_literals;

constexpr std::string_view prefix = "live/";
constexpr std::size_t kept_messages = 10'000;
constexpr std::size_t longest_name = 64;
constexpr std::size_t longest_ref = 64;
// A message whose copies are not with the kernel by then has an outcome nobody knows yet.
constexpr auto patience = 30s;

// What names a message in its confirmation: its first line, unless that is long.
std::string ref_of(const message &m) {
  if (!m.is_text())
    return {};
  const auto line = m.text().substr(0, m.text().find('\n'));
  return line.size() <= longest_ref ? std::string(line) : std::string();
}

// What became of a message, by what became of the copies. Its sender is a member, so there is one that
// tells: a room that keeps history drops no member's copy, unless nobody gets any.
message confirmation(const std::string &ref, const chorus::broadcast_report &report) {
  boost::json::object o{{"ref", ref}};
  const chorus::member_delivery *dropped = nullptr;
  for (const auto &one : report.members)
    if (one.outcome == chorus::delivery::dropped)
      dropped = &one;
  if (report.delivered != 0) {
    o["outcome"] = "accepted";
  } else if (dropped && dropped->why != chorus::error::unconfirmed) {
    o["outcome"] = "refused";
    o["why"] = dropped->why.message();
  } else {
    o["outcome"] = "unknown";
    if (dropped)
      o["why"] = dropped->why.message();
  }
  return message(boost::json::serialize(o));
}

// One after the other, so that what a peer sends faster is read later.
task<> confirm_each(chorus::seat &seat, chorus::session &s) {
  while (auto m = co_await s.receive()) {
    const auto ref = ref_of(*m);
    const auto report = co_await seat.broadcast(std::move(*m), {.deadline = patience});
    auto said = confirmation(ref, report);
    co_await s.send(std::move(said));
  }
}

task<> live(chorus::server &srv, chorus::session s, chorus::request r) {
  const std::string name(r.param("room"));
  const bool confirms = r.query_param("confirm") == "1";
  const auto history = parse_number(r.query_param("history")).value_or(0);
  r = {};
  if (name.empty() || name.size() > longest_name || !is_word(name, "._-")) {
    co_await s.close(chorus::close_code::policy_violation,
                     "a room's name is 1 to 64 letters, digits, '.', '_' and '-'");
    co_return;
  }
  auto room = srv.room(std::string(prefix) + name);
  auto seat = co_await room.join(s, {.history = static_cast<std::size_t>(history)});
  if (!seat) {
    // Perhaps another node can.
    const auto why = seat.error().message();
    co_await s.close(chorus::close_code::try_again_later, why);
    co_return;
  }
  if (confirms) {
    co_await confirm_each(*seat, s);
    co_return;
  }
  while (auto m = co_await s.receive())
    seat->publish(std::move(*m));
}

} // namespace

bool is_live_room(std::string_view name) noexcept { return name.starts_with(prefix); }

chorus::room_options options_of_live_room(chorus::away_policy when_away) {
  chorus::room_options made;
  made.history_messages = kept_messages;
  made.history_bytes = std::size_t{4} << 20;
  made.history_linger = std::chrono::minutes(30);
  made.when_away = when_away;
  return made;
}

void add_live_rooms(chorus::server &srv) {
  srv.route("/ws/room/{room}", [&srv](chorus::session s, chorus::request r) {
    return live(srv, std::move(s), std::move(r));
  });
}

} // namespace cli
