// One client, many threads. Boost.Test's checks are for one thread only: the others count.

#include "scripted.hpp"

#include <atomic>
#include <thread>

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

const auto rethrow = [](std::exception_ptr e) {
  if (e)
    std::rethrow_exception(e);
};

// A thread with an io_context of its own, no part of any runtime.
class foreign_thread {
public:
  explicit foreign_thread(task<> work) {
    asio::co_spawn(context_, std::move(work), rethrow);
    thread_ = std::thread([this] { context_.run(); });
  }
  ~foreign_thread() { thread_.join(); }

private:
  asio::io_context context_;
  std::thread thread_;
};

task<> send_many(client &c, int who, int count, std::atomic<int> &sent) {
  for (int i = 0; i < count; ++i) {
    const auto r = co_await c.send(std::to_string(who) + " " + std::to_string(i));
    if (r)
      ++sent;
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(threads)

BOOST_AUTO_TEST_CASE(senders_on_foreign_threads_keep_their_own_order) {
  constexpr int senders = 4;
  constexpr int count = 500;
  world w(2);
  std::optional<client> c;
  std::atomic<int> done{0};
  std::vector<std::unique_ptr<foreign_thread>> threads;
  w.run([](world &here, std::optional<client> &client_slot, std::atomic<int> &finished,
           std::vector<std::unique_ptr<foreign_thread>> &others) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.shard = 1; // not the shard of this coroutine
    o.outbox_messages = 16;
    o.session.close_timeout = 10min; // nothing here waits for its end
    client_slot.emplace(here.rt, std::move(o));
    for (int who = 0; who < senders; ++who)
      others.push_back(
          std::make_unique<foreign_thread>(send_many(*client_slot, who, count, finished)));
    auto p = co_await l.accept_open();
    std::vector<int> next(senders, 0);
    for (int i = 0; i < senders * count; ++i) {
      const auto got = co_await p.read_text();
      BOOST_REQUIRE(got.has_value());
      const auto who = static_cast<std::size_t>((*got)[0] - '0');
      BOOST_REQUIRE(std::stoi(got->substr(2)) == next[who]);
      ++next[who];
    }
    background<result<>> closing(here.rt.executor(), client_slot->close());
    co_await p.read_text();
    p.close();
    BOOST_TEST((co_await closing.get()).has_value());
  }(w, c, done, threads));
  threads.clear();
  BOOST_TEST(done == senders * count);
  BOOST_TEST(c->stats().messages_sent == static_cast<std::uint64_t>(senders * count));
}

BOOST_AUTO_TEST_CASE(a_receiver_on_a_foreign_thread_loses_nothing_to_its_timer) {
  constexpr int count = 2'000;
  world w(2);
  std::optional<client> c;
  std::unique_ptr<foreign_thread> thread;
  std::atomic<int> finished{0}; // or -1 at the first message that is not the one expected
  w.run([](world &here, std::optional<client> &slot, std::unique_ptr<foreign_thread> &other,
           std::atomic<int> &over) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.shard = 1;
    slot.emplace(here.rt, std::move(o));
    other = std::make_unique<foreign_thread>([](client &from, std::atomic<int> &flag) -> task<> {
      const auto executor = co_await asio::this_coro::executor;
      int next = 0;
      while (next < count) {
        background<result<message>> one(executor, from.receive());
        asio::steady_timer timer(executor, std::chrono::microseconds(200));
        // It may have expired when its message comes, and so run behind the end of this coroutine.
        timer.async_wait([which = one](boost::system::error_code ec) mutable {
          if (!ec && !which.done())
            which.cancel();
        });
        result<message> got = failure(error::cancelled);
        try {
          got = co_await one.get();
        } catch (const boost::system::system_error &) {
          continue;
        }
        if (!got || got->text() != std::to_string(next)) {
          flag = -1;
          co_return;
        }
        ++next;
      }
      flag = 1;
    }(*slot, over));
    auto p = co_await l.accept_open();
    asio::steady_timer pace(here.rt.executor());
    for (int i = 0; i < count;) {
      std::string burst;
      for (int n = 0; n <= i % 7 && i < count; ++n)
        burst += peer::text(std::to_string(i++));
      co_await p.write(std::move(burst));
      pace.expires_after(std::chrono::microseconds(150));
      co_await pace.async_wait(asio::use_awaitable);
    }
    while (over == 0) {
      pace.expires_after(1ms);
      co_await pace.async_wait(asio::use_awaitable);
    }
  }(w, c, thread, finished));
  thread.reset();
  BOOST_TEST(finished == 1);
}

BOOST_AUTO_TEST_CASE(every_verb_from_foreign_threads_while_connections_come_and_go) {
  world w(2);
  std::optional<client> c;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  w.run([](world &here, std::optional<client> &slot, std::atomic<bool> &over,
           std::vector<std::thread> &others) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.shard = 1;
    o.outbox_overflow = chorus::overflow::drop_oldest;
    o.outbox_messages = 8;
    o.check_timeout = 10min; // no ping is answered, and no connection goes for that
    slot.emplace(here.rt, std::move(o));
    for (int i = 0; i < 3; ++i)
      others.emplace_back([&slot, &over] {
        while (!over) {
          (void)slot->try_send("x");
          (void)slot->state();
          (void)slot->stats();
          (void)slot->last_failure();
          (void)slot->current().state();
          slot->reconnect_now();
          std::this_thread::yield();
        }
      });
    for (int round = 0; round < 20; ++round) {
      auto p = co_await l.accept_open(peer::text("hello"));
      BOOST_TEST((co_await slot->connected()).has_value());
      const auto got = co_await slot->receive();
      BOOST_TEST(got.has_value());
      p.reset();
    }
    over = true;
    (void)co_await slot->close(); // the peer may be gone by now
    BOOST_CHECK(slot->state() == client_state::closed);
  }(w, c, stop, threads));
  for (auto &t : threads)
    t.join();
}

BOOST_AUTO_TEST_CASE(destroyed_on_a_foreign_thread_at_any_moment) {
  world w(2);
  w.run([](world &here) -> task<> {
    asio::steady_timer pause(here.rt.executor());
    for (int i = 0; i < 40; ++i) {
      listener l(here);
      auto o = eager({l.url()});
      o.shard = 1;
      auto c = std::make_unique<client>(here.rt, std::move(o));
      (void)c->try_send("x");
      std::optional<peer> p;
      if (i % 2)
        p.emplace(co_await l.accept_open());
      if (i % 4 == 3)
        co_await c->connected();
      std::thread other([gone = std::move(c)]() mutable { gone.reset(); });
      other.join();
      if (p)
        co_await p->wait_gone();
    }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
