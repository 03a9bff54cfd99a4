#include <chorus/server/room_part.hpp>

#include <chorus/server/presence_core.hpp>
#include <chorus/server/room_core.hpp>

#include <algorithm>

namespace chorus::detail {

namespace {

// A run this long is delivered at once, so that a burst of publishes in one turn stays bounded.
constexpr std::size_t run_limit = 256 * 1024;

} // namespace

room_part::room_part(std::shared_ptr<shard> home, std::shared_ptr<room_counters> counters,
                     std::shared_ptr<const room_complaints> complaints)
    : home_(std::move(home)), counters_(std::move(counters)), complaints_(std::move(complaints)) {}

room_part::~room_part() = default;

void room_part::add(const std::shared_ptr<session_core> &core) {
  const auto found = index_.find(core->id());
  if (found != index_.end()) {
    ++members_[found->second].seats;
    return;
  }
  index_.emplace(core->id(), static_cast<std::uint32_t>(members_.size()));
  members_.push_back({core.get(), core->id(), next_number_, 1});
  core->join(shared_from_this());
  count_.fetch_add(1, std::memory_order_relaxed);
  counters_->members.fetch_add(1);
}

void room_part::remove(session_id id, const std::string &room) noexcept {
  const auto found = index_.find(id);
  if (found == index_.end() || --members_[found->second].seats != 0)
    return;
  auto *core = members_[found->second].core;
  if (!core)
    return;
  catch_up(*core); // it gets what was published before it left
  if (index_.find(id) == index_.end())
    return;
  core->part(*this);
  if (auto *peer = peer_of(*core))
    peer->leaving(room);
  on_member_gone(*core);
}

void room_part::on_member_gone(session_core &core) noexcept {
  const auto found = index_.find(core.id());
  if (found == index_.end())
    return;
  const auto at = found->second;
  if (pending_.any_special)
    for (std::size_t i = 0; i < pending_.frames.size(); ++i)
      if (pending_.first + i >= members_[at].next)
        settle(pending_, i, core.id(), write_outcome::failed);
  index_.erase(found);
  if (!infos_.empty() && infos_.erase(core.id()) != 0)
    if (auto room = room_.lock())
      room->home()->post([room, id = core.id()] { room->presence()->left(id); });
  count_.fetch_sub(1, std::memory_order_relaxed);
  if (counters_->members.fetch_sub(1) == 1 && counters_->emptied)
    counters_->emptied();
  members_[at].core = nullptr;
  if (delivering_) {
    gone_while_delivering_ = true;
    return;
  }
  if (at + 1 != members_.size()) {
    members_[at] = members_.back();
    if (members_[at].core)
      index_[members_[at].id] = at;
  }
  members_.pop_back();
}

void room_part::sweep() noexcept {
  if (!std::exchange(gone_while_delivering_, false))
    return;
  std::erase_if(members_, [](const auto &m) { return m.core == nullptr; });
  for (std::size_t i = 0; i < members_.size(); ++i)
    index_[members_[i].id] = static_cast<std::uint32_t>(i);
}

std::vector<session_id> room_part::ids() const {
  std::vector<session_id> result;
  result.reserve(members_.size());
  for (const auto &m : members_)
    if (m.core)
      result.push_back(m.id);
  return result;
}

void room_part::introduce(const std::shared_ptr<room_core> &room, session_id id, member_info info) {
  const auto found = index_.find(id);
  if (found == index_.end() || !members_[found->second].core)
    return;
  auto &known = infos_[id];
  info.joined_at = known ? known->joined_at : std::chrono::system_clock::now();
  info.listed = known ? known->listed : UINT64_MAX;
  known = std::make_shared<member_info>(std::move(info));
  if (!room->presence())
    return;
  room_ = room;
  room->home()->post([room, self = shared_from_this(), id, user = known->user, data = known->data] {
    room->presence()->joined(self, id, user, data);
  });
}

void room_part::update(session_id id, const std::string &data) {
  const auto found = infos_.find(id);
  if (found == infos_.end())
    return;
  auto changed = std::make_shared<member_info>(*found->second); // a filter may look at the old one
  changed->data = data;
  found->second = std::move(changed);
  if (auto room = room_.lock())
    room->home()->post([room, id, data] { room->presence()->changed(id, data); });
}

void room_part::show_list(session_id id, std::uint64_t version, const message &m) {
  const auto found = infos_.find(id);
  if (found == infos_.end())
    return; // it has gone meanwhile
  found->second->listed = version;
  if (m.empty())
    return;
  publish_terms terms;
  terms.to = id;
  publish(m, std::make_shared<const publish_terms>(std::move(terms)), nullptr);
}

member_entry room_part::entry_of(const session_core &core) const {
  member_entry entry{.id = core.id()};
  if (const auto found = infos_.find(core.id()); found != infos_.end()) {
    entry.user = found->second->user;
    entry.data = found->second->data;
    entry.joined_at = found->second->joined_at;
  } else { // of the implicit rooms
    entry.user = core.user();
    entry.joined_at = std::chrono::system_clock::now() -
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(
                          home_->now() - core.opened_at());
  }
  return entry;
}

std::vector<member_entry> room_part::entries() const {
  std::vector<member_entry> all;
  all.reserve(members_.size());
  for (const auto &m : members_)
    if (m.core)
      all.push_back(entry_of(*m.core));
  return all;
}

bool room_part::meant(const session_core &core, const publish_terms *terms) const noexcept {
  if (!terms)
    return true;
  if (std::find(terms->except.begin(), terms->except.end(), core.id()) != terms->except.end())
    return false;
  if (terms->to != 0 && terms->to != core.id())
    return false;
  // The same client may be back by another session.
  if (!terms->except_clients.empty())
    if (const auto *peer = peer_of(core); peer && !peer->client().empty())
      if (std::find(terms->except_clients.begin(), terms->except_clients.end(), peer->client()) !=
          terms->except_clients.end())
        return false;
  if (!terms->only && terms->except_user.empty() && terms->version == 0)
    return true;
  const auto found = infos_.find(core.id());
  auto info = found == infos_.end() ? nullptr : found->second; // a filter may end the session
  if (terms->version != 0 && (!info || terms->version <= info->listed))
    return false;
  if (!info) {
    auto entry = entry_of(core);
    info = std::make_shared<member_info>();
    info->user = std::move(entry.user);
    info->joined_at = entry.joined_at;
  }
  if (!terms->except_user.empty() && info->user == terms->except_user)
    return false;
  if (!terms->only)
    return true;
  const session handle(const_cast<session_core &>(core).shared_from_this());
  std::string what = "A filter of a room threw ";
  try {
    return terms->only(chorus::member(handle, *info));
  } catch (const std::exception &x) {
    what += x.what();
  } catch (...) {
    what += "an exception of unknown type";
  }
  counters_->filter_failures.fetch_add(1, std::memory_order_relaxed);
  if (*complaints_)
    (*complaints_)(what + "; the member does not get the message.", handle);
  return false;
}

// A broadcast has chosen when it was published; after its deadline it no longer knows whom.
bool room_part::chosen(const session_core &core, const specials &x) const noexcept {
  if (x.outcomes && !x.outcomes->reported())
    return x.outcomes->expects(core.id());
  return meant(core, x.terms.get());
}

void room_part::expect_members(const publish_terms *terms, gather_part &outcomes) {
  // A filter may make members come and go: none moves meanwhile, and who has gone is not expected.
  const bool before = std::exchange(delivering_, true);
  std::vector<bool> is_meant(members_.size());
  for (std::size_t i = 0; i < is_meant.size(); ++i)
    is_meant[i] = members_[i].core && meant(*members_[i].core, terms);
  for (std::size_t i = 0; i < is_meant.size(); ++i)
    if (is_meant[i] && members_[i].core)
      outcomes.expect(*members_[i].core);
  delivering_ = before;
  if (!delivering_)
    sweep();
}

void room_part::refuse(const publish_terms *terms, gather_part &outcomes, const failure &why) {
  if (!outcomes.reported())
    expect_members(terms, outcomes);
  outcomes.refuse(why);
}

void room_part::publish(const message &m, std::shared_ptr<const publish_terms> terms,
                        std::shared_ptr<gather_part> outcomes, kept k) {
  const bool special = terms || outcomes;
  if (outcomes) {
    outcomes->keep_those([this](session_id id) { return index_.contains(id); });
    expect_members(terms.get(), *outcomes);
    if (!outcomes->expects_anyone()) {
      outcomes->begun();
      return;
    }
  }
  if (count_.load(std::memory_order_relaxed) == 0)
    return;
  if (pending_.empty()) {
    if (home_->stopped())
      return; // no turn will end any more
    pending_.first = next_number_;
    home_->enroll(*this);
    ++home_->pending_rooms;
    keep_ = shared_from_this();
    home_->flush_later(*this);
  }
  ++next_number_;
  frame f{};
  f.begin = pending_.bytes.size();
  const auto op = m.is_text() ? protocol::opcode::text : protocol::opcode::binary;
  auto *at = pending_.bytes.grow(m.size() + protocol::max_header_size);
  const auto head = protocol::encode_header(at, op, true, false, m.size());
  if (!m.empty())
    std::memcpy(at + head, m.bytes().data(), m.size());
  pending_.bytes.advance(head + m.size());
  f.payload = f.begin + head;
  f.end = pending_.bytes.size();
  f.kind = m.kind();
  f.special = special;
  if (special && !pending_.any_special) {
    pending_.any_special = true;
    pending_.extras.resize(pending_.frames.size());
  }
  if (k && !pending_.any_kept) {
    pending_.any_kept = true;
    pending_.keeps.resize(pending_.frames.size());
  }
  pending_.frames.push_back(f);
  if (pending_.any_kept)
    pending_.keeps.push_back(std::move(k));
  if (pending_.any_special) {
    auto &x = pending_.extras.emplace_back();
    x.sink = x.outcomes = outcomes;
    if (terms && terms->time_to_live.count() != 0) {
      x.expires = home_->now() + terms->time_to_live;
      x.sink = sink_of_age(x.expires, outcomes);
    }
    pending_.any_lane = pending_.any_lane || (terms && terms->how != lane::reliable);
    x.terms = std::move(terms);
  }
  if (outcomes)
    outcomes->begun();
  if (pending_.bytes.size() >= run_limit && !delivering_)
    flush_turn();
}

void room_part::flush_turn() noexcept {
  if (pending_.empty()) {
    keep_.reset();
    return;
  }
  if (delivering_) {
    home_->flush_later(*this);
    return;
  }
  const auto keep = std::move(keep_);
  home_->withdraw(*this);
  home_->leave(*this);
  --home_->pending_rooms;
  auto r = std::exchange(pending_, run());
  pending_.first = next_number_;
  const auto end = r.first + r.frames.size();
  delivering_ = true;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    auto &m = members_[i];
    if (m.next >= end)
      continue;
    const auto from = static_cast<std::size_t>(std::max(m.next, r.first) - r.first);
    m.next = end;
    if (m.core)
      deliver(*m.core, r, from);
    else // it went while others were served
      for (auto k = from; k < r.frames.size(); ++k)
        settle(r, k, m.id, write_outcome::failed);
  }
  delivering_ = false;
  sweep();
  // From the beginning of the turn that brought the run.
  if (counters_->measured())
    counters_->measures->at(home_->index())
        .fan_out_seconds.observe(in_seconds(home_->now() - home_->turn_time()), r.frames.size());
}

void room_part::on_shard_gone() noexcept {
  const auto keep = std::move(keep_);
  home_->withdraw(*this);
  --home_->pending_rooms;
  pending_ = run();
}

void room_part::catch_up(session_core &core) noexcept {
  if (pending_.empty() || delivering_)
    return;
  const auto found = index_.find(core.id());
  if (found == index_.end())
    return;
  auto &m = members_[found->second];
  const auto end = pending_.first + pending_.frames.size();
  if (m.next >= end)
    return;
  const auto from = static_cast<std::size_t>(std::max(m.next, pending_.first) - pending_.first);
  m.next = end;
  // The pending run may grow and move, so this member gets copies of its own.
  run copy;
  copy.first = pending_.first + from;
  const auto begin = pending_.frames[from].begin;
  copy.bytes.append(pending_.bytes.data() + begin, pending_.bytes.size() - begin);
  for (std::size_t i = from; i < pending_.frames.size(); ++i) {
    auto f = pending_.frames[i];
    f.begin -= begin;
    f.payload -= begin;
    f.end -= begin;
    copy.frames.push_back(f);
  }
  copy.any_special = pending_.any_special;
  copy.any_lane = pending_.any_lane;
  if (copy.any_special)
    copy.extras.assign(pending_.extras.begin() + static_cast<std::ptrdiff_t>(from),
                       pending_.extras.end());
  copy.any_kept = pending_.any_kept;
  if (copy.any_kept)
    copy.keeps.assign(pending_.keeps.begin() + static_cast<std::ptrdiff_t>(from),
                      pending_.keeps.end());
  delivering_ = true;
  deliver(core, copy, 0);
  delivering_ = false;
  sweep();
}

} // namespace chorus::detail
