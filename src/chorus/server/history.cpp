#include <chorus/server/history.hpp>

#include <chorus/protocol/frame.hpp>

#include <algorithm>
#include <cstring>
#include <random>

namespace chorus::detail {

namespace {

// Of a kept message besides its frame: its block, its place in the list.
constexpr std::size_t kept_overhead = 256;

} // namespace

std::string random_epoch() {
  std::random_device random;
  std::uint64_t bits = std::uint64_t{random()} << 32 | random();
  std::string text(16, '0');
  for (auto &c : text) {
    c = "0123456789abcdef"[bits & 15];
    bits >>= 4;
  }
  return text;
}

bool kept_message::meant_for(std::string_view client) const noexcept {
  return client.empty() || std::find(except.begin(), except.end(), client) == except.end();
}

std::size_t kept_message::cost() const noexcept {
  auto bytes = kept_overhead + frame.capacity();
  for (const auto &client : except)
    bytes += sizeof client + client.capacity();
  return bytes;
}

kept keep(std::string_view room, std::shared_ptr<const std::string> epoch, std::uint64_t offset,
          const message &m, std::vector<std::string> except, time_point at) {
  const auto head = protocol::write_msg_header(room, *epoch, offset);
  auto k = std::make_shared<kept_message>();
  k->offset = offset;
  k->epoch = std::move(epoch);
  k->except = std::move(except);
  k->at = at;
  const auto body = head.size() + m.size();
  k->frame = buffer::allocate(body + protocol::max_header_size);
  auto *to = k->frame.data();
  k->frame_header = protocol::encode_header(
      to, m.is_text() ? protocol::opcode::text : protocol::opcode::binary, true, false, body);
  k->size = k->frame_header + body;
  std::memcpy(to + k->frame_header, head.data(), head.size());
  if (!m.empty())
    std::memcpy(to + k->frame_header + head.size(), m.bytes().data(), m.size());
  k->content = message(m.kind(), k->frame, k->wire().subspan(k->frame_header + head.size()));
  return k;
}

bool history_budget::charge(account &a, std::size_t more, victims &gone) {
  std::lock_guard lock(mutex_);
  a.bytes += more;
  if (!a.taken)
    bytes_ += more;
  if (max_bytes_ == 0)
    return false;
  while (bytes_ > max_bytes_ && !idle_.empty())
    take_first(gone);
  return bytes_ > max_bytes_;
}

void history_budget::refund(account &a, std::size_t less) noexcept {
  std::lock_guard lock(mutex_);
  a.bytes -= less;
  if (!a.taken)
    bytes_ -= less;
}

void history_budget::set_idle(account &a, std::weak_ptr<room_core> room, victims &gone) {
  std::lock_guard lock(mutex_);
  if (a.idle || a.taken)
    return;
  a.room = std::move(room);
  a.place = idle_.insert(idle_.end(), &a);
  a.idle = true;
  while (max_idle_ != 0 && idle_.size() > max_idle_)
    take_first(gone);
}

void history_budget::set_busy(account &a) noexcept {
  std::lock_guard lock(mutex_);
  if (std::exchange(a.idle, false))
    idle_.erase(a.place);
  if (std::exchange(a.taken, false)) // somebody was quicker than the order to forget
    bytes_ += a.bytes;
}

void history_budget::close(account &a) noexcept {
  std::lock_guard lock(mutex_);
  if (std::exchange(a.idle, false))
    idle_.erase(a.place);
  if (!a.taken)
    bytes_ -= a.bytes;
  a.bytes = 0;
}

void history_budget::take_first(victims &gone) {
  auto &a = *idle_.front();
  gone.push_back(std::move(a.room));
  idle_.pop_front();
  a.idle = false;
  a.taken = true;
  bytes_ -= a.bytes;
}

std::size_t history_budget::bytes() const noexcept {
  std::lock_guard lock(mutex_);
  return bytes_;
}

std::size_t history_budget::idle() const noexcept {
  std::lock_guard lock(mutex_);
  return idle_.size();
}

history::history(std::string room, const room_options &options,
                 std::shared_ptr<history_budget> budget)
    : room_(std::move(room)), options_(options), budget_(std::move(budget)),
      epoch_(std::make_shared<const std::string>(random_epoch())) {}

history::~history() { budget_->close(account_); }

kept history::append(const message &m, std::vector<std::string> except, time_point now,
                     history_budget::victims &gone) {
  auto k = keep(room_, epoch_, ++last_, m, std::move(except), now);
  forget_old(now);
  push(k, gone);
  return k;
}

kept history::adopt(std::string_view epoch, std::uint64_t offset, const message &m,
                    std::vector<std::string> except, time_point now,
                    history_budget::victims &gone) {
  if (epoch != *epoch_)
    begin_epoch(epoch);
  if (offset <= last_)
    return nullptr;
  last_ = offset;
  auto k = keep(room_, epoch_, offset, m, std::move(except), now);
  forget_old(now);
  push(k, gone);
  return k;
}

void history::place(std::string_view epoch, std::uint64_t trimmed) {
  if (epoch != *epoch_)
    begin_epoch(epoch);
  if (trimmed > last_) { // those in between are lost to this node
    forget_all();
    last_ = trimmed;
  }
  trimmed_ = std::max(trimmed_, trimmed);
}

void history::go_on_in(std::string_view epoch, history_budget::victims &gone) {
  epoch_ = std::make_shared<const std::string>(epoch);
  before_epoch_ = last_;
  for (auto &k : messages_) {
    const auto before = k->cost();
    k = keep(room_, epoch_, k->offset, k->content, k->except, k->at);
    bytes_ += k->cost() - before;
    if (k->cost() > before)
      budget_->charge(account_, k->cost() - before, gone);
    else
      budget_->refund(account_, before - k->cost());
  }
}

void history::begin_epoch(std::string_view epoch) {
  forget_all();
  epoch_ = std::make_shared<const std::string>(epoch);
  last_ = trimmed_ = before_epoch_ = 0;
}

void history::push(kept k, history_budget::victims &gone) {
  const auto cost = k->cost();
  bytes_ += cost;
  messages_.push_back(std::move(k));
  bool over = budget_->charge(account_, cost, gone);
  // Over the bound of all rooms, a room pays with what it kept longest for what it adds.
  for (std::size_t paid = 0; over && paid < cost && !messages_.empty();) {
    paid += messages_.front()->cost();
    pop_front();
  }
  while (!messages_.empty() &&
         (bytes_ > options_.history_bytes ||
          (options_.history_messages != 0 && messages_.size() > options_.history_messages)))
    pop_front();
}

void history::pop_front() noexcept {
  const auto cost = messages_.front()->cost();
  trimmed_ = messages_.front()->offset;
  bytes_ -= cost;
  messages_.pop_front();
  budget_->refund(account_, cost);
}

void history::forget_old(time_point now) {
  if (options_.history_age.count() != 0)
    while (!messages_.empty() && now - messages_.front()->at > options_.history_age)
      pop_front();
}

void history::forget_all() {
  while (!messages_.empty())
    pop_front();
}

history::answer history::for_client(const protocol::resume_position *position,
                                    std::string_view client, std::size_t newcomer, time_point now) {
  forget_old(now);
  answer a;
  a.epoch = epoch_;
  a.last = last_;
  auto from = messages_.end();
  if (position) {
    a.recovered = false;
    if (position->epoch != *epoch_)
      a.why = protocol::resume_gap::epoch;
    else if (position->offset > last_)
      a.why = protocol::resume_gap::ahead;
    else if (position->offset < std::max(trimmed_, before_epoch_))
      a.why = protocol::resume_gap::trimmed;
    else
      a.recovered = true;
  }
  if (a.recovered.value_or(false)) {
    from = std::upper_bound(messages_.begin(), messages_.end(), position->offset,
                            [](std::uint64_t at, const kept &k) { return at < k->offset; });
    a.offset = position->offset;
  } else {
    std::size_t count = 0;
    for (; from != messages_.begin() && count < newcomer; --from)
      count += (*std::prev(from))->meant_for(client);
    a.offset = from == messages_.end()
                   ? last_
                   : (from == messages_.begin() ? trimmed_ : (*std::prev(from))->offset);
  }
  for (; from != messages_.end(); ++from)
    if ((*from)->meant_for(client))
      a.messages.push_back(*from);
  return a;
}

} // namespace chorus::detail
