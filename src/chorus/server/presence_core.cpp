#include <chorus/server/presence_core.hpp>

#include <chorus/server/broker_node.hpp>
#include <chorus/server/room_core.hpp>
#include <chorus/server/room_link.hpp>

#include <boost/json/serialize.hpp>

#include <algorithm>
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
  out += ",\"id\":" + std::to_string(who.id);
  if (!who.node.empty())
    out += ",\"node\":" + boost::json::serialize(who.node);
  out += ",\"data\":" + (who.data.empty() ? std::string("null") : who.data);
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
    if (event.present > event.everybody.size())
      out += ",\"cut\":true,\"present\":" + std::to_string(event.present);
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

void presence::tell(presence_change what, const presence_entry &who, bool elsewhere) {
  ++version_;
  const presence_event event{
      .what = what, .room = room_.name(), .who = who, .elsewhere = elsewhere};
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

std::vector<presence_entry> presence::list(const presence_entry &first, std::size_t most) const {
  if (most == 0 || entries_.size() <= most)
    return list();
  std::vector<presence_entry> some{first};
  some.reserve(most);
  for (auto e = entries_.begin(); some.size() < most; ++e)
    if (&e->second->shown != &first)
      some.push_back(e->second->shown);
  return some;
}

presence::entry &presence::found_or_made(const std::string &key, const std::string &user,
                                         bool &fresh) {
  auto &held = entries_[key];
  fresh = !held;
  if (fresh) {
    held = std::make_unique<entry>(*this, key);
    held->shown.user = user;
    held->shown.since = std::chrono::system_clock::now();
  }
  return *held;
}

void presence::joined(const std::shared_ptr<room_part> &where, session_id id,
                      const std::string &user, const std::string &data) {
  if (const auto known = sessions_.find(id); known != sessions_.end()) { // another seat
    changed(id, data);
    return;
  }
  bool fresh = false;
  auto &e = found_or_made(user.empty() ? "#" + std::to_string(id) : "=" + user, user, fresh);
  sessions_.emplace(id, &e);
  const auto alive = keep_; // till the end of this
  const bool had = e.has_here();
  const bool back = e.active();
  if (e.here++ == 0)
    e.id = id;
  if (back)
    come_back(e);
  const bool news = !had || (!data.empty() && e.data != data);
  if (!had) {
    e.data = e.shown.data; // as others said
    e.since = std::chrono::duration_cast<std::chrono::milliseconds>(
                  std::chrono::system_clock::now().time_since_epoch())
                  .count();
  }
  if (!data.empty())
    e.data = data;
  if (news || back)
    say(e);
  settle(e, fresh, false);
  const auto &shown = sessions_.at(id)->shown;
  const auto some = list(shown, room_.options().presence_list_most);
  auto m = text_of({.what = presence_change::list,
                    .room = room_.name(),
                    .who = shown,
                    .everybody = some,
                    .present = entries_.size()});
  where->home()->run(
      [where, id, version = version_, m = std::move(m)] { where->show_list(id, version, m); });
}

void presence::changed(session_id id, const std::string &data) {
  const auto known = sessions_.find(id);
  if (known == sessions_.end() || known->second->data == data)
    return;
  auto &e = *known->second;
  e.data = data;
  say(e);
  settle(e, false, false);
}

void presence::left(session_id id) {
  const auto known = sessions_.find(id);
  if (known == sessions_.end())
    return;
  auto &e = *known->second;
  sessions_.erase(known);
  if (--e.here != 0) {
    settle(e, false, false);
    return;
  }
  const auto grace = room_.options().presence_grace;
  const bool connected_elsewhere = std::any_of(e.elsewhere.begin(), e.elsewhere.end(),
                                               [](const auto &p) { return p.connected; });
  if (grace.count() == 0 || e.shown.user.empty() || connected_elsewhere || absent_ >= max_absent ||
      room_.home()->stopped()) {
    drop_here(e);
    return;
  }
  room_.home()->start_after(e, grace);
  if (absent_++ == 0) {
    keep_ = room_.shared_from_this();
    room_.home()->enroll(*this);
  }
  say(e);
  settle(e, false, false);
}

// There are neither connections nor a timer any more.
void presence::drop_here(entry &e, bool elsewhere) {
  e.at = UINT64_MAX;
  if (const auto &link = room_.link())
    link->presence()->leave(engine_id(e));
  settle(e, false, elsewhere);
}

void presence::remove(entry &e, bool elsewhere) {
  const auto found = entries_.find(e.key);
  const auto gone = std::move(found->second);
  entries_.erase(found);
  tell(presence_change::left, gone->shown, elsewhere);
}

void presence::settle(entry &e, bool fresh, bool elsewhere, bool quiet) {
  std::vector<portion> all = e.elsewhere;
  if (e.has_here())
    all.push_back(own(e));
  auto &shown = e.shown;
  shown.connections = e.here;
  for (const auto &p : e.elsewhere)
    shown.connections += p.connected;
  if (all.empty()) {
    remove(e, elsewhere);
    return;
  }
  const auto newest = [](const auto &a, const auto &b) {
    return a.connected != b.connected ? !a.connected : a.at < b.at;
  };
  const auto &best = *std::max_element(all.begin(), all.end(), newest);
  const bool id_holds = !fresh && std::any_of(all.begin(), all.end(), [&](const auto &p) {
    return p.node == shown.node && p.id == shown.id && (p.connected || shown.connections == 0);
  });
  if (!id_holds) {
    shown.id = best.id;
    shown.node = best.node;
  }
  const bool other_data = shown.data != best.data;
  shown.data = best.data;
  if (quiet)
    return;
  if (fresh)
    tell(presence_change::joined, shown, elsewhere);
  else if (other_data)
    tell(presence_change::changed, shown, elsewhere);
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
  owner.drop_here(e);
}

void presence::on_shard_gone() noexcept {
  for (const auto &[key, e] : entries_)
    e->cancel();
  absent_ = 0;
  const auto last = std::move(keep_);
}

} // namespace chorus::detail
