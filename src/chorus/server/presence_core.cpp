#include <chorus/server/presence_core.hpp>

#include <chorus/server/room_core.hpp>

#include <boost/json/serialize.hpp>

#include <utility>

namespace chorus {

std::string_view to_string(presence_change what) noexcept {
  switch (what) {
  case presence_change::list:
    return "list";
  case presence_change::joined:
    return "joined";
  case presence_change::left:
    return "left";
  case presence_change::changed:
    break;
  }
  return "changed";
}

namespace {

void append_member(std::string &out, const presence_entry &who) {
  out += "{\"user\":";
  out += who.user.empty() ? std::string("null") : boost::json::serialize(who.user);
  out += ",\"id\":" + std::to_string(who.id) + ",\"data\":";
  out += who.data.empty() ? std::string("null") : who.data;
  out += '}';
}

} // namespace

message presence_text(const presence_event &event) {
  std::string out = "{\"type\":\"presence\",\"event\":\"";
  out += to_string(event.what);
  out += "\",\"room\":" + boost::json::serialize(event.room);
  if (event.what != presence_change::list) {
    out += ",\"member\":";
    append_member(out, event.who);
  } else {
    out += ",\"members\":[";
    const char *between = "";
    for (const auto &who : event.everybody) {
      out += std::exchange(between, ",");
      append_member(out, who);
    }
    out += ']';
  }
  out += '}';
  return message(out);
}

} // namespace chorus

namespace chorus::detail {

presence::presence(room_core &room, std::shared_ptr<const room_complaints> complaints)
    : room_(room), complaints_(std::move(complaints)) {}

presence::~presence() = default;

// Runs user code.
template <class F> void presence::guarded(const char *what, F f) const noexcept {
  std::string why;
  try {
    f();
    return;
  } catch (const std::exception &x) {
    why = x.what();
  } catch (...) {
    why = "an exception of unknown type";
  }
  if (*complaints_)
    (*complaints_)(std::string(what) + " of the room " + room_.name() + " threw " + why, session());
}

message presence::text_of(const presence_event &event) const {
  message m;
  const auto &format = room_.options().presence_message;
  guarded("The presence_message", [&] { m = format ? format(event) : presence_text(event); });
  return m;
}

void presence::tell(presence_change what, const presence_entry &who) {
  ++version_;
  const presence_event event{.what = what, .room = room_.name(), .who = who};
  auto m = text_of(event);
  if (!m.empty()) {
    publish_terms terms;
    terms.version = version_;
    room_.announce(m, std::make_shared<const publish_terms>(std::move(terms)));
  }
  if (const auto &told = room_.options().on_presence)
    guarded("The on_presence", [&] { told(event); });
}

std::vector<presence_entry> presence::list() const {
  std::vector<presence_entry> all;
  all.reserve(entries_.size());
  for (const auto &[key, e] : entries_)
    all.push_back(e->shown);
  return all;
}

void presence::joined(const std::shared_ptr<room_part> &where, session_id id,
                      const std::string &user, const std::string &data) {
  if (const auto known = sessions_.find(id); known != sessions_.end()) { // another seat
    change_data(*known->second, data);
    return;
  }
  auto key = user.empty() ? "#" + std::to_string(id) : "=" + user;
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    auto fresh = std::make_unique<entry>(*this, key);
    auto &e = *fresh;
    e.shown = {.user = user,
               .id = id,
               .data = data,
               .since = std::chrono::system_clock::now(),
               .connections = 1};
    sessions_.emplace(id, &e);
    entries_.emplace(std::move(key), std::move(fresh));
    tell(presence_change::joined, e.shown);
  } else {
    auto &e = *found->second;
    sessions_.emplace(id, &e);
    const auto alive = keep_; // till the end of this
    if (e.shown.connections++ == 0) {
      e.shown.id = id;
      come_back(e);
    }
    if (!data.empty())
      change_data(e, data);
  }
  const auto all = list();
  auto m =
      text_of({.what = presence_change::list, .room = room_.name(), .who = {}, .everybody = all});
  where->home()->run(
      [where, id, version = version_, m = std::move(m)] { where->show_list(id, version, m); });
}

void presence::changed(session_id id, const std::string &data) {
  if (const auto known = sessions_.find(id); known != sessions_.end())
    change_data(*known->second, data);
}

void presence::change_data(entry &e, const std::string &data) {
  if (e.shown.data == data)
    return;
  e.shown.data = data;
  tell(presence_change::changed, e.shown);
}

void presence::left(session_id id) {
  const auto known = sessions_.find(id);
  if (known == sessions_.end())
    return;
  auto &e = *known->second;
  sessions_.erase(known);
  if (--e.shown.connections != 0)
    return;
  const auto grace = room_.options().presence_grace;
  if (grace.count() == 0 || e.shown.user.empty() || absent_ >= max_absent ||
      room_.home()->stopped()) {
    remove(e);
    return;
  }
  room_.home()->start_after(e, grace);
  if (absent_++ == 0) {
    keep_ = room_.shared_from_this();
    room_.home()->enroll(*this);
  }
}

void presence::remove(entry &e) {
  const auto found = entries_.find(e.key);
  const auto gone = std::move(found->second);
  entries_.erase(found);
  tell(presence_change::left, gone->shown);
}

void presence::come_back(entry &e) noexcept {
  e.cancel();
  if (--absent_ == 0) {
    room_.home()->leave(*this);
    keep_.reset(); // the caller has the room
  }
}

void presence::entry::expired(timer &t) noexcept {
  auto &e = static_cast<entry &>(t);
  auto &owner = e.owner;
  const auto alive = owner.keep_;
  owner.come_back(e);
  owner.remove(e);
}

void presence::on_shard_gone() noexcept {
  for (const auto &[key, e] : entries_)
    e->cancel();
  absent_ = 0;
  const auto last = std::move(keep_);
}

} // namespace chorus::detail
