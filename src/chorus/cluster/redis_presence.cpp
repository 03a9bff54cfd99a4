// Who is present: entries of rooms. Leases, and what becomes of the entries of dead nodes, are in
// redis_leases.cpp.

#include <chorus/cluster/redis_broker.hpp>
#include <chorus/cluster/wire.hpp>

#include <chorus/server/history.hpp>

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace chorus::detail {

namespace {

constexpr const char *members_of_a_page = "1000";

failure no_lease(const std::string &node) {
  return failure(error::not_open, stage::none,
                 "the node " + node + " has no lease: renew it, and enter again");
}

// A member's bytes up to its id, by which scripts know whose it is: those of one without id and data, but for
// two lengths.
std::string node_bytes(const std::string &node) {
  auto bytes = write_broker_member({node, {}, {}, 0});
  bytes.resize(bytes.size() - 2);
  return bytes;
}

} // namespace

struct redis_engine::listing {
  std::string room;
  redis_owed<broker_members> answer;
  std::string cursor = "0";
  broker_members all{};
  std::unordered_set<std::string> seen{}; // a scan may give somebody twice
};

void redis_engine::enter(const std::string &room, broker_member who, std::size_t most,
                         redis_owed<void> answer) {
  const auto found = leases_.find(who.node);
  if (found == leases_.end()) {
    (*answer)(no_lease(who.node));
    return;
  }
  auto &lease = found->second;
  const bool over = lease.until <= home_->now();
  if (!lease.held.empty() || (over && lease.renewing != 0)) {
    lease.held.push_back(
        [this, room, who = std::move(who), most, answer] { enter(room, who, most, answer); });
    return;
  }
  if (over) {
    (*answer)(no_lease(who.node));
    return;
  }
  auto &state = lease.rooms[room];
  ++state.entered;
  if (state.added && !state.adding) {
    send_enter(room, who, most, answer);
    return;
  }
  const auto node = who.node;
  state.held.push_back([this, room, who = std::move(who), most, answer](const failure *why) {
    if (why)
      (*answer)(*why);
    else
      send_enter(room, who, most, answer);
  });
  if (!std::exchange(state.adding, true))
    add_room(room, node);
}

// Before anybody enters it: whoever finds the node dead empties the rooms that are in its set.
void redis_engine::add_room(const std::string &room, const std::string &node) {
  const auto incarnation = leases_.at(node).incarnation;
  pool_->script(all_redis_scripts().add_room, {shared_->names.rooms(node, incarnation)}, {room},
                then([room, node, incarnation](redis_engine &self, const redis_outcome &o) {
                  const auto lease = self.leases_.find(node);
                  if (lease == self.leases_.end() || lease->second.incarnation != incarnation)
                    return; // what was held has been answered
                  auto why = why_not(o);
                  if (!why.code() && o.reply.number == 0)
                    why = no_lease(node);
                  auto &state = lease->second.rooms[room];
                  state.adding = false;
                  state.added = !why.code();
                  auto held = std::exchange(state.held, {});
                  if (why == error::not_open)
                    self.drop_lease(node, why);
                  else if (why.code())
                    lease->second.rooms.erase(room);
                  for (const auto &f : held)
                    f(why.code() ? &why : nullptr);
                }));
}

void redis_engine::send_enter(const std::string &room, const broker_member &who, std::size_t most,
                              const redis_owed<void> &answer) {
  const auto lease = leases_.find(who.node);
  if (lease == leases_.end() || lease->second.incarnation.empty()) {
    (*answer)(no_lease(who.node));
    return;
  }
  const auto &names = shared_->names;
  const auto entered = lease->second.rooms[room].entered;
  pool_->script(
      all_redis_scripts().enter,
      {names.key(room, ":p"), names.key(room, ":c"), names.key(room, ":d")},
      {who.id, write_broker_member(who), lease->second.incarnation, std::to_string(most),
       names.channel(room), verb(), random_epoch()},
      then([answer, room, node = who.node, most, entered](redis_engine &self,
                                                          const redis_outcome &o) {
        if (auto why = why_not(o); why.code()) {
          (*answer)(std::move(why));
          return;
        }
        const auto what = o.reply.items.empty() ? -3 : o.reply.items[0].number;
        if (what >= 0) {
          (*answer)({});
        } else if (what == -1) {
          const auto why = no_lease(node);
          self.drop_lease(node, why);
          (*answer)(why);
        } else if (what == -2) {
          self.forget_room(room, node, entered, o.reply.items.back());
          (*answer)(failure(error::limit_reached, stage::open,
                            std::to_string(most) + " are there already, which is all that may be"));
        } else {
          (*answer)(redis_nonsense());
        }
      }));
}

// Its node has nobody there any more, unless somebody has entered since.
void redis_engine::forget_room(const std::string &room, const std::string &node,
                               std::uint64_t entered, const redis_reply &left) {
  const auto lease = leases_.find(node);
  if (lease == leases_.end() || left.number != 0)
    return;
  const auto state = lease->second.rooms.find(room);
  if (state == lease->second.rooms.end() || state->second.entered != entered ||
      state->second.adding)
    return;
  lease->second.rooms.erase(state);
  const auto key = shared_->names.rooms(node, lease->second.incarnation);
  pool_->command(key, {"SREM", key, room}, [](const redis_outcome &) {});
}

void redis_engine::leave(const std::string &room, const std::string &node, const std::string &id,
                         redis_owed<void> answer) {
  if (const auto lease = leases_.find(node); lease != leases_.end()) {
    if (!lease->second.held.empty()) {
      lease->second.held.push_back(
          [this, room, node, id, answer] { leave(room, node, id, answer); });
      return;
    }
    if (const auto state = lease->second.rooms.find(room);
        state != lease->second.rooms.end() && state->second.adding) {
      state->second.held.push_back(
          [this, room, node, id, answer](const failure *) { send_leave(room, node, id, answer); });
      return;
    }
  }
  send_leave(room, node, id, answer);
}

void redis_engine::send_leave(const std::string &room, const std::string &node,
                              const std::string &id, const redis_owed<void> &answer) {
  const auto &names = shared_->names;
  std::string incarnation;
  std::uint64_t entered = 0;
  if (const auto lease = leases_.find(node); lease != leases_.end()) {
    incarnation = lease->second.incarnation;
    if (const auto state = lease->second.rooms.find(room); state != lease->second.rooms.end())
      entered = state->second.entered;
  }
  pool_->script(all_redis_scripts().leave, {names.key(room, ":p"), names.key(room, ":c")},
                {id, node_bytes(node), incarnation, names.channel(room), verb(), random_epoch()},
                then([answer, room, node, entered](redis_engine &self, const redis_outcome &o) {
                  if (auto why = why_not(o); why.code()) {
                    (*answer)(std::move(why));
                    return;
                  }
                  if (!o.reply.items.empty())
                    self.forget_room(room, node, entered, o.reply.items[0]);
                  (*answer)({});
                }));
}

void redis_engine::members(const std::string &room, redis_owed<broker_members> answer) {
  auto l = std::make_shared<listing>();
  l->room = room;
  l->answer = std::move(answer);
  list(l);
}

void redis_engine::list(const std::shared_ptr<listing> &l) {
  const auto &names = shared_->names;
  pool_->script(all_redis_scripts().members, {names.key(l->room, ":p"), names.key(l->room, ":c")},
                {l->cursor, random_epoch(), members_of_a_page},
                then([l](redis_engine &self, const redis_outcome &o) {
                  if (auto why = why_not(o); why.code())
                    (*l->answer)(std::move(why));
                  else
                    self.listed(l, o.reply);
                }));
}

void redis_engine::listed(const std::shared_ptr<listing> &l, const redis_reply &r) {
  if (r.items.size() < 3) {
    (*l->answer)(redis_nonsense());
    return;
  }
  // Of several pages the place is that of the first: changes after it may be in the list or not, and are
  // told once more.
  const bool first = l->cursor == "0";
  if (first)
    l->all.at = {r.items[0].text, static_cast<std::uint64_t>(r.items[1].number)};
  l->cursor = r.items[2].text;
  const bool one_page = first && l->cursor == "0";
  for (std::size_t i = 3; i < r.items.size(); ++i) {
    auto who = read_present(r.items[i].text);
    if (who.has_error()) // of another version, or somebody else's: the others count
      ++unreadable_;
    else if (one_page || l->seen.insert(who->id).second)
      l->all.members.push_back(std::move(*who));
  }
  if (l->cursor != "0") {
    list(l);
    return;
  }
  std::sort(l->all.members.begin(), l->all.members.end(),
            [](const auto &a, const auto &b) { return a.at < b.at; });
  (*l->answer)(std::move(l->all));
}

} // namespace chorus::detail
