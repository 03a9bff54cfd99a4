// How a member comes into a part of a room: what it is told, and what it gets of the past.

#include <chorus/server/room_core.hpp>
#include <chorus/server/room_part.hpp>

#include <utility>

namespace chorus::detail {

namespace {

// Bytes of the histories of several rooms that may wait for one connection when it joins one more.
constexpr std::size_t most_history_waiting = std::size_t{64} << 20;

} // namespace

void room_part::enter(arrival &a, const history::answer *past,
                      const std::shared_ptr<room_core> &room) {
  auto &core = *a.core;
  if (a.abandoned || !core.can_send()) {
    expected_.fetch_sub(1);
    if (!a.abandoned)
      a.settle(core.why_not_sending());
    return;
  }
  const bool fresh = !index_.contains(core.id());
  auto *const peer = peer_of(core);
  if (fresh && peer && core.out().spared_bytes() > most_history_waiting) {
    turn_away(a, failure(error::queue_full, stage::open,
                         "more history of other rooms waits for this connection than it may; join "
                         "when it has read that"));
    return;
  }
  add(a.core);
  introduce(room, core.id(), std::move(a.info));
  expected_.fetch_sub(1);
  if (fresh) {
    if (peer)
      welcome(core, *peer, a, past, room->name());
    else if (past)
      send_past(core, *past);
  }
  a.settle();
}

bool room_part::outdated(const arrival &a, std::string_view room) const noexcept {
  return a.position && !a.abandoned && a.core->can_send() && !index_.contains(a.core->id()) &&
         !peer_of(*a.core)->position_in(room);
}

void room_part::turn_away(arrival &a, const failure &why) noexcept {
  expected_.fetch_sub(1);
  if (!a.abandoned)
    a.settle(why);
}

// Nothing of it may be dropped, and it may be more than the queue takes: its bytes are the room's own,
// or come compressed once. So it does not count against the bound of the queue, but has that of the
// history, and most_history_waiting over several rooms.
void room_part::welcome(session_core &core, resume_peer &peer, const arrival &a,
                        const history::answer *past, const std::string &room) {
  peer.tell_left();
  peer.forget_position(room);
  protocol::joined_header h{room};
  if (past) {
    h.epoch = *past->epoch;
    h.offset = past->offset;
    h.recovered = past->recovered;
    h.missed = past->messages.size();
    h.why = past->why;
  } else if (a.position) {
    h.recovered = false;
    h.why = protocol::resume_gap::no_history;
  }
  if (h.recovered) {
    counters_->resume.count(h.why);
    counters_->all_rooms->counters.count(h.why);
  }
  auto &out = core.out();
  out.spare(message(protocol::write_joined(h)));
  if (past) {
    const auto &format = out.wire().format();
    const bool as_it_is = !format.compressed && format.shareable();
    for (const auto &k : past->messages) {
      if (as_it_is)
        out.spare_encoded(k->frame, k->wire());
      else
        out.spare(k->enveloped());
    }
    count_delivered(past->messages.size());
  }
  peer.entered(room, counters_);
  core.touch();
  if (!out.blocked())
    home_->flush_later(core);
}

void room_part::tell_gap(const std::string &room, const std::string &epoch, std::uint64_t offset,
                         protocol::resume_gap why) {
  if (delivering_) { // a filter runs
    home_->post([self = shared_from_this(), room, epoch, offset, why] {
      self->tell_gap(room, epoch, offset, why);
    });
    return;
  }
  flush_turn(); // what came before
  protocol::joined_header h{room};
  h.epoch = epoch;
  h.offset = offset;
  h.recovered = false;
  h.why = why;
  const message m(protocol::write_joined(h));
  std::vector<session> slow; // who can't be told is sent to come back
  for (const auto &one : members_) {
    if (!one.core || !peer_of(*one.core) || !one.core->can_send())
      continue;
    counters_->resume.count(why);
    counters_->all_rooms->counters.count(why);
    auto &out = one.core->out();
    if (!out.fits(m.size())) {
      slow.emplace_back(one.core->shared_from_this());
      continue;
    }
    out.pin(m);
    if (!out.blocked())
      home_->flush_later(*one.core);
  }
  for (auto &s : slow)
    s.start_close(close_code::try_again_later, "messages were lost; come back and see");
}

void room_part::close_all(close_code code, std::string_view reason) {
  std::vector<session> all; // they may go while others are closed
  for (const auto &one : members_)
    if (one.core)
      all.emplace_back(one.core->shared_from_this());
  for (auto &s : all)
    s.start_close(code, reason);
}

// As many of the last as the queue has room for now.
void room_part::send_past(session_core &core, const history::answer &past) {
  const auto &all = past.messages;
  std::size_t bytes = 0;
  auto first = all.size();
  for (std::size_t count = 0; first != 0; --first, ++count) {
    bytes += all[first - 1]->content.size() + protocol::max_header_size;
    if (!core.out().leaves_room_for(bytes, count + 1))
      break;
  }
  for (; first != all.size() && core.can_send(); ++first) {
    std::unique_ptr<message_extras> none;
    if (core.submit(all[first]->content, none) == admission::accepted)
      count_delivered(1);
  }
}

} // namespace chorus::detail
