#include <chorus/client/resume_memory.hpp>

#include <algorithm>
#include <charconv>
#include <random>

namespace chorus::detail {

using protocol::resume_type;

// Those that moved last come first: what is too much for a hello is left out at its end.
std::string resume_memory::hello() const {
  std::vector<const room_state *> all;
  for (const auto &[name, one] : rooms_)
    all.push_back(&one);
  std::sort(all.begin(), all.end(),
            [](const auto *a, const auto *b) { return a->moved > b->moved; });
  std::vector<protocol::resume_position> positions;
  for (const auto *one : all)
    positions.push_back({*one->name, *one->epoch, one->offset});
  return protocol::write_hello(client_, positions);
}

resume_memory::room_state *resume_memory::find(const std::string &room) noexcept {
  const auto found = rooms_.find(room);
  return found == rooms_.end() ? nullptr : &found->second;
}

resume_memory::room_state &resume_memory::set(const std::string &room, const std::string &epoch,
                                              std::uint64_t offset) {
  auto *known = find(room);
  if (!known) {
    if (rooms_.size() >= max_rooms)
      rooms_.erase(std::min_element(rooms_.begin(), rooms_.end(), [](const auto &a, const auto &b) {
        return a.second.moved < b.second.moved;
      }));
    known = &rooms_[room];
    known->name = std::make_shared<const std::string>(room);
  }
  if (!known->epoch || *known->epoch != epoch)
    known->epoch = std::make_shared<const std::string>(epoch);
  known->offset = offset;
  known->moved = ++clock_;
  return *known;
}

resume_envelope::resume_envelope(std::shared_ptr<resume_memory> memory, settings s)
    : memory_(std::move(memory)), settings_(std::move(s)) {}

void resume_envelope::opened(session_core &core) {
  core_ = &core;
  for (auto &[name, one] : memory_->rooms())
    one.unacknowledged = 0;
  say(memory_->hello());
}

void resume_envelope::closed() noexcept {
  core_ = nullptr;
  timer_.cancel();
}

void resume_envelope::say(const std::string &header) {
  auto &out = core_->out();
  const std::uint64_t confirmed = core_->stats().messages_confirmed;
  constexpr std::size_t most = 1024;
  while (!own_at_.empty() && (own_at_.front() < confirmed || own_at_.size() >= most)) {
    own_at_.pop_front();
    ++own_settled_;
  }
  own_at_.push_back(out.messages_sent + out.queued_messages());
  ++own_;
  out.pin(message(header));
  if (!out.blocked())
    core_->home().flush_later(*core_);
}

// A peer that takes nothing gets no acknowledgements either: they must not fill the memory.
void resume_envelope::acknowledge(unsigned least) {
  if (!core_ || !core_->can_send())
    return;
  bool left = false;
  for (auto &[name, one] : memory_->rooms()) {
    if (one.unacknowledged < least || core_->out().blocked()) {
      left = left || one.unacknowledged != 0;
      continue;
    }
    one.unacknowledged = 0;
    say(protocol::write_ack(name, one.offset));
  }
  if (left && !timer_.active())
    core_->home().start_after(timer_, acknowledge_within);
}

void resume_envelope::add(event e) {
  if (events_.size() >= settings_.max_events)
    events_.pop_front();
  events_.push_back(std::move(e));
}

resume_envelope::verdict resume_envelope::on_msg(const protocol::resume_header &h,
                                                 std::size_t payload) {
  if (ignored_)
    return verdict::payload;
  message_place place;
  if (h.room && h.epoch.empty()) {
    place.room = std::make_shared<const std::string>(*h.room);
  } else if (h.room) {
    auto *known = memory_->find(*h.room);
    if (known && *known->epoch == h.epoch && h.offset <= known->offset) {
      settings_.doubled();
      return verdict::consumed;
    }
    if (payload > settings_.max_message)
      return verdict::payload; // the session ends by it; the application has not got it
    auto &now = memory_->set(*h.room, h.epoch, h.offset);
    place = {now.name, now.epoch, now.offset};
    if (++now.unacknowledged >= acknowledge_after)
      acknowledge(acknowledge_after);
    else if (!timer_.active() && core_)
      core_->home().start_after(timer_, acknowledge_within);
  }
  if (!settings_.ignore_input && payload <= settings_.max_message)
    add(std::move(place));
  return verdict::payload;
}

void resume_envelope::on_joined(const protocol::resume_header &h) {
  if (ignored_)
    return; // the next connection asks again
  const auto *known = memory_->find(*h.room);
  // The hello had no room for this position. Nothing is amiss when all that follows it follows.
  const bool unnamed = known && !h.recovered;
  const bool same_epoch = known && *known->epoch == h.epoch;
  if (unnamed && same_epoch && h.offset <= known->offset)
    return;
  if (h.epoch.empty())
    memory_->forget(*h.room);
  else
    memory_->set(*h.room, h.epoch, h.offset);
  if (!h.recovered && !unnamed)
    return;
  recovery r;
  r.room = *h.room;
  r.recovered = h.recovered.value_or(false);
  r.missed = h.missed;
  using protocol::resume_gap;
  if (unnamed)
    r.why = same_epoch        ? "unnamed"
            : h.epoch.empty() ? to_string(resume_gap::no_history)
                              : to_string(resume_gap::epoch);
  else if (!r.recovered)
    r.why = to_string(h.why);
  add(std::move(r));
  settings_.reported();
}

resume_envelope::verdict resume_envelope::unwrap(std::span<const std::byte> received,
                                                 std::size_t &head) {
  protocol::resume_header h;
  const auto e = protocol::read_resume(protocol::role::server, received, h, head);
  if (e != protocol::resume_error::none) {
    complaint_ = to_string(e);
    return verdict::refused;
  }
  switch (h.type) {
  case resume_type::msg:
    return on_msg(h, received.size() - head);
  case resume_type::joined:
    on_joined(h);
    break;
  case resume_type::left:
    memory_->forget(*h.room);
    break;
  default:
    break;
  }
  return verdict::consumed;
}

void resume_envelope::forget_taken(std::size_t untaken) {
  const auto is_place = [](const event &e) { return std::holds_alternative<message_place>(e); };
  auto places = static_cast<std::size_t>(std::count_if(events_.begin(), events_.end(), is_place));
  for (auto e = events_.begin(); e != events_.end() && places > untaken;) {
    if (is_place(*e)) {
      e = events_.erase(e);
      --places;
    } else {
      ++e;
    }
  }
}

void resume_envelope::settle(std::vector<message> &unsent, session_stats &stats) {
  std::vector<message> payloads;
  for (auto &m : unsent) {
    constexpr auto head = protocol::plain_msg_header;
    if (m.text().starts_with(head))
      payloads.emplace_back(m.kind(), m.storage(), m.bytes().subspan(head.size()));
  }
  const auto own_unsent = unsent.size() - payloads.size();
  const auto own_sent = own_ - std::min<std::uint64_t>(own_, own_unsent);
  stats.messages_sent -= std::min(stats.messages_sent, own_sent);
  const auto confirmed = stats.messages_confirmed;
  const auto own_confirmed =
      own_settled_ + static_cast<std::uint64_t>(std::count_if(
                         own_at_.begin(), own_at_.end(), [&](auto at) { return at < confirmed; }));
  stats.messages_confirmed -= std::min(confirmed, own_confirmed);
  unsent = std::move(payloads);
}

resume_envelope *envelope_of(const session &s) noexcept {
  return s ? static_cast<resume_envelope *>(s.core()->envelope()) : nullptr;
}

std::string fresh_client_key() {
  constexpr std::string_view digits = "0123456789abcdef";
  std::random_device device;
  std::string key;
  for (int i = 0; i < 4; ++i)
    for (auto bits = device(), n = 8U; n-- != 0; bits >>= 4)
      key += digits[bits & 15];
  return key;
}

} // namespace chorus::detail
