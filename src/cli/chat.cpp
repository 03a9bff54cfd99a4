#include "chat.hpp"

#include "chat_text.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <random>

namespace cli {

namespace json = boost::json;
using chorus::message;
using chorus::task;
using std::chrono::system_clock;

namespace {

struct person {
  std::string id;
  std::string name;
};

json::object envelope(std::string_view type) {
  json::object o;
  o["type"] = type;
  o["timestamp"] = iso_time(system_clock::now());
  return o;
}

json::object about(std::string_view type, const person &who) {
  auto o = envelope(type);
  o["user_id"] = who.id;
  o["username"] = who.name;
  return o;
}

message packed(const json::object &o) { return message(json::serialize(o)); }

json::object error_of(std::string_view code, std::string_view sentence) {
  auto o = envelope("error");
  o["code"] = code;
  o["message"] = sentence;
  return o;
}

// Unlike any other message's, of this run of the program or of another.
std::string fresh_id() {
  static const std::string prefix = [] {
    std::random_device random;
    char text[24];
    std::snprintf(text, sizeof text, "%08x%08x-", static_cast<unsigned>(random()),
                  static_cast<unsigned>(random()));
    return std::string(text);
  }();
  static std::atomic<std::uint64_t> last{0};
  return prefix + std::to_string(++last);
}

constexpr std::string_view room_prefix = "chat/";
// What may grow old is no part of the history.
constexpr std::chrono::seconds typing_life(3);

} // namespace

namespace detail {

struct chat_room {
  const std::string name;
  const chorus::room live;
  // Of the owner's table, under its lock.
  std::size_t visits = 0;
};

} // namespace detail

namespace {

// --- presence, as the rooms keep it; the member data is {"username":"…"}

person person_of(const chorus::presence_entry &e) {
  person who{e.user, {}};
  boost::json::error_code ec;
  const auto data = json::parse(e.data, ec);
  if (const auto *o = data.if_object(); !ec && o)
    if (const auto *name = o->if_contains("username"); name && name->is_string())
      who.name = name->get_string();
  return who;
}

message joined_text(const chorus::presence_event &event, std::size_t most) {
  auto o = about("joined", person_of(event.who));
  o["room"] = event.room.substr(room_prefix.size());
  std::vector<const chorus::presence_entry *> listed;
  for (const auto &e : event.everybody)
    listed.push_back(&e);
  const auto by_id = [](const auto *x, const auto *y) { return x->user < y->user; };
  const auto count = std::min(most, listed.size());
  const auto middle = listed.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(listed.begin(), middle, listed.end(), by_id);
  // Of a crowd the newcomer is shown in any case.
  if (count != 0 && listed[count - 1]->user < event.who.user)
    listed[count - 1] = &event.who;
  json::array users;
  for (auto at = listed.begin(); at != middle; ++at) {
    const auto who = person_of(**at);
    users.push_back({{"user_id", who.id}, {"username", who.name}});
  }
  o["users"] = std::move(users);
  o["users_count"] = event.present;
  return packed(o);
}

message presence_message(const chorus::presence_event &event, std::size_t users_listed) {
  using chorus::presence_change;
  switch (event.what) {
  case presence_change::list:
    return joined_text(event, users_listed);
  case presence_change::left:
    return packed(about("user_left", person_of(event.who)));
  case presence_change::changed: // another name
  case presence_change::joined:
    break;
  }
  return packed(about("user_joined", person_of(event.who)));
}

message welcome(std::string_view room, std::size_t others) {
  auto o = envelope("system");
  o["code"] = "welcome";
  o["message"] = "Welcome to " + std::string(room) +
                 (others == 0   ? ". Nobody else is here yet."
                  : others == 1 ? ". One other person is here."
                                : ". " + std::to_string(others) + " others are here.");
  return packed(o);
}

} // namespace

// One connection's stay.
class chat_visit {
public:
  chat_visit(chat &owner, std::shared_ptr<detail::chat_room> room, person who) noexcept
      : owner_(owner), room_(std::move(room)), who_(std::move(who)) {}
  chat_visit(const chat_visit &) = delete;
  chat_visit &operator=(const chat_visit &) = delete;
  ~chat_visit() {
    seat_.leave();
    owner_.left(room_);
  }

  void take(chorus::seat seat) noexcept { seat_ = std::move(seat); }
  // Takes one message of the peer and returns the answer for it alone, if there is one.
  json::object hear(const message &m, const chat_options &options, chorus::session_id self);

private:
  json::object say(const json::object &o, const chat_options &options);

  chat &owner_;
  std::shared_ptr<detail::chat_room> room_;
  chorus::seat seat_;
  const person who_;
};

namespace {

std::string_view text_of(const json::object &o, std::string_view name) noexcept {
  const auto *v = o.if_contains(name);
  return v && v->is_string() ? std::string_view(v->get_string()) : std::string_view{};
}

} // namespace

json::object chat_visit::hear(const message &m, const chat_options &options,
                              chorus::session_id self) {
  if (m.size() > options.max_text)
    return error_of("too_long", "A message to the chat has at most " +
                                    std::to_string(options.max_text) + " bytes of JSON.");
  if (!m.is_text())
    return error_of("bad_json", "The chat takes text messages, not binary ones.");
  const auto parsed = chorus::to_json(m);
  if (!parsed)
    return error_of("bad_json", "This is " + parsed.error().message() + ".");
  if (!parsed->is_object())
    return error_of("bad_json", "A message to the chat is a JSON object.");
  const auto &o = parsed->get_object();
  const auto type = text_of(o, "type");
  if (type == "message")
    return say(o, options);
  if (type == "typing") {
    auto out = about("typing", who_);
    const auto *on = o.if_contains("is_typing");
    out["is_typing"] = !(on && on->is_bool() && !on->get_bool());
    seat_.publish(packed(out), {.except = self, .time_to_live = typing_life});
    return {};
  }
  if (type == "ping") {
    auto out = envelope("pong");
    if (const auto *id = o.if_contains("id");
        id && (id->is_number() || (id->is_string() && id->get_string().size() <= options.max_ref)))
      out["id"] = *id;
    return out;
  }
  if (type.empty())
    return error_of("bad_type", "A message to the chat names its type: message, typing or ping.");
  return error_of("bad_type",
                  "The chat does not know this type; it takes message, typing and ping.");
}

json::object chat_visit::say(const json::object &o, const chat_options &options) {
  const auto ref = text_of(o, "ref");
  const auto refuse = [&](std::string_view code, const std::string &sentence) {
    auto e = error_of(code, sentence);
    if (!ref.empty() && ref.size() <= options.max_ref)
      e["ref"] = ref;
    return e;
  };
  const auto text = text_of(o, "message");
  if (is_blank(text))
    return refuse("no_message", "There is nothing in the member `message`; it is the text to say.");
  if (const auto length = characters(text); !length || *length > options.max_message)
    return refuse("too_long", "The text has more than " + std::to_string(options.max_message) +
                                  " characters; send it in parts.");
  if (ref.size() > options.max_ref)
    return error_of("too_long",
                    "A `ref` has at most " + std::to_string(options.max_ref) + " bytes.");
  if (options.broker && options.when_away == chorus::away_policy::refuse &&
      !options.broker->status().connected)
    return refuse("not_sent",
                  "The servers of this chat can't reach each other now, so nobody got this; "
                  "say it again in a moment.");
  auto out = about("message", who_);
  out["room"] = room_->name;
  out["message"] = text;
  if (!ref.empty())
    out["ref"] = ref;
  out["id"] = fresh_id();
  seat_.publish(packed(out));
  return {};
}

chat::chat(chorus::server &srv, chat_options options) : server_(srv), options_(options) {}
chat::~chat() = default;

chorus::room_options chat::options_of_room(std::string_view name, const chat_options &options) {
  chorus::room_options made;
  if (name.starts_with(room_prefix)) {
    made.history_messages = options.history_messages;
    made.history_bytes = std::size_t{512} << 10;
    made.history_linger = std::chrono::minutes(30);
    made.presence = true;
    made.presence_grace = options.presence_grace;
    made.when_away = options.when_away;
    made.presence_message = [most = options.users_listed](const chorus::presence_event &event) {
      return presence_message(event, most);
    };
  }
  return made;
}

std::shared_ptr<detail::chat_room> chat::enter(const std::string &name) {
  const std::lock_guard lock(guard_);
  auto &at = rooms_[name];
  if (!at)
    at = std::make_shared<detail::chat_room>(
        detail::chat_room{name, server_.room(std::string(room_prefix) + name)});
  ++at->visits;
  return at;
}

void chat::left(const std::shared_ptr<detail::chat_room> &room) noexcept {
  const std::lock_guard lock(guard_);
  if (--room->visits == 0)
    rooms_.erase(room->name);
}

task<std::vector<chat_room_summary>> chat::rooms(std::size_t limit) const {
  const auto fullest_first = [](const auto &a, const auto &b) {
    return a.users != b.users ? a.users > b.users : a.name < b.name;
  };
  std::vector<chat_room_summary> all;
  {
    const std::lock_guard lock(guard_);
    for (const auto &[name, room] : rooms_)
      all.push_back({name, room->live.size()});
  }
  // Chosen by connections, which cost nothing to know; users are asked for.
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
  std::partial_sort(all.begin(), middle, all.end(), fullest_first);
  all.erase(middle, all.end());
  for (auto &one : all) {
    const auto live = server_.room(std::string(room_prefix) + one.name);
    const auto present = co_await live.presence();
    one.users = present.size();
    one.stats = live.stats();
  }
  std::sort(all.begin(), all.end(), fullest_first);
  co_return all;
}

namespace {

bool is_user_id(std::string_view id, std::size_t most) noexcept {
  return !id.empty() && id.size() <= most && is_word(id, "._-@:");
}

// Why this visitor can't be let in; empty when nothing speaks against it.
std::string complaint(std::string_view room, std::string_view id, std::string_view name,
                      const chat_options &options) {
  if (room.empty() || room.size() > options.max_room || !is_word(room, "._-"))
    return "A room's name is 1 to " + std::to_string(options.max_room) +
           " letters, digits, '.', '_' and '-'.";
  if (!is_user_id(id, options.max_user_id))
    return "The query needs a user_id of 1 to " + std::to_string(options.max_user_id) +
           " letters, digits, '.', '_', '-', '@' and ':'.";
  const auto length = characters(name);
  if (!length || is_blank(name) || *length > options.max_username || has_control(name))
    return "The query needs a username of 1 to " + std::to_string(options.max_username) +
           " characters.";
  return {};
}

} // namespace

task<chorus::admission> chat::name_user(chorus::request r) {
  const auto id = r.query_param("user_id");
  // What is none gets to hear so from `serve`.
  const bool usable = is_user_id(id, chat_options{}.max_user_id);
  co_return chorus::admission::accept(usable ? std::string(id) : std::string());
}

task<> chat::serve(chorus::session s, chorus::request r) {
  const std::string room_name(r.param("room"));
  person who{std::string(r.query_param("user_id")), std::string(r.query_param("username"))};
  r = {};
  if (const auto why = complaint(room_name, who.id, who.name, options_); !why.empty()) {
    auto told = packed(error_of("refused", why));
    co_await s.send(std::move(told));
    co_await s.close(chorus::close_code::policy_violation, why);
    co_return;
  }

  const auto room = enter(room_name);
  const auto data = json::serialize(json::object{{"username", who.name}});
  chat_visit visit(*this, room, who);
  // Who comes back under the resume protocol gets what it missed instead.
  auto live = room->live;
  auto seat =
      co_await live.join(s, {.history = options_.history_messages, .user = who.id, .data = data});
  if (!seat) {
    // As when the engine that servers share is away: later, or on another one, it may go.
    const auto sentence = seat.error().message();
    co_await s.close(chorus::close_code::try_again_later, sentence);
    co_return;
  }
  visit.take(std::move(*seat));
  // The answer comes behind the list, which is the newcomer's `joined`.
  const auto present = co_await live.presence();
  const auto others = std::count_if(present.begin(), present.end(),
                                    [&](const auto &e) { return e.user != who.id; });
  auto greeting = welcome(room_name, static_cast<std::size_t>(others));
  co_await s.send(std::move(greeting));
  while (auto m = co_await s.receive()) {
    const auto answer = visit.hear(*m, options_, s.id());
    if (answer.empty())
      continue;
    auto text = packed(answer);
    co_await s.send(std::move(text));
  }
}

} // namespace cli
