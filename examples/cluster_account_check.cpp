#include "cluster_account.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace cluster_demo {

namespace {

struct heard {
  std::uint64_t offset = 0;
  message_id id{};
};

// Four clients in two rooms, of which the first two publish, and a plain reader in each. What is done wrong
// is done to what client 3, in room 1, gets of publisher 1, or to what that room's reader gets.
struct story {
  account books{4, 2, 2};
  std::vector<heard> all[2];  // of each room
  std::vector<heard> third{}; // of client 3
  std::vector<message_id> overheard{};
  std::uint64_t offset = 0;

  void publish(int times) {
    for (int n = 0; n < times; ++n)
      for (std::size_t p = 0; p < 2; ++p) {
        const auto id = books.publish(p);
        books.settle(id, outcome::accepted);
        all[p].push_back({++offset, id});
      }
    third = all[1];
  }
  void deliver(std::string_view epoch) {
    const std::vector<heard> *const of[] = {&all[0], &all[1], &all[0], &third};
    for (std::size_t i = 0; i < std::size(of); ++i)
      for (const auto &[at, id] : *of[i])
        books.receive(i, epoch, at, id);
    for (auto &one : all)
      one.clear();
  }
  verdict close() {
    books.overhear(0, {0, 1});
    for (const auto id : overheard)
      books.overhear(1, id);
    return books.close();
  }
};

struct trial {
  const char *what;
  const char *said; // "" when nothing is wrong
  std::function<void(story &)> spoil;
};

verdict play(const trial &one) {
  story s;
  s.publish(10);
  for (const auto &[offset, id] : s.third)
    s.overheard.push_back(id);
  one.spoil(s);
  s.deliver("e");
  return s.close();
}

// The engine has lost its data, and all but `untold` are told so.
verdict play_loss(std::size_t untold, const std::function<void(story &)> &before,
                  const std::function<void(story &)> &after) {
  story s;
  s.publish(5);
  s.overheard = {{1, 1}};
  before(s);
  s.deliver("e");
  s.books.lose();
  for (std::size_t i = 0; i < s.books.clients(); ++i)
    if (i != untold)
      s.books.tell(i, "epoch");
  s.publish(5);
  after(s);
  s.deliver("f");
  return s.close();
}

void judge(const char *what, const std::string &wanted, const verdict &v,
           std::vector<std::string> &missed) {
  const auto &all = v.complaints;
  if (wanted.empty() ? v.good()
                     : !v.good() && std::find(all.begin(), all.end(), wanted) != all.end())
    return;
  std::string said;
  for (const auto &c : all)
    said += " [" + c + "]";
  missed.push_back(std::string(what) + ": expected \"" + wanted + "\", heard" +
                   (said.empty() ? " nothing" : said));
}

void check_losses(std::vector<std::string> &missed) {
  const auto nothing = [](story &) {};
  const auto drop = [](story &s) { s.third.erase(s.third.begin() + 2); };
  const std::size_t nobody = 4;
  judge("a loss of which all are told", "", play_loss(nobody, nothing, nothing), missed);
  judge("one that came to some before the loss", "", play_loss(nobody, drop, nothing), missed);
  judge("one dropped after the loss", "client 3, room r1: p1-8 did not come",
        play_loss(nobody, nothing, drop), missed);
  judge("a loss of which one is not told", "client 3, room r1: was not told of what is lost",
        play_loss(3, nothing, nothing), missed);
  judge("an epoch that changes for one who is not told",
        "client 3, room r1: the room's epoch changed from e to f at p1-6, and it was not told",
        play_loss(3, nothing, nothing), missed);
  judge("one not told who hears nothing more either",
        "client 3, room r1: was not told of what is lost",
        play_loss(3, nothing, [](story &s) { s.third.clear(); }), missed);
}

void check_idle_rooms(std::vector<std::string> &missed) {
  const auto expect = [&](const char *when, const account &books, std::size_t room) {
    if (const auto idle = books.idle_room(); idle != room)
      missed.push_back(std::string(when) + ": expected room " + std::to_string(room) +
                       " to be idle, not " + std::to_string(idle));
  };
  account books(4, 2, 2);
  const auto late = books.publish(0);
  books.receive(1, "e", 1, books.publish(1));
  books.begin_stage();
  books.settle(late, outcome::accepted);
  books.receive(0, "e", 1, late);
  expect("only what is older was accepted", books, 0);
  const auto first = books.publish(0);
  books.settle(first, outcome::accepted);
  expect("nobody has it", books, 0);
  books.receive(2, "e", 2, first);
  expect("the other room has nothing", books, 1);
  const auto second = books.publish(1);
  books.receive(1, "e", 2, second);
  expect("it was not accepted", books, 1);
  books.settle(second, outcome::accepted);
  expect("both go on", books, 2);
}

} // namespace

std::vector<std::string> check_account() {
  const trial trials[] = {
      {"nothing wrong", "", [](story &) {}},
      {"a message dropped", "client 3, room r1: p1-5 did not come",
       [](story &s) { s.third.erase(s.third.begin() + 4); }},
      {"the last one dropped", "client 3, room r1: p1-10 did not come",
       [](story &s) { s.third.pop_back(); }},
      {"a message doubled", "client 3, room r1: p1-5 came twice",
       [](story &s) { s.third.insert(s.third.begin() + 7, heard(s.third[4])); }},
      {"two swapped", "client 3, room r1: p1-5 came behind p1-6",
       [](story &s) { std::swap(s.third[4], s.third[5]); }},
      {"one accepted that nobody has", "room r1: p1-11 was accepted, and nobody has it",
       [](story &s) { s.books.settle(s.books.publish(1), outcome::accepted); }},
      {"one refused that came", "room r1: p1-5 was refused, and somebody has it",
       [](story &s) {
         s.books.settle({1, 5}, outcome::refused);
       }},
      {"one that came to some", "client 1, room r1: p1-11 did not come",
       [](story &s) {
         s.third.push_back({100, s.books.publish(1)});
       }},
      {"one published twice", "client 3, room r1: p1-5 has two places: 10 and 100",
       [](story &s) {
         s.third.push_back({100, s.third[4].id});
       }},
      {"another at its place", "client 3, room r1: at the place 10 others have p1-5, not p0-1",
       [](story &s) {
         s.third[4].id = {0, 1};
       }},
      {"one of another room", "client 3, room r1: got p0-1, which nobody published here",
       [](story &s) {
         s.third.push_back({100, {0, 1}});
       }},
      {"one of an unknown publisher", "client 3, room r1: got p7-1, which nobody published here",
       [](story &s) {
         s.third.push_back({100, {7, 1}});
       }},
      {"one that was not published yet",
       "client 3, room r1: got p1-11, which nobody published here",
       [](story &s) {
         s.third.push_back({100, {1, 11}});
       }},
      {"told of a gap without a loss",
       "client 3, room r1: was told that it can't have what it missed (trimmed)",
       [](story &s) { s.books.tell(3, "trimmed"); }},
      {"one doubled to a plain reader", "plain reader of room r1: p1-5 came twice, or behind p1-5",
       [](story &s) {
         s.overheard.insert(s.overheard.begin() + 5, message_id{1, 5});
       }},
      {"two swapped to a plain reader", "plain reader of room r1: p1-5 came twice, or behind p1-6",
       [](story &s) { std::swap(s.overheard[4], s.overheard[5]); }},
      {"one dropped to a plain reader", "",
       [](story &s) { s.overheard.erase(s.overheard.begin() + 4); }},
      {"a plain reader of nothing", "plain reader of room r1: got nothing",
       [](story &s) { s.overheard.clear(); }},
      {"one of another room to a plain reader",
       "plain reader of room r1: got p0-1, which nobody published here",
       [](story &s) {
         s.overheard.push_back({0, 1});
       }},
      {"one that only a plain reader has", "room r1: its plain reader has p1-11, and nobody else",
       [](story &s) { s.overheard.push_back(s.books.publish(1)); }},
  };
  std::vector<std::string> missed;
  for (const auto &one : trials)
    judge(one.what, one.said, play(one), missed);
  check_losses(missed);
  check_idle_rooms(missed);
  return missed;
}

} // namespace cluster_demo
