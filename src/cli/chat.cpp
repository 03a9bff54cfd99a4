#include "chat.hpp"

#include "chat_text.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
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
// A notice is no part of the history: only what may not grow old is kept there.
constexpr std::chrono::seconds notice_life(30);
constexpr std::chrono::seconds typing_life(3);

} // namespace

namespace detail {

// What the chat knows of one room besides its connections and its history: who is there.
class chat_room {
public:
  chat_room(std::string_view name, chorus::room live, const chat_options &options)
      : name_(name), live_(std::move(live)), options_(options) {}

  const std::string &name() const noexcept { return name_; }
  chorus::room live() const noexcept { return live_; }

  // True for the first connection of this user. The name of the latest connection counts.
  bool add(const person &who) {
    const std::lock_guard lock(guard_);
    auto &at = users_[who.id];
    at.name = who.name;
    return ++at.connections == 1;
  }
  // True for the last connection.
  bool remove(const person &who) {
    const std::lock_guard lock(guard_);
    const auto at = users_.find(who.id);
    if (at == users_.end() || --at->second.connections > 0)
      return false;
    users_.erase(at);
    return true;
  }
  std::size_t users() const {
    const std::lock_guard lock(guard_);
    return users_.size();
  }
  json::object welcome() const {
    auto o = envelope("system");
    const auto others = users() - 1;
    o["message"] = "Welcome to " + name_ +
                   (others == 0   ? ". Nobody else is here yet."
                    : others == 1 ? ". One other person is here."
                                  : ". " + std::to_string(others) + " others are here.");
    return o;
  }
  json::object joined(const person &who) const {
    auto o = about("joined", who);
    o["room"] = name_;
    const std::lock_guard lock(guard_);
    json::array all;
    for (const auto &[id, at] : users_) {
      if (all.size() == options_.users_listed)
        break;
      all.push_back({{"user_id", id}, {"username", at.name}});
    }
    o["users"] = std::move(all);
    o["users_count"] = users_.size();
    return o;
  }

  // Of the owner's table, under its lock.
  std::size_t visits = 0;

private:
  struct presence {
    std::string name;
    std::size_t connections = 0;
  };

  const std::string name_;
  const chorus::room live_;
  const chat_options options_;
  mutable std::mutex guard_;
  std::map<std::string, presence, std::less<>> users_;
};

} // namespace detail

// One connection's stay. Whatever ends it, the others are told once and the table is right.
class chat_visit {
public:
  chat_visit(chat &owner, std::shared_ptr<detail::chat_room> room) noexcept
      : owner_(owner), room_(std::move(room)) {}
  chat_visit(const chat_visit &) = delete;
  chat_visit &operator=(const chat_visit &) = delete;
  ~chat_visit() {
    try {
      seat_.leave();
      if (here_ && room_->remove(who_))
        room_->live().publish(packed(about("user_left", who_)), {.time_to_live = notice_life});
    } catch (...) {
      // Out of memory: the others will see who is there when they join again.
    }
    owner_.left(room_);
  }

  void take(chorus::seat seat) noexcept { seat_ = std::move(seat); }
  void arrive(person who, chorus::session_id self) {
    who_ = std::move(who);
    here_ = true;
    if (room_->add(who_))
      seat_.publish(packed(about("user_joined", who_)),
                    {.except = self, .time_to_live = notice_life});
  }
  // Takes one message of the peer and returns the answer for it alone, if there is one.
  json::object hear(const message &m, const chat_options &options, chorus::session_id self);

private:
  json::object say(const json::object &o, const chat_options &options);

  chat &owner_;
  std::shared_ptr<detail::chat_room> room_;
  chorus::seat seat_;
  person who_;
  bool here_ = false;
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
  auto out = about("message", who_);
  out["room"] = room_->name();
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
  }
  return made;
}

std::shared_ptr<detail::chat_room> chat::enter(const std::string &name) {
  const std::lock_guard lock(guard_);
  auto &at = rooms_[name];
  if (!at)
    at = std::make_shared<detail::chat_room>(name, server_.room(std::string(room_prefix) + name),
                                             options_);
  ++at->visits;
  return at;
}

void chat::left(const std::shared_ptr<detail::chat_room> &room) {
  const std::lock_guard lock(guard_);
  if (--room->visits == 0)
    rooms_.erase(room->name());
}

std::vector<chat_room_summary> chat::rooms(std::size_t limit) const {
  std::vector<chat_room_summary> all;
  {
    const std::lock_guard lock(guard_);
    for (const auto &[name, room] : rooms_)
      all.push_back({name, room->users(), room->live().stats()});
  }
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
  std::partial_sort(all.begin(), middle, all.end(), [](const auto &a, const auto &b) {
    return a.users != b.users ? a.users > b.users : a.name < b.name;
  });
  all.erase(middle, all.end());
  return all;
}

namespace {

// Why this visitor can't be let in; empty when nothing speaks against it.
std::string complaint(std::string_view room, std::string_view id, std::string_view name,
                      const chat_options &options) {
  if (room.empty() || room.size() > options.max_room || !is_word(room, "._-"))
    return "A room's name is 1 to " + std::to_string(options.max_room) +
           " letters, digits, '.', '_' and '-'.";
  if (id.empty() || id.size() > options.max_user_id || !is_word(id, "._-@:"))
    return "The query needs a user_id of 1 to " + std::to_string(options.max_user_id) +
           " letters, digits, '.', '_', '-', '@' and ':'.";
  const auto length = characters(name);
  if (!length || is_blank(name) || *length > options.max_username || has_control(name))
    return "The query needs a username of 1 to " + std::to_string(options.max_username) +
           " characters.";
  return {};
}

} // namespace

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
  chat_visit visit(*this, room);
  // Who comes back under the resume protocol gets what it missed instead.
  auto seat = co_await room->live().join(s, {.history = options_.history_messages});
  if (!seat)
    co_return;
  visit.take(std::move(*seat));
  visit.arrive(who, s.id());
  auto welcome = packed(room->welcome());
  co_await s.send(std::move(welcome));
  auto joined = packed(room->joined(who));
  co_await s.send(std::move(joined));
  while (auto m = co_await s.receive()) {
    const auto answer = visit.hear(*m, options_, s.id());
    if (answer.empty())
      continue;
    auto text = packed(answer);
    co_await s.send(std::move(text));
  }
}

} // namespace cli
