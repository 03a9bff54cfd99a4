#pragma once
// Who is present, in few words.

#include <chorus/server/room.hpp>

#include <set>
#include <string>
#include <vector>

namespace presence_test {

inline std::string named(const chorus::presence_entry &e) {
  return (e.user.empty() ? "?" : e.user) + (e.data.empty() ? "" : "=" + e.data);
}

// What a service says of those present: "[ann,bob]" to who comes, then "+cat", "~ann=1", "-bob".
inline chorus::message brief(const chorus::presence_event &event) {
  if (event.what != chorus::presence_change::list)
    return (event.what == chorus::presence_change::joined ? "+"
            : event.what == chorus::presence_change::left ? "-"
                                                          : "~") +
           named(event.who);
  std::multiset<std::string> names;
  for (const auto &e : event.everybody)
    names.insert(named(e));
  std::string out = "[";
  for (const auto &n : names)
    out += (out.size() > 1 ? "," : "") + n;
  return out + "]";
}

inline chorus::task<std::vector<chorus::presence_entry>> who(chorus::room r) {
  auto asking = r.presence();
  co_return co_await std::move(asking);
}

// "ann bob=1 cat(away) ": with those who are expected back.
inline std::string list(const std::vector<chorus::presence_entry> &all) {
  std::multiset<std::string> names;
  for (const auto &e : all)
    names.insert(named(e) + (e.connections == 0 ? "(away)" : ""));
  std::string text;
  for (const auto &n : names)
    text += n + " ";
  return text;
}

} // namespace presence_test
