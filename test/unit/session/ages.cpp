// How long what waits has waited, and why what was dropped was.

#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_ages)

using namespace chorus;
using namespace chorus::test;
using detail::message_extras;
using detail::outbox;
using detail::time_point;

namespace {

detail::encoder plain() { return detail::encoder(role::server, std::nullopt, {}); }

std::unique_ptr<message_extras> extras(lane how, std::string key = {},
                                       time_point expires = time_point::max()) {
  auto made = std::make_unique<message_extras>();
  made->how = how;
  made->key = std::move(key);
  made->expires = expires;
  return made;
}

void give(outbox &out, std::unique_ptr<message_extras> with) {
  BOOST_CHECK(out.offer(message("hello"), with) == detail::admission::accepted);
}

// As when the kernel has taken ten bytes of a frame, and then no more, at `when`.
void block(outbox &out, time_point when) {
  const auto frame = buffer::allocate(100);
  out.adopt_rest(frame, frame.span().first(100), 10, nullptr, when);
}

} // namespace

BOOST_AUTO_TEST_CASE(the_oldest_of_any_lane_tells_the_age) {
  run([](shard &home) -> task<> {
    const session_options options = quiet();
    for (const auto how : {lane::control, lane::reliable, lane::latest}) {
      outbox out(plain(), options);
      out.use_clock(home);
      BOOST_CHECK(out.oldest_since() == time_point::max());
      const auto far = home.now() + std::chrono::hours(1); // later than what comes below
      block(out, far);
      BOOST_CHECK(out.oldest_since() == far);
      const auto before = home.now();
      give(out, extras(how, "k"));
      const auto after = home.now();
      const auto since = out.oldest_since();
      BOOST_CHECK(since >= before && since <= after);
      give(out, extras(how, "other")); // is younger
      BOOST_CHECK(out.oldest_since() == since);
      out.discard(false);
      BOOST_CHECK(out.oldest_since() == time_point::max());
    }
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(what_takes_the_place_of_another_has_its_age) {
  run([](shard &home) -> task<> {
    auto options = quiet();
    options.on_overflow = overflow::latest;
    for (const auto how : {lane::reliable, lane::latest}) {
      outbox out(plain(), options);
      out.use_clock(home);
      block(out, home.now() + std::chrono::hours(1));
      give(out, extras(how, "k"));
      const auto since = out.oldest_since();
      while (home.now() == since) {
      }
      give(out, extras(how, "k"));
      BOOST_CHECK(out.oldest_since() == since);
      BOOST_CHECK_EQUAL(out.messages_dropped, 1u);
      BOOST_CHECK_EQUAL(out.dropped_oldest + out.dropped_newest + out.messages_expired, 0u);
    }
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(drops_have_reasons) {
  run([](shard &home) -> task<> {
    for (const auto policy : {overflow::drop_oldest, overflow::drop_newest}) {
      auto options = quiet();
      options.on_overflow = policy;
      options.queue_bytes = 200;
      outbox out(plain(), options);
      out.use_clock(home);
      block(out, home.now());
      const auto now = home.now();
      give(out, extras(lane::control, {}, now));
      give(out, extras(lane::reliable, {}, now));
      give(out, extras(lane::latest, {}, now));
      out.expire(now);
      BOOST_CHECK_EQUAL(out.messages_expired, 3u);
      BOOST_CHECK_EQUAL(out.messages_dropped, 3u);
      for (int i = 0; i < 100; ++i) {
        std::unique_ptr<message_extras> none;
        (void)out.offer(message("hello"), none);
      }
      const bool oldest = policy == overflow::drop_oldest;
      BOOST_CHECK_EQUAL(out.messages_expired, 3u);
      BOOST_CHECK(out.messages_dropped > 3u);
      BOOST_CHECK_EQUAL(oldest ? out.dropped_oldest : out.dropped_newest,
                        out.messages_dropped - 3u);
      BOOST_CHECK_EQUAL(oldest ? out.dropped_newest : out.dropped_oldest, 0u);
    }
    co_return;
  });
}

BOOST_AUTO_TEST_SUITE_END()
