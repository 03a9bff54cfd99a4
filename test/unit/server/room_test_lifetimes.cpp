// Handles may outlive what they name, in any order.

#include "unit/server/room_support.hpp"

#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <functional>
#include <numeric>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_lifetimes)

session_options patient() {
  auto options = quiet();
  options.queue_messages = 1; // overflow::wait
  return options;
}

// A room with a member that takes nothing: a message begun, one queued, a broadcast that waits for
// room in the queue.
struct scene {
  std::optional<runtime> rt{std::in_place, runtime_options{.threads = 1, .tick = 5ms}};
  std::shared_ptr<hub> rooms = make_hub(*rt->core()->shards.front());
  room lobby = rooms->get("lobby");
  seat held;
  session member;
  stream_ptr peer;

  static task<> set_up(scene &s) {
    auto &home = *s.rt->core()->shards.front();
    auto [near, far] = transport::make_memory_pair(home, home);
    near->stall_writes(true);
    s.peer = std::move(far);
    s.member = open(std::move(near), role::server, patient());
    s.rooms->admit(s.member);
    s.held = co_await seated(s.lobby, s.member);
    s.lobby.publish("begun");
    s.lobby.publish("queued");
    co_await once_round();
    s.rt->spawn(wait_for_report(s.lobby));
    s.rt->spawn(wait_for_report(s.rooms->everyone()));
    co_await rounds(2);
    BOOST_CHECK(s.member.core()->has_send_waiters());
  }
  // And publishes of a turn that never ends.
  static task<> set_up_and_publish(scene &s) {
    co_await set_up(s);
    s.lobby.publish("never flushed");
    s.rooms->everyone().publish("neither", {.key = "k"});
  }
  static task<> wait_for_report(room r) { (void)co_await r.broadcast("waits"); }
};

BOOST_AUTO_TEST_CASE(everything_may_go_in_any_order) {
  std::array<int, 6> order;
  std::iota(order.begin(), order.end(), 0);
  do {
    scene s;
    s.rt->run(scene::set_up_and_publish(s));
    for (const int next : order) {
      const std::function<void()> steps[] = {
          [&] { s.rt.reset(); },    [&] { s.rooms.reset(); },      [&] { s.lobby = room(); },
          [&] { s.held = seat(); }, [&] { s.member = session(); }, [&] { s.peer.reset(); },
      };
      steps[next]();
      // Whatever is left still takes calls.
      s.lobby.publish("late");
      s.held.publish("late", {.except = s.member});
      (void)s.lobby.stats();
      (void)s.lobby.size();
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

struct farewell {
  room r;
  ~farewell() {
    r.publish("one of us has gone");
    r.publish("with a key", {.key = "k"});
  }
};
task<> says_farewell(shard &home, room r) {
  farewell last{r};
  asio::steady_timer never(home.context(), 1h);
  co_await never.async_wait(asio::use_awaitable);
}
BOOST_AUTO_TEST_CASE(a_handler_destroyed_with_its_runtime_may_publish) {
  scene s;
  s.rt->spawn(says_farewell(*s.rt->core()->shards.front(), s.lobby));
  s.rt->run(scene::set_up(s));
  s.rt.reset();
  BOOST_CHECK_EQUAL(s.lobby.size(), 0);
}

task<> some_rounds() { co_await rounds(5); }
template <class T> task<T> just_await(task<T> work) { co_return co_await std::move(work); }

BOOST_AUTO_TEST_CASE(verbs_answer_after_the_runtime_has_gone) {
  scene s;
  s.rt->run(scene::set_up(s));
  // One waits already, on a context of the caller's own.
  asio::io_context outside;
  std::optional<broadcast_report> early;
  std::optional<broadcast_report> late;
  const auto into = [](std::optional<broadcast_report> &to) {
    return [&to](std::exception_ptr e, broadcast_report r) {
      BOOST_CHECK(!e);
      to = std::move(r);
    };
  };
  asio::co_spawn(outside, just_await(s.lobby.broadcast("x")), into(early));
  outside.poll();
  s.rt->core()->shards.front()->context().restart();
  s.rt->run(some_rounds());
  outside.restart();
  outside.poll();
  BOOST_CHECK(!early);
  s.rt.reset();
  outside.restart();
  outside.run();
  BOOST_REQUIRE(early);
  BOOST_CHECK_EQUAL(early->total(), 0);

  asio::co_spawn(outside, just_await(s.lobby.broadcast("x", {.deadline = 1s})), into(late));
  std::optional<result<seat>> joined;
  asio::co_spawn(outside, just_await(s.lobby.join(s.member)),
                 [&](std::exception_ptr e, result<seat> r) {
                   BOOST_CHECK(!e);
                   joined.emplace(std::move(r));
                 });
  std::optional<std::vector<session_id>> ids;
  asio::co_spawn(outside, just_await(s.lobby.members()),
                 [&](std::exception_ptr e, std::vector<session_id> r) {
                   BOOST_CHECK(!e);
                   ids.emplace(std::move(r));
                 });
  outside.restart();
  outside.run();
  BOOST_REQUIRE(late && joined && ids);
  BOOST_CHECK_EQUAL(late->total(), 0);
  BOOST_REQUIRE(joined->has_error());
  BOOST_CHECK(joined->error() == error::shut_down);
  BOOST_CHECK(ids->empty());
  BOOST_CHECK_EQUAL(s.lobby.size(), 0);
}

// Around a context of the user's own, which goes on after the runtime.
task<> one_broadcast(room r, bool &ended) {
  (void)co_await r.broadcast("waits");
  ended = true;
}
task<> set_up_wrapped(shard &home, room lobby, session &member, seat &held, stream_ptr &peer) {
  auto [near, far] = transport::make_memory_pair(home, home);
  near->stall_writes(true);
  peer = std::move(far);
  member = open(std::move(near), role::server, patient());
  held = co_await seated(lobby, member);
}
BOOST_AUTO_TEST_CASE(a_broadcast_ends_with_a_runtime_around_a_users_context) {
  asio::io_context context;
  bool ended = false;
  room lobby;
  session member;
  seat held;
  stream_ptr peer;
  {
    runtime rt(context);
    auto &home = *rt.core()->shards.front();
    const auto rooms = make_hub(home);
    lobby = rooms->get("lobby");
    asio::co_spawn(context, set_up_wrapped(home, lobby, member, held, peer), asio::detached);
    context.poll();
    BOOST_REQUIRE_EQUAL(lobby.size(), 1);
    asio::co_spawn(context, one_broadcast(lobby, ended), asio::detached);
    context.restart();
    context.poll();
    BOOST_CHECK(!ended);
    lobby.publish("never flushed");
  }
  context.restart();
  context.poll();
  BOOST_CHECK(ended);
  BOOST_CHECK_EQUAL(lobby.size(), 0);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
