#include <chorus/server/resume_peer.hpp>

#include <chorus/server/room_part.hpp>
#include <chorus/session/session_core.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

using protocol::resume_error;
using protocol::resume_type;

void resume_counters::count(protocol::resume_gap why) noexcept {
  auto &which = why == protocol::resume_gap::none      ? recovered
                : why == protocol::resume_gap::epoch   ? lost_epoch
                : why == protocol::resume_gap::trimmed ? lost_trimmed
                : why == protocol::resume_gap::ahead   ? lost_ahead
                                                       : lost_no_history;
  which.fetch_add(1, std::memory_order_relaxed);
}

resume_stats resume_counters::values() const noexcept {
  const auto value = [](const auto &one) { return one.load(std::memory_order_relaxed); };
  return {value(recovered),  value(lost_epoch),      value(lost_trimmed),
          value(lost_ahead), value(lost_no_history), value(acks)};
}

void client_directory::add(session_id id, std::string client) {
  std::lock_guard lock(mutex_);
  clients_.insert_or_assign(id, std::move(client));
}

void client_directory::remove(session_id id) noexcept {
  std::lock_guard lock(mutex_);
  clients_.erase(id);
}

std::vector<std::string> client_directory::of(const std::vector<session_id> &ids) const {
  std::vector<std::string> found;
  if (ids.empty())
    return found;
  std::lock_guard lock(mutex_);
  for (const auto id : ids)
    if (const auto at = clients_.find(id); at != clients_.end())
      found.push_back(at->second);
  return found;
}

resume_peer::resume_peer(std::shared_ptr<resume_setup> setup) : setup_(std::move(setup)) {}

resume_peer::~resume_peer() {
  if (id_ != 0)
    setup_->clients.remove(id_);
}

void resume_peer::opened(session_core &core) {
  core_ = &core;
  core.home().start_after(deadline_, setup_->hello_wait);
}

void resume_peer::closed() noexcept {
  core_ = nullptr;
  deadline_.cancel();
  rooms_.clear();
  wake_all();
}

void resume_peer::wake_all() noexcept {
  for (; !awaiting_.empty(); awaiting_.pop_front())
    awaiting_.front()->wake_later();
}

void resume_peer::on_late() noexcept {
  if (!core_ || greeted_)
    return;
  const auto keep = core_->shared_from_this();
  keep->fail(error::protocol, close_code::protocol_error,
             "no hello of chorus.v1 came in time; it has to be the first message");
}

resume_peer::verdict resume_peer::refuse(std::string_view why, close_code code) noexcept {
  complaint_ = why;
  complaint_code_ = code;
  return verdict::refused;
}

resume_peer::verdict resume_peer::unwrap(std::span<const std::byte> received, std::size_t &head) {
  protocol::resume_header h;
  const auto e = protocol::read_resume(protocol::role::client, received, h, head);
  if (e != resume_error::none)
    return refuse(to_string(e), e == resume_error::too_many_rooms ? close_code::policy_violation
                                                                  : close_code::protocol_error);
  if (h.type == resume_type::hello)
    return greet(std::move(h));
  if (!greeted_)
    return refuse("the first message of chorus.v1 has to be a hello");
  if (h.type == resume_type::msg)
    return verdict::payload;
  if (h.type == resume_type::ack) {
    setup_->counters.acks.fetch_add(1, std::memory_order_relaxed);
    for (const auto &[room, counters] : rooms_)
      if (room == *h.room)
        counters->resume.acks.fetch_add(1, std::memory_order_relaxed);
  }
  return verdict::consumed;
}

resume_peer::verdict resume_peer::greet(protocol::resume_header &&h) {
  if (greeted_)
    return refuse("a hello of chorus.v1 comes once, as the first message");
  greeted_ = true;
  deadline_.cancel();
  client_ = std::move(h.client);
  positions_ = std::move(h.rooms);
  if (!client_.empty() && core_) {
    id_ = core_->id();
    setup_->clients.add(id_, client_);
  }
  wake_all();
  return verdict::consumed;
}

const protocol::resume_position *resume_peer::position_in(std::string_view room) const noexcept {
  const auto found = std::find_if(positions_.begin(), positions_.end(),
                                  [&](const auto &p) { return p.room == room; });
  return found == positions_.end() ? nullptr : &*found;
}

void resume_peer::forget_position(std::string_view room) noexcept {
  std::erase_if(positions_, [&](const auto &p) { return p.room == room; });
}

void resume_peer::entered(const std::string &room, std::shared_ptr<room_counters> counters) {
  rooms_.emplace_back(room, std::move(counters));
}

void resume_peer::leaving(const std::string &room) {
  std::erase_if(rooms_, [&](const auto &r) { return r.first == room; });
  left_.push_back(room);
  // A handler that ends leaves its rooms right before its session closes. That is no end of the
  // membership that the client should forget its position for: 1011 among others.
  if (left_.size() == 1 && core_)
    core_->home().post([keep = core_->shared_from_this(), this] { tell_left(); });
}

void resume_peer::tell_left() {
  for (const auto &room : std::exchange(left_, {}))
    if (core_ && core_->can_send()) {
      core_->out().pin(message(protocol::write_left(room)));
      if (!core_->out().blocked())
        core_->home().flush_later(*core_);
    }
}

resume_peer *peer_of(const session_core &core) noexcept {
  return static_cast<resume_peer *>(core.envelope());
}

} // namespace chorus::detail
