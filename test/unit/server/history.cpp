// What is kept, for how long, and what of it somebody who comes gets; without a room around it.

#include <chorus/server/history.hpp>

#include <boost/test/unit_test.hpp>

#include <string>

using namespace std::chrono_literals;
using namespace chorus::detail;
using chorus::message;
using chorus::room_options;
using chorus::protocol::resume_gap;
using chorus::protocol::resume_position;

namespace {

struct fixture {
  std::shared_ptr<history_budget> budget = std::make_shared<history_budget>(0, 0);
  history_budget::victims gone;
  time_point now{};

  static room_options keeping(std::size_t messages) {
    room_options o;
    o.history_messages = messages;
    return o;
  }
  kept add(history &h, std::string_view text, std::vector<std::string> except = {}) {
    return h.append(message(text), std::move(except), now, gone);
  }
};

std::string texts(const history::answer &a) {
  std::string all;
  for (const auto &k : a.messages)
    all += k->content.str() + " ";
  return all;
}

BOOST_FIXTURE_TEST_SUITE(history_of_a_room, fixture)

BOOST_AUTO_TEST_CASE(an_entry_is_a_frame_of_its_own) {
  history h("lobby", keeping(10), budget);
  const std::string text(300, 'x');
  const auto k = add(h, text);
  BOOST_CHECK_EQUAL(k->offset, 1);
  BOOST_CHECK_EQUAL(k->content.text(), text);
  const auto head = chorus::protocol::write_msg_header("lobby", *h.epoch(), 1);
  BOOST_CHECK_EQUAL(k->enveloped().text(), head + text);
  BOOST_CHECK_EQUAL(k->size, 4 + head.size() + text.size());
  BOOST_CHECK_EQUAL(std::to_integer<unsigned>(k->wire()[0]), 0x81);
  BOOST_CHECK(chorus::protocol::is_resume_token(*h.epoch(), 16));
  BOOST_CHECK(*h.epoch() != random_epoch());
}

// A client may have its place in the new epoch from a server that had lost what this one has.
BOOST_AUTO_TEST_CASE(what_was_before_an_epoch_is_not_given_again) {
  history h("r", keeping(10), budget);
  for (const char *text : {"1", "2", "3"})
    add(h, text);
  h.go_on_in("another", gone);
  add(h, "4");
  const auto at = [&](std::uint64_t offset) {
    resume_position p;
    p.epoch = "another";
    p.offset = offset;
    return h.for_client(&p, "", 0, now);
  };
  BOOST_CHECK(!*at(0).recovered);
  BOOST_CHECK(at(0).why == resume_gap::trimmed);
  BOOST_CHECK_EQUAL(texts(at(0)), "");
  BOOST_CHECK(*at(3).recovered);
  BOOST_CHECK_EQUAL(texts(at(3)), "4 ");
  BOOST_CHECK_EQUAL(texts(h.for_client(nullptr, "", 10, now)), "1 2 3 4 ");
}

BOOST_AUTO_TEST_CASE(bounds_by_number_and_age_and_size) {
  history few("r", keeping(3), budget);
  for (int i = 0; i < 5; ++i)
    add(few, std::to_string(i));
  BOOST_CHECK_EQUAL(texts(few.for_client(nullptr, "", 10, now)), "2 3 4 ");
  auto options = keeping(0);
  options.history_age = 10s;
  history young("r", options, budget);
  add(young, "a");
  now += 6s;
  add(young, "b");
  now += 4s;
  BOOST_CHECK_EQUAL(texts(young.for_client(nullptr, "", 10, now)), "a b ");
  now += 1ms;
  BOOST_CHECK_EQUAL(texts(young.for_client(nullptr, "", 10, now)), "b ");
  now += 20s;
  BOOST_CHECK_EQUAL(texts(young.for_client(nullptr, "", 10, now)), "");
  options = keeping(1000);
  options.history_bytes = 64 * 1024;
  history small("r", options, budget);
  for (int i = 0; i < 100; ++i)
    add(small, std::string(1000, 'x'));
  BOOST_CHECK_GT(small.size(), 40);
  BOOST_CHECK_LT(small.size(), 60);
  add(small, std::string(100'000, 'x')); // larger than all of it
  BOOST_CHECK_EQUAL(small.size(), 0);
  BOOST_CHECK_EQUAL(small.last(), 101);
}

BOOST_AUTO_TEST_CASE(answers) {
  history h("r", keeping(3), budget);
  const auto epoch = *h.epoch();
  const auto ask = [&](std::string e, std::uint64_t offset) {
    const resume_position at{"r", std::move(e), offset};
    return h.for_client(&at, "", 2, now);
  };
  auto a = ask(epoch, 0);
  BOOST_CHECK(a.recovered == true && a.messages.empty());
  BOOST_CHECK(ask(epoch, 1).why == resume_gap::ahead);
  for (int i = 1; i <= 5; ++i)
    add(h, std::to_string(i));
  struct one {
    std::uint64_t offset;
    resume_gap why;
    const char *texts;
    std::uint64_t from;
  };
  const one ways[] = {{0, resume_gap::trimmed, "4 5 ", 3}, {1, resume_gap::trimmed, "4 5 ", 3},
                      {2, resume_gap::none, "3 4 5 ", 2},  {3, resume_gap::none, "4 5 ", 3},
                      {5, resume_gap::none, "", 5},        {6, resume_gap::ahead, "4 5 ", 3}};
  for (const auto &w : ways) {
    BOOST_TEST_CONTEXT("from " << w.offset) {
      a = ask(epoch, w.offset);
      BOOST_CHECK(a.why == w.why);
      BOOST_CHECK(a.recovered == (w.why == resume_gap::none));
      BOOST_CHECK_EQUAL(texts(a), w.texts);
      BOOST_CHECK_EQUAL(a.offset, w.from);
    }
  }
  a = ask("another", 3);
  BOOST_CHECK(a.why == resume_gap::epoch);
  a = h.for_client(nullptr, "", 100, now);
  BOOST_CHECK(!a.recovered);
  BOOST_CHECK_EQUAL(texts(a), "3 4 5 ");
  BOOST_CHECK_EQUAL(a.offset, 2);
  a = h.for_client(nullptr, "", 0, now);
  BOOST_CHECK_EQUAL(a.offset, 5);
}

BOOST_AUTO_TEST_CASE(what_is_not_meant_for_a_client) {
  history h("r", keeping(10), budget);
  add(h, "1", {"me"});
  add(h, "2");
  add(h, "3", {"you", "me"});
  const resume_position start{"r", *h.epoch(), 0};
  BOOST_CHECK_EQUAL(texts(h.for_client(&start, "me", 0, now)), "2 ");
  BOOST_CHECK_EQUAL(texts(h.for_client(&start, "you", 0, now)), "1 2 ");
  BOOST_CHECK_EQUAL(texts(h.for_client(&start, "", 0, now)), "1 2 3 ");
  const auto a = h.for_client(nullptr, "me", 1, now);
  BOOST_CHECK_EQUAL(texts(a), "2 ");
  BOOST_CHECK_EQUAL(a.offset, 1);
}

BOOST_AUTO_TEST_CASE(all_rooms_share_a_budget) {
  budget = std::make_shared<history_budget>(100'000, 2);
  history busy("busy", keeping(1000), budget);
  {
    history other("other", keeping(1000), budget);
    for (int i = 0; i < 40; ++i)
      add(other, std::string(1000, 'x'));
    BOOST_CHECK_GT(budget->bytes(), 40'000);
    budget->set_idle(other.account(), {}, gone);
    BOOST_CHECK_EQUAL(budget->idle(), 1);
    for (int i = 0; i < 60; ++i)
      add(busy, std::string(1000, 'x'));
    BOOST_CHECK_EQUAL(gone.size(), 1); // the idle one has to go, and counts no more
    BOOST_CHECK_EQUAL(busy.size(), 60);
    BOOST_CHECK_LE(budget->bytes(), 100'000);
    // It was wanted again before it had gone: what it has counts, and who publishes pays.
    budget->set_busy(other.account());
    BOOST_CHECK_GT(budget->bytes(), 100'000);
    add(busy, std::string(1000, 'x'));
    BOOST_CHECK_LE(busy.size(), 60);
  }
  for (int i = 0; i < 100; ++i)
    add(busy, std::string(1000, 'x'));
  BOOST_CHECK_LE(budget->bytes(), 100'000);
  BOOST_CHECK_LT(busy.size(), 100);
  gone.clear();
  history a("a", keeping(1), budget), b("b", keeping(1), budget);
  budget->set_idle(busy.account(), {}, gone);
  budget->set_idle(a.account(), {}, gone);
  budget->set_idle(a.account(), {}, gone);
  BOOST_CHECK(gone.empty());
  budget->set_idle(b.account(), {}, gone);
  BOOST_CHECK_EQUAL(gone.size(), 1);
  BOOST_CHECK_EQUAL(budget->bytes(), 0);
}

BOOST_AUTO_TEST_CASE(an_engine_numbers) {
  history h("r", keeping(10), budget);
  BOOST_CHECK(h.adopt("e1", 5, message("5"), {}, now, gone));
  BOOST_CHECK(h.adopt("e1", 9, message("9"), {}, now, gone));
  BOOST_CHECK(!h.adopt("e1", 9, message("9"), {}, now, gone));
  resume_position at{"r", "e1", 7};
  BOOST_CHECK_EQUAL(texts(h.for_client(&at, "", 0, now)), "9 ");
  h.place("e1", 9);
  BOOST_CHECK(h.for_client(&at, "", 0, now).why == resume_gap::trimmed);
  BOOST_CHECK(h.adopt("e2", 1, message("new"), {}, now, gone));
  BOOST_CHECK(h.for_client(&at, "", 0, now).why == resume_gap::epoch);
  BOOST_CHECK_EQUAL(h.size(), 1);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
