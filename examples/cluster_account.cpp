#include "cluster_account.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

namespace cluster_demo {

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
    : books_(clients), rooms_(rooms), published_(publishers) {}

message_id account::publish(std::size_t publisher) {
  const std::lock_guard lock(mutex_);
  auto &mine = published_[publisher];
  mine.push_back(outcome::unknown);
  ++told_[static_cast<std::size_t>(outcome::unknown)];
  return {static_cast<std::uint32_t>(publisher), static_cast<std::uint32_t>(mine.size())};
}

void account::settle(message_id id, outcome o) {
  const std::lock_guard lock(mutex_);
  if (id.publisher >= published_.size() || id.number > published_[id.publisher].size())
    return;
  auto &at = published_[id.publisher][id.number - 1];
  --told_[static_cast<std::size_t>(at)];
  ++told_[static_cast<std::size_t>(o)];
  at = o;
}

void account::receive(std::size_t client, std::string_view epoch, std::uint64_t offset,
                      message_id id) {
  auto &mine = books_[client];
  if (!mine.epoch.empty() && mine.epoch != epoch)
    complain(client, "the room's epoch changed from " + mine.epoch + " to " + std::string(epoch) +
                         " at " + to_string(id));
  if (mine.epoch != epoch)
    mine.epoch = epoch;
  mine.receipts.push_back({offset, id});
  mine.last = offset;
  auto &top = rooms_[room_of(client)].top;
  for (auto seen = top.load(); seen < offset && !top.compare_exchange_weak(seen, offset);) {
  }
  ++deliveries_;
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
  for (std::size_t i = 0; i < books_.size(); ++i)
    for (const auto &c : books_[i].complaints)
      v.complaints.push_back(name_of(i) + c);
  return v;
}

void account::close_room(std::size_t r, verdict &v) const {
  const auto here = "room r" + std::to_string(r) + ": ";
  // What anybody has got, by its place.
  std::map<std::uint64_t, message_id> placed;
  std::map<message_id, std::uint64_t> place_of;
  std::string_view epoch;
  for (auto i = r; i < books_.size(); i += rooms_.size()) {
    const auto &one = books_[i];
    if (epoch.empty())
      epoch = one.epoch;
    else if (!one.epoch.empty() && one.epoch != epoch)
      v.complaints.push_back(name_of(i) + "is in the epoch " + one.epoch + ", others in " +
                             std::string(epoch));
    for (const auto &[offset, id] : one.receipts) {
      if (const auto [at, fresh] = placed.emplace(offset, id); !fresh && at->second != id)
        v.complaints.push_back(name_of(i) + "at the place " + std::to_string(offset) +
                               " others have " + to_string(at->second) + ", not " + to_string(id));
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

  std::vector<message_id> order;
  for (const auto &[offset, id] : placed)
    order.push_back(id);
  for (auto i = r; i < books_.size(); i += rooms_.size())
    compare(i, order, v);
}

// One complaint of each kind for a client: the first one tells where to look.
void account::compare(std::size_t client, const std::vector<message_id> &order, verdict &v) const {
  const auto &receipts = books_[client].receipts;
  v.deliveries += receipts.size();
  v.expected += order.size();
  std::map<message_id, std::size_t> count;
  std::uint64_t highest = 0;
  message_id highest_id{};
  bool swapped = false;
  for (const auto &[offset, id] : receipts) {
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
  const auto missing = [&](message_id id) { return !count.contains(id); };
  const auto first = std::find_if(order.begin(), order.end(), missing);
  if (first == order.end())
    return;
  const auto all = std::count_if(first, order.end(), missing);
  v.complaints.push_back(name_of(client) + to_string(*first) + " did not come" +
                         (all == 1 ? "" : ", and " + std::to_string(all - 1) + " more"));
}

std::vector<std::string> check_account() {
  // Four clients in two rooms, of which the first two publish; `spoil` does something wrong to what
  // client 3, in room 1, gets of publisher 1.
  using heard = std::vector<std::pair<std::uint64_t, message_id>>;
  const auto keep = [](account &books, const std::function<void(account &, heard &)> &spoil) {
    heard lists[2];
    std::uint64_t offset = 0;
    for (int n = 0; n < 10; ++n)
      for (std::size_t p = 0; p < 2; ++p) {
        const auto id = books.publish(p);
        books.settle(id, outcome::accepted);
        lists[p].emplace_back(++offset, id);
      }
    auto spoiled = lists[1];
    spoil(books, spoiled);
    const heard *const of[] = {&lists[0], &lists[1], &lists[0], &spoiled};
    for (std::size_t i = 0; i < std::size(of); ++i)
      for (const auto &[at, id] : *of[i])
        books.receive(i, "e", at, id);
    return books.close();
  };
  const struct {
    const char *what;
    const char *said; // "" when nothing is wrong
    std::function<void(account &, heard &)> spoil;
  } cases[] = {
      {"nothing wrong", "", [](account &, heard &) {}},
      {"a message dropped", "client 3, room r1: p1-5 did not come",
       [](account &, heard &h) { h.erase(h.begin() + 4); }},
      {"the last one dropped", "client 3, room r1: p1-10 did not come",
       [](account &, heard &h) { h.pop_back(); }},
      {"a message doubled", "client 3, room r1: p1-5 came twice",
       [](account &, heard &h) { h.insert(h.begin() + 7, h[4]); }},
      {"two swapped", "client 3, room r1: p1-5 came behind p1-6",
       [](account &, heard &h) { std::swap(h[4], h[5]); }},
      {"one accepted that nobody has", "room r1: p1-11 was accepted, and nobody has it",
       [](account &a, heard &) { a.settle(a.publish(1), outcome::accepted); }},
      {"one refused that came", "room r1: p1-5 was refused, and somebody has it",
       [](account &a, heard &) {
         a.settle({1, 5}, outcome::refused);
       }},
      {"one that came to some", "client 1, room r1: p1-11 did not come",
       [](account &a, heard &h) { h.emplace_back(100, a.publish(1)); }},
      {"one published twice", "client 3, room r1: p1-5 has two places: 10 and 100",
       [](account &, heard &h) { h.emplace_back(100, h[4].second); }},
      {"another at its place", "client 3, room r1: at the place 10 others have p1-5, not p0-1",
       [](account &, heard &h) {
         h[4].second = {0, 1};
       }},
  };
  std::vector<std::string> missed;
  for (const auto &one : cases) {
    account books(4, 2, 2);
    const auto v = keep(books, one.spoil);
    const std::string wanted = one.said;
    const bool found = wanted.empty()
                           ? v.good()
                           : !v.good() && std::find(v.complaints.begin(), v.complaints.end(),
                                                    wanted) != v.complaints.end();
    if (found)
      continue;
    std::string said;
    for (const auto &c : v.complaints)
      said += " [" + c + "]";
    missed.push_back(std::string(one.what) + ": expected \"" + wanted + "\", heard" +
                     (said.empty() ? " nothing" : said));
  }
  return missed;
}

} // namespace cluster_demo
