// Presence over several servers: what of it comes from the engine, and goes there.

#include <chorus/server/broker_node.hpp>
#include <chorus/server/presence_core.hpp>
#include <chorus/server/room_core.hpp>
#include <chorus/server/room_link.hpp>

#include <algorithm>
#include <charconv>
#include <unordered_set>
#include <utility>

namespace chorus::detail {

// "1 17 1718000000000\ndata": connected, the session's id, since when.
std::string presence::text_of(const portion &p) {
  return (p.connected ? "1 " : "0 ") + std::to_string(p.id) + " " + std::to_string(p.since) + "\n" +
         p.data;
}

bool presence::read(const broker_member &who, portion &p) {
  const auto &text = who.data;
  if (text.size() < 2 || (text[0] != '0' && text[0] != '1') || text[1] != ' ')
    return false;
  const auto *const end = text.data() + text.size();
  auto r = std::from_chars(text.data() + 2, end, p.id);
  if (r.ec != std::errc() || r.ptr == end || *r.ptr != ' ')
    return false;
  r = std::from_chars(r.ptr + 1, end, p.since);
  if (r.ec != std::errc() || r.ptr == end || *r.ptr != '\n')
    return false;
  p.node = who.node;
  p.connected = text[0] == '1';
  p.data.assign(r.ptr + 1, end);
  p.at = who.at;
  return true;
}

std::string presence::engine_id(const entry &e) const {
  return room_.link()->node()->name() + ":" + e.key;
}

bool presence::is_ours(const broker_member &who) const {
  return who.node == room_.link()->node()->name();
}

// "node:=user" or "node:#id"; the ids of several servers may be the same.
std::string presence::key_of(const broker_member &who) const {
  const auto &id = who.id;
  const auto at = who.node.size() + 1;
  if (who.node.empty() || id.size() <= at || !id.starts_with(who.node + ":"))
    return {};
  if (id[at] == '=')
    return id.substr(at);
  return is_ours(who) ? id.substr(at) : "#" + id;
}

presence::portion presence::own(const entry &e) const {
  portion p;
  if (room_.link())
    p.node = room_.link()->node()->name();
  p.id = e.id;
  p.since = e.since;
  p.connected = e.here != 0;
  p.data = e.data;
  p.at = e.at;
  return p;
}

void presence::say(entry &e) {
  const auto &link = room_.link();
  if (!link)
    return;
  e.at = UINT64_MAX;
  link->presence()->enter(engine_id(e), text_of(own(e)));
}

void presence::learn(const broker_member &who, bool present) {
  const auto key = key_of(who);
  if (key.empty())
    return;
  if (!is_ours(who)) {
    present ? take(who, false) : drop(key, who.node);
    return;
  }
  const auto found = entries_.find(key);
  if (found == entries_.end() || !found->second->has_here())
    return; // it has left meanwhile
  auto &e = *found->second;
  if (present && who.data == text_of(own(e))) {
    e.at = who.at;
    settle(e, false, true);
  } else if (!present && e.at != UINT64_MAX) {
    say(e); // the lease had ended
  }
}

void presence::take(const broker_member &who, bool quiet) {
  portion p;
  if (!read(who, p))
    return;
  const auto key = key_of(who);
  bool fresh = false;
  auto &e = found_or_made(key, key[0] == '=' ? key.substr(1) : std::string(), fresh);
  const auto since = std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::milliseconds(p.since)));
  if (fresh || since < e.shown.since)
    e.shown.since = since;
  const bool connected = p.connected;
  const auto known = std::find_if(e.elsewhere.begin(), e.elsewhere.end(),
                                  [&](const auto &one) { return one.node == p.node; });
  if (known != e.elsewhere.end())
    *known = std::move(p);
  else
    e.elsewhere.push_back(std::move(p));
  if (!connected || !e.active()) {
    settle(e, fresh, true, quiet);
    return;
  }
  const auto alive = keep_; // it is back, on another server
  come_back(e);
  drop_here(e, true);
}

void presence::drop(const std::string &key, const std::string &node) {
  const auto found = entries_.find(key);
  if (found == entries_.end())
    return;
  auto &e = *found->second;
  if (std::erase_if(e.elsewhere, [&](const auto &p) { return p.node == node; }) != 0)
    settle(e, false, true);
}

void presence::learn(const std::vector<broker_member> &all, bool first) {
  std::unordered_set<std::string> ids;
  for (const auto &who : all) {
    const auto key = key_of(who);
    if (key.empty())
      continue;
    if (!is_ours(who)) {
      take(who, first);
      ids.insert(who.id);
      continue;
    }
    const auto found = entries_.find(key);
    if (found == entries_.end() || !found->second->has_here()) {
      room_.link()->presence()->leave(who.id);
    } else if (auto &e = *found->second; who.data == text_of(own(e))) {
      ids.insert(who.id);
      e.at = who.at;
      settle(e, false, true);
    }
  }
  std::vector<std::pair<std::string, std::string>> gone; // key and node
  std::vector<entry *> unsaid;
  for (const auto &[key, e] : entries_) {
    for (const auto &p : e->elsewhere)
      if (!ids.contains(p.node + ":" + (key[0] == '=' ? key : key.substr(p.node.size() + 2))))
        gone.emplace_back(key, p.node);
    if (e->has_here() && !ids.contains(engine_id(*e)))
      unsaid.push_back(e.get());
  }
  for (auto *e : unsaid)
    say(*e);
  for (const auto &[key, node] : gone)
    drop(key, node);
}

} // namespace chorus::detail
