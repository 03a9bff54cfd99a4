#include "cluster_account.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

namespace cluster_demo {

namespace {

template <class T> void raise(std::atomic<T> &to, T value) {
  for (auto seen = to.load(); seen < value && !to.compare_exchange_weak(seen, value);) {
  }
}

} // namespace

std::string to_string(message_id id) {
  return "p" + std::to_string(id.publisher) + "-" + std::to_string(id.number);
}

bool parse(std::string_view text, message_id &into) noexcept {
  const char *end = text.data() + text.size();
  if (text.empty() || text.front() != 'p')
    return false;
  const auto publisher = std::from_chars(text.data() + 1, end, into.publisher);
  if (publisher.ec != std::errc() || publisher.ptr == end || *publisher.ptr != '-')
    return false;
  const auto number = std::from_chars(publisher.ptr + 1, end, into.number);
  return number.ec == std::errc() && number.ptr == end && into.number != 0;
}

account::account(std::size_t clients, std::size_t rooms, std::size_t publishers)
    : books_(clients), rooms_(rooms), published_(publishers), progress_(publishers) {}

message_id account::publish(std::size_t publisher) {
  const std::lock_guard lock(mutex_);
  auto &mine = published_[publisher];
  mine.push_back(outcome::unknown);
  ++told_[static_cast<std::size_t>(outcome::unknown)];
  const auto number = static_cast<std::uint32_t>(mine.size());
  progress_[publisher].sent = number;
  return {static_cast<std::uint32_t>(publisher), number};
}

void account::settle(message_id id, outcome o) {
  const std::lock_guard lock(mutex_);
  if (id.publisher >= published_.size() || id.number > published_[id.publisher].size())
    return;
  auto &at = published_[id.publisher][id.number - 1];
  --told_[static_cast<std::size_t>(at)];
  ++told_[static_cast<std::size_t>(o)];
  at = o;
  auto &newest = progress_[id.publisher].accepted;
  if (o == outcome::accepted)
    newest = std::max(newest, id.number);
}

bool account::belongs(message_id id, std::size_t r) const noexcept {
  return id.publisher < progress_.size() && room_of(id.publisher) == r &&
         id.number <= progress_[id.publisher].sent;
}

void account::receive(std::size_t client, std::string_view epoch, std::uint64_t offset,
                      message_id id) {
  auto &mine = books_[client];
  if (!belongs(id, room_of(client)))
    complain(client, "got " + to_string(id) + ", which nobody published here");
  else
    raise(progress_[id.publisher].delivered, id.number);
  if (mine.epochs.empty() || mine.epochs.back() != epoch) {
    if (!mine.epochs.empty() && (!lost_ || mine.told < mine.epochs.size()))
      complain(client, "the room's epoch changed from " + mine.epochs.back() + " to " +
                           std::string(epoch) + " at " + to_string(id) +
                           (lost_ ? ", and it was not told" : ""));
    mine.epochs.emplace_back(epoch);
  }
  mine.receipts.push_back({offset, id, static_cast<std::uint32_t>(mine.epochs.size() - 1)});
  mine.last = offset;
  raise(rooms_[room_of(client)].top, offset);
  ++deliveries_;
}

void account::tell(std::size_t client, std::string_view why) {
  ++books_[client].told;
  if (!lost_)
    complain(client, "was told that it can't have what it missed (" + std::string(why) + ")");
}

void account::overhear(std::size_t r, message_id id) {
  auto &mine = rooms_[r];
  if (!belongs(id, r))
    complain_of_reader(r, "got " + to_string(id) + ", which nobody published here");
  mine.overheard.push_back(id);
}

void account::complain_of_reader(std::size_t r, std::string what) {
  if (rooms_[r].complaints.size() < 3)
    rooms_[r].complaints.push_back(std::move(what));
}

void account::lose() {
  for (auto &one : books_)
    one.to_be_told = one.last != 0;
  lost_ = true;
}

void account::begin_stage() {
  const std::lock_guard lock(mutex_);
  for (auto &one : progress_)
    one.before = one.sent;
}

std::size_t account::idle_room() const {
  const std::lock_guard lock(mutex_);
  for (std::size_t r = 0; r < rooms_.size(); ++r) {
    bool accepted = false;
    bool delivered = false;
    for (auto p = r; p < progress_.size(); p += rooms_.size()) {
      accepted = accepted || progress_[p].accepted > progress_[p].before;
      delivered = delivered || progress_[p].delivered > progress_[p].before;
    }
    if (!accepted || !delivered)
      return r;
  }
  return rooms_.size();
}

void account::complain(std::size_t client, std::string what) {
  if (books_[client].complaints.size() < 3)
    books_[client].complaints.push_back(std::move(what));
}

std::size_t account::behind() const noexcept {
  std::size_t n = 0;
  for (std::size_t i = 0; i < books_.size(); ++i)
    n += books_[i].last != rooms_[room_of(i)].top;
  return n;
}

std::string account::name_of(std::size_t client) const {
  return "client " + std::to_string(client) + ", room r" + std::to_string(room_of(client)) + ": ";
}

verdict account::close() const {
  verdict v;
  for (std::size_t r = 0; r < rooms_.size(); ++r)
    close_room(r, v);
  for (std::size_t i = 0; i < books_.size(); ++i) {
    for (const auto &c : books_[i].complaints)
      v.complaints.push_back(name_of(i) + c);
    v.told += books_[i].told != 0;
    if (books_[i].to_be_told && books_[i].told == 0)
      v.complaints.push_back(name_of(i) + "was not told of what is lost");
  }
  return v;
}

void account::close_room(std::size_t r, verdict &v) const {
  const auto here = "room r" + std::to_string(r) + ": ";
  // What anybody has got, by its place. No place is given twice, not in another epoch either.
  std::map<std::uint64_t, place> placed;
  std::map<message_id, std::uint64_t> place_of;
  std::string_view epoch;
  for (auto i = r; i < books_.size(); i += rooms_.size()) {
    const auto &one = books_[i];
    if (epoch.empty() && !one.epochs.empty())
      epoch = one.epochs.back();
    else if (!one.epochs.empty() && one.epochs.back() != epoch)
      v.complaints.push_back(name_of(i) + "is in the epoch " + one.epochs.back() + ", others in " +
                             std::string(epoch));
    for (const auto &[offset, id, number] : one.receipts) {
      const place here_it_is{id, one.epochs[number]};
      if (const auto [at, fresh] = placed.emplace(offset, here_it_is);
          !fresh && at->second.id != id)
        v.complaints.push_back(name_of(i) + "at the place " + std::to_string(offset) +
                               " others have " + to_string(at->second.id) + ", not " +
                               to_string(id));
      if (const auto [at, fresh] = place_of.emplace(id, offset); !fresh && at->second != offset)
        v.complaints.push_back(name_of(i) + to_string(id) + " has two places: " +
                               std::to_string(at->second) + " and " + std::to_string(offset));
    }
  }

  for (auto p = r; p < published_.size(); p += rooms_.size()) {
    std::uint64_t before = 0;
    message_id last{};
    for (std::size_t n = 0; n < published_[p].size(); ++n) {
      const message_id id{static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(n + 1)};
      const auto found = place_of.find(id);
      const bool arrived = found != place_of.end();
      ++v.sent;
      switch (published_[p][n]) {
      case outcome::accepted:
        ++v.accepted;
        if (!arrived) {
          v.complaints.push_back(here + to_string(id) + " was accepted, and nobody has it");
          break;
        }
        // The next one was sent after this one's outcome was known.
        if (found->second <= before)
          v.complaints.push_back(here + to_string(id) + " has a place before " + to_string(last));
        before = found->second;
        last = id;
        break;
      case outcome::refused:
        ++v.refused;
        if (arrived)
          v.complaints.push_back(here + to_string(id) + " was refused, and somebody has it");
        break;
      case outcome::unknown:
        ++v.unknown;
        v.unknown_arrived += arrived;
        break;
      }
    }
  }

  std::vector<place> order;
  for (const auto &[offset, one] : placed)
    order.push_back(one);
  close_reader(r, v);
  for (const auto id : rooms_[r].overheard)
    if (belongs(id, r) && !place_of.contains(id))
      v.complaints.push_back(here + "its plain reader has " + to_string(id) + ", and nobody else");
  for (auto i = r; i < books_.size(); i += rooms_.size())
    compare(i, order, v);
}

// What a publisher says comes in its order, so that a number which is not higher than the last one's came
// twice or late.
void account::close_reader(std::size_t r, verdict &v) const {
  const auto &mine = rooms_[r];
  const auto name = "plain reader of room r" + std::to_string(r) + ": ";
  for (const auto &c : mine.complaints)
    v.complaints.push_back(name + c);
  if (mine.overheard.empty())
    v.complaints.push_back(name + "got nothing");
  v.overheard += mine.overheard.size();
  std::map<std::uint32_t, std::uint32_t> newest;
  for (const auto id : mine.overheard) {
    auto &last = newest[id.publisher];
    if (id.number <= last) {
      v.complaints.push_back(name + to_string(id) + " came twice, or behind " +
                             to_string(message_id{id.publisher, last}));
      return;
    }
    last = id.number;
  }
}

// One complaint of each kind for a client: the first one tells where to look. Of an epoch that has ended,
// who was told so need not have everything.
void account::compare(std::size_t client, const std::vector<place> &order, verdict &v) const {
  const auto &mine = books_[client];
  v.deliveries += mine.receipts.size();
  std::map<message_id, std::size_t> count;
  std::uint64_t highest = 0;
  message_id highest_id{};
  bool swapped = false;
  for (const auto &[offset, id, epoch] : mine.receipts) {
    if (++count[id] == 2)
      v.complaints.push_back(name_of(client) + to_string(id) + " came twice");
    else if (count[id] == 1 && offset < highest && !std::exchange(swapped, true))
      v.complaints.push_back(name_of(client) + to_string(id) + " came behind " +
                             to_string(highest_id));
    if (offset > highest) {
      highest = offset;
      highest_id = id;
    }
  }
  std::size_t missing = 0;
  message_id first{};
  for (const auto &[id, epoch] : order) {
    if (count.contains(id)) {
      ++v.expected;
    } else if (!lost_ || mine.told == 0 || mine.epochs.empty() || epoch == mine.epochs.back()) {
      ++v.expected;
      if (++missing == 1)
        first = id;
    }
  }
  if (missing != 0)
    v.complaints.push_back(name_of(client) + to_string(first) + " did not come" +
                           (missing == 1 ? "" : ", and " + std::to_string(missing - 1) + " more"));
}

} // namespace cluster_demo
