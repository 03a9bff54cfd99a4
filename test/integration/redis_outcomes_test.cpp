// Publishes whose answer is lost: each is there once, in its order, or fails and is said to be unconfirmed.

#include "integration/redis_support.hpp"

namespace {

using namespace redis_test;
using test_support::ending;

struct outcomes {
  redis_process redis{std::vector<std::string>{"appendonly yes", "appendfsync always"}};
  proxy between{redis.port()};
  std::unique_ptr<node> far = std::make_unique<node>(between.url());
  node near{redis.unix_url()};

  outcomes() {
    BOOST_REQUIRE(far->comes_up());
    BOOST_REQUIRE(near.comes_up());
    far->publish("other", "0", keep(1)).value();
  }

  // Publishes numbers to a Redis that is stopped, whose connection ends then: by a FIN it executes what it
  // has got before it hears of that, by a reset perhaps. `alone`: there is no new one, either, until
  // the proxy listens again.
  void lose(answers &all, int from, int to, const chorus::room_options &how, ending end,
            bool alone = false) {
    redis.pause();
    const auto before = between.sent();
    std::size_t bytes = 0;
    for (int i = from; i < to; ++i) {
      auto m = far->make("r", std::to_string(i), how);
      m.origin += std::string(4000, '-'); // so that what else is sent counts little
      bytes += m.origin.size();
      far->engine->publish(std::move(m), all.next());
    }
    BOOST_REQUIRE(becomes_true([&] { return between.sent() >= before + bytes; }));
    if (alone)
      between.on_it([](auto &p) { p.refuse(); });
    between.cut(end);
    BOOST_REQUIRE(far->goes_down());
  }

  // Publishes 1, 2 and 3 behind a 0: who listens hears them, and nothing that Redis answers comes back.
  void publish_unanswered(answers &all, test_support::recorder &ear) {
    between.on_it([](auto &p) { p.stall_all(test_support::way::down); });
    for (const char *text : {"1", "2", "3"})
      far->engine->publish(far->make("r", text, keep(1000)), all.next());
    BOOST_REQUIRE(ear.hears("0 1 2 3 "));
  }
  // Until `ear` hears what is published then.
  void restart(bool with_its_data, test_support::recorder &ear) {
    const auto before = ear.gaps();
    redis.kill();
    between.cut(ending::reset);
    BOOST_REQUIRE(far->goes_down());
    BOOST_REQUIRE(near.goes_down());
    redis.restart(with_its_data);
    BOOST_REQUIRE(far->comes_up());
    BOOST_REQUIRE(becomes_true([&] { return ear.gaps() > before; }));
    BOOST_REQUIRE(becomes_true([&] { return near.page("other").has_value(); }));
  }
};

void all_are_confirmed(answers &all) {
  for (const auto &r : all.all())
    BOOST_CHECK_MESSAGE(r.has_value(), r.error().message());
}
void all_are_unconfirmed(answers &all, const char *why = "") {
  for (const auto &r : all.all()) {
    BOOST_REQUIRE(r.has_error());
    BOOST_CHECK(r.error() == chorus::error::unconfirmed);
    BOOST_CHECK(r.error().message().find(why) != std::string::npos);
  }
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(redis_outcomes, outcomes)

BOOST_AUTO_TEST_CASE(what_was_kept_is_there_once_and_in_order) {
  const auto ear = near.listen("r");
  const auto own = far->listen("r");
  far->publish("r", "0", keep(1000)).value();
  int n = 1;
  for (const auto end : {ending::fin, ending::reset, ending::fin, ending::reset, ending::fin}) {
    answers all;
    lose(all, n, n + 10, keep(1000), end);
    redis.resume();
    BOOST_REQUIRE(far->comes_up());
    for (int i = n + 10; i < n + 20; ++i) // behind those that are looked up
      far->engine->publish(far->make("r", std::to_string(i), keep(1000)), all.next());
    n += 20;
    all_are_confirmed(all);
    BOOST_REQUIRE_EQUAL(near.history("r"), numbers(0, n));
  }
  BOOST_CHECK(ear->hears(numbers(0, n)));
  BOOST_CHECK_EQUAL(ear->gaps(), 0);
  BOOST_CHECK(becomes_true([&] { return own->gaps() > 0; })); // its own connection was lost
  BOOST_CHECK(becomes_true([&] { return far->engine->stats().looked_up >= 50; }));
}

BOOST_AUTO_TEST_CASE(a_node_that_does_not_listen_finds_out_as_well) {
  answers all;
  lose(all, 0, 10, keep(1000), ending::fin);
  redis.resume();
  all_are_confirmed(all);
  BOOST_CHECK_EQUAL(near.history("r"), numbers(0, 10));
}

BOOST_AUTO_TEST_CASE(what_passes_can_not_be_looked_up) {
  far->publish("r", "0").value();
  answers all;
  lose(all, 0, 3, {}, ending::fin);
  redis.resume();
  all_are_unconfirmed(all);
  BOOST_REQUIRE(far->comes_up());
  BOOST_CHECK(far->publish("r", "4").has_value());
}

BOOST_AUTO_TEST_CASE(what_was_trimmed_meanwhile_is_unconfirmed) {
  far->publish("r", "0", keep(1)).value();
  answers all;
  lose(all, 1, 2, keep(1), ending::fin, true);
  redis.resume();
  for (int i = 0; i < 300; ++i)
    near.publish("r", "other", keep(1)).value();
  near.page("r").value(); // trims exactly
  between.on_it([](auto &p) { p.listen_again(); });
  all_are_unconfirmed(all, "trimmed");
}

// Members have it, and Redis does not any more: sent again they would get it twice.
BOOST_AUTO_TEST_CASE(what_redis_has_lost_is_unconfirmed_and_not_sent_again) {
  const auto ear = near.listen("r");
  far->publish("r", "0", keep(1000)).value();
  answers all;
  publish_unanswered(all, *ear);
  restart(false, *ear);
  all_are_unconfirmed(all, "was restarted");
  far->publish("r", "4", keep(1000)).value();
  BOOST_CHECK(ear->hears(numbers(4, 5)));
  BOOST_CHECK_EQUAL(near.history("r"), numbers(4, 5));
}

// The same process has thrown all away.
BOOST_AUTO_TEST_CASE(what_went_with_all_data_is_unconfirmed) {
  const auto ear = near.listen("r");
  const auto own = far->listen("r");
  far->publish("r", "0", keep(1000)).value();
  BOOST_REQUIRE(own->hears("0 "));
  answers all;
  publish_unanswered(all, *ear);
  redis.ask({"FLUSHALL"});
  between.cut(ending::reset);
  all_are_unconfirmed(all, "data are gone");
  BOOST_REQUIRE(far->comes_up());
  far->publish("r", "4", keep(1000)).value();
  BOOST_CHECK(ear->hears(numbers(4, 5)));
}

BOOST_AUTO_TEST_CASE(what_a_restarted_redis_still_has_is_confirmed) {
  const auto ear = near.listen("r");
  far->publish("r", "0", keep(1000)).value();
  answers all;
  publish_unanswered(all, *ear);
  restart(true, *ear);
  all_are_confirmed(all);
  far->publish("r", "4", keep(1000)).value();
  BOOST_CHECK(ear->hears(numbers(4, 5)));
  BOOST_CHECK_EQUAL(near.history("r"), numbers(0, 5));
}

// Whether a Redis that has gone had executed it, nobody knows, even where it is looked up twice.
BOOST_AUTO_TEST_CASE(what_a_redis_took_with_it_is_unconfirmed_for_good) {
  far->publish("r", "0", keep(1000)).value();
  answers all;
  lose(all, 1, 4, keep(1000), ending::reset, true);
  redis.restart(); // as it stands: it does nothing more
  BOOST_REQUIRE(becomes_true([&] { return near.page("other").has_value(); }));
  between.on_it([](auto &p) { p.listen_again(); });
  all_are_unconfirmed(all);
  BOOST_CHECK(far->publish("r", "4", keep(1000)).has_value());
  BOOST_CHECK_EQUAL(near.history("r"), "0 4 ");
}

// Who hears nothing, since its connection for subscriptions is silent, knows its own messages.
BOOST_AUTO_TEST_CASE(what_was_answered_can_be_missed_later) {
  auto endless = patient();
  endless.answer_timeout = 10min;
  far = std::make_unique<node>(between.url(), endless);
  BOOST_REQUIRE(far->comes_up());
  between.on_it([](auto &p) {
    test_support::faults silent;
    silent.stall_down = 0;
    p.always(silent);
  });
  const auto ear = std::make_shared<recorder>();
  far->engine->subscribe("r", ear, [](const auto &) {});
  const auto first = far->publish("r", "1", keep(10)).value();
  redis.ask({"HSET", "chorus:{r}:m", "l", std::to_string(first.offset - 1)}); // as if it were lost
  const auto second = far->publish("r", "2", keep(10)).value();
  BOOST_CHECK_NE(second.epoch, first.epoch);
  BOOST_CHECK_GT(second.offset, first.offset);
}

BOOST_AUTO_TEST_CASE(what_can_not_be_looked_up_in_time_is_unconfirmed) {
  auto impatient = patient();
  impatient.look_up_timeout = 300ms;
  far = std::make_unique<node>(between.url(), impatient);
  BOOST_REQUIRE(far->comes_up());
  far->publish("r", "0", keep(10)).value();
  answers all;
  lose(all, 1, 4, keep(10), ending::reset, true);
  all_are_unconfirmed(all);
  BOOST_CHECK(far->publish("r", "4", keep(10)).error() == chorus::error::lost);
  redis.resume();
  between.on_it([](auto &p) { p.listen_again(); });
  BOOST_REQUIRE(far->comes_up());
  BOOST_CHECK(far->publish("r", "5", keep(10)).has_value());
  BOOST_CHECK_GT(far->engine->stats().refused, 0U);
}

BOOST_AUTO_TEST_SUITE_END()
