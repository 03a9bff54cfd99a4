#include "cancellable.hpp"
#include "support.hpp"

#include <chorus/transport/dial.hpp>
#include <chorus/transport/resolve.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>

using namespace chorus;
using namespace chorus::test;
using transport::dial;
using transport::dial_options;
using transport::dial_target;
using transport::endpoint;
using transport::listener;
using transport::most_lookups;
using transport::resolve;

namespace {

// Stands in for the system's resolver: names that begin with "held" wait to be let go, then all are
// 127.0.0.1 but those that begin with "missing".
class scripted_resolver {
public:
  scripted_resolver() {
    now() = this;
    transport::system_resolver = &answer;
  }
  ~scripted_resolver() {
    let_all_go();
    until([](transport::resolver_load l) { return l.running == 0; });
    transport::system_resolver = &::getaddrinfo;
  }
  scripted_resolver(const scripted_resolver &) = delete;
  scripted_resolver &operator=(const scripted_resolver &) = delete;

  void let_go(const std::string &host) {
    std::lock_guard lock(mutex_);
    free_.insert(host);
    changed_.notify_all();
  }
  void let_all_go() {
    std::lock_guard lock(mutex_);
    all_free_ = true;
    changed_.notify_all();
  }
  // In the order in which their look-ups began.
  std::vector<std::string> asked() {
    std::lock_guard lock(mutex_);
    return asked_;
  }
  // On the calling thread.
  template <class F> static void until(F done) {
    while (!done(transport::current_resolver_load()))
      std::this_thread::yield();
  }

private:
  static scripted_resolver *&now() {
    static scripted_resolver *one = nullptr;
    return one;
  }
  static int answer(const char *host, const char *service, const addrinfo *hints, addrinfo **out) {
    const std::string name(host);
    auto &self = *now();
    {
      std::unique_lock lock(self.mutex_);
      self.asked_.push_back(name);
      if (name.starts_with("held"))
        self.changed_.wait(
            lock, [&] { return self.all_free_ || self.free_.find(name) != self.free_.end(); });
    }
    if (name.starts_with("missing"))
      return EAI_NONAME;
    return ::getaddrinfo("127.0.0.1", service, hints, out);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> asked_;
  std::set<std::string> free_;
  bool all_free_ = false;
};

using outcome = std::optional<result<std::vector<endpoint>>>;

task<> look(detail::shard &home, std::string host, std::chrono::milliseconds limit, outcome &out) {
  auto looking = resolve(home, host, "80", limit);
  auto found = co_await std::move(looking);
  out.emplace(std::move(found));
}

std::vector<std::string> texts_of(const std::vector<endpoint> &addresses) {
  std::vector<std::string> out;
  for (const auto &one : addresses)
    out.push_back(one.text());
  return out;
}

void begin(detail::shard &home, std::string host, std::chrono::milliseconds limit, outcome &out) {
  asio::co_spawn(home.executor(), look(home, std::move(host), limit, out), asio::detached);
}

// Lets the loop go on until `done`.
template <class F> task<> turns_until(F &done) {
  const auto executor = co_await asio::this_coro::executor;
  while (!done()) {
    std::this_thread::yield();
    co_await asio::post(executor, asio::use_awaitable);
  }
}

task<> until_load(std::size_t running, std::size_t in_line) {
  auto reached = [running, in_line] {
    const auto load = transport::current_resolver_load();
    return load.running == running && load.in_line == in_line;
  };
  co_await turns_until(reached);
}

task<> until_told(outcome &one) {
  auto told = [&one] { return one.has_value(); };
  co_await turns_until(told);
}

task<> until_all_told(std::vector<outcome> &all) {
  for (auto &one : all)
    co_await until_told(one);
}

} // namespace

BOOST_AUTO_TEST_SUITE(resolving)

BOOST_AUTO_TEST_CASE(names_that_hang_hold_up_neither_others_nor_the_end) {
  scripted_resolver names;
  run([](detail::shard &home) -> task<> {
    outcome held[3];
    for (auto &one : held)
      begin(home, "held.test", 1h, one);
    co_await until_load(3, 0);
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE(l.has_value());
    BOOST_REQUIRE((*l)->start(a).has_value());
    dial_target target;
    target.host = "found.test";
    const auto address = (*l)->local_address();
    target.port = address.substr(address.rfind(':') + 1);
    dial_options options;
    options.resolve_timeout = 2min; // of the one that is found
    auto s = co_await dial(home, target, options);
    BOOST_REQUIRE(s.has_value());
    BOOST_TEST((*s)->remote_address() == address);
    co_await until_load(3, 0); // whoever found it is told of before it ends
    for (const auto &one : held)
      BOOST_TEST(!one.has_value());
  });
  BOOST_TEST(transport::current_resolver_load().running == 3U); // they still hang
}

BOOST_AUTO_TEST_CASE(an_answer_for_a_shard_that_has_gone) {
  scripted_resolver names;
  std::weak_ptr<detail::shard> seen;
  outcome never;
  {
    runtime rt{runtime_options{.tick = 5ms}};
    auto &home = *rt.core()->shards.front();
    seen = home.weak_from_this();
    begin(home, "held.test", 1h, never);
    rt.run(until_load(1, 0));
  }
  BOOST_TEST(seen.expired());
  names.let_all_go();
  scripted_resolver::until([](transport::resolver_load l) { return l.running == 0; });
  BOOST_TEST(!never.has_value());
}

BOOST_AUTO_TEST_CASE(a_runtime_that_leaves_a_context_of_the_user) {
  scripted_resolver names;
  asio::io_context io(1);
  outcome left;
  {
    runtime rt(io);
    begin(*rt.core()->shards.front(), "held.test", 1h, left);
    scripted_resolver::until([&io](transport::resolver_load l) {
      io.poll();
      return l.running == 1;
    });
  }
  io.run(); // ends: the coroutine does
  BOOST_REQUIRE(left.has_value());
  BOOST_REQUIRE(!left->has_value());
  BOOST_TEST(left->error() == error::shut_down);
}

BOOST_AUTO_TEST_CASE(so_many_at_a_time_and_the_others_in_turn) {
  scripted_resolver names;
  run<scripted_resolver>(
      [](detail::shard &home, scripted_resolver &all) -> task<> {
        home.use_manual_clock();
        std::vector<outcome> held(most_lookups);
        for (std::size_t i = 0; i < held.size(); ++i)
          begin(home, "held" + std::to_string(i), 1h, held[i]);
        co_await until_load(most_lookups, 0);
        outcome hasty, first, second, missing;
        begin(home, "hasty", 10s, hasty);
        begin(home, "first", 1h, first);
        begin(home, "second", 1h, second);
        begin(home, "missing", 1h, missing);
        co_await until_load(most_lookups, 4);
        home.advance(11s); // gives up in line
        co_await until_load(most_lookups, 3);
        co_await until_told(hasty);
        BOOST_REQUIRE(!hasty->has_value());
        BOOST_TEST(hasty->error() == error::resolve_timeout);
        all.let_go("held3");
        co_await until_told(missing);
        BOOST_TEST(held[3].has_value());
        BOOST_TEST((first && first->has_value()));
        BOOST_TEST((second && second->has_value()));
        BOOST_REQUIRE(!missing->has_value());
        BOOST_TEST(missing->error() == error::resolve_failed);
        BOOST_TEST((missing->error().detail().where == stage::resolve));
        BOOST_TEST(missing->error().message().find("missing is not known (Host not found") !=
                   std::string::npos);
        const auto asked = all.asked();
        const std::vector<std::string> last(asked.end() - 3, asked.end());
        BOOST_TEST(last == (std::vector<std::string>{"first", "second", "missing"}),
                   boost::test_tools::per_element());
        all.let_all_go();
        co_await until_load(0, 0);
        co_await until_all_told(held);
        for (const auto &one : held) {
          BOOST_REQUIRE(one->has_value());
          BOOST_TEST(texts_of(**one) == std::vector<std::string>{"127.0.0.1:80"},
                     boost::test_tools::per_element());
        }
      },
      names);
}

BOOST_AUTO_TEST_CASE(deadline_and_cancellation) {
  scripted_resolver names;
  run<scripted_resolver>(
      [](detail::shard &home, scripted_resolver &all) -> task<> {
        home.use_manual_clock();
        auto dials = [](detail::shard &at, std::optional<failure> &out) -> task<> {
          dial_target target;
          target.host = "held.test";
          target.port = "80";
          dial_options options;
          options.resolve_timeout = 3s;
          auto tried = co_await dial(at, target, options);
          if (!tried)
            out = tried.error();
        };
        std::optional<failure> why, none;
        {
          cancellable late(home, dials(home, why));
          co_await until_load(1, 0);
          home.advance(3100ms);
          const bool over = co_await late.end();
          BOOST_TEST(over);
        }
        BOOST_REQUIRE(why.has_value());
        BOOST_TEST(*why == error::resolve_timeout);
        BOOST_TEST((why->detail().where == stage::resolve));
        BOOST_TEST(why->message().find("looking up held.test took longer than 3000 ms") !=
                   std::string::npos);
        for (const bool in_line : {false, true}) {
          std::vector<outcome> held(in_line ? most_lookups - 2 : 0);
          for (auto &one : held)
            begin(home, "held.other", 1h, one);
          if (in_line)
            co_await until_load(most_lookups, 0);
          cancellable c(home, dials(home, none));
          co_await until_load(in_line ? most_lookups : 2, in_line ? 1 : 0);
          c.cancel();
          const bool over = co_await c.end();
          BOOST_TEST(over);
          BOOST_TEST(c.thrown == asio::error::operation_aborted);
          BOOST_TEST(transport::current_resolver_load().in_line == 0U);
          if (in_line) {
            all.let_all_go();
            co_await until_load(0, 0);
            co_await until_all_told(held);
          }
        }
        BOOST_TEST(!none.has_value());
      },
      names);
}

BOOST_AUTO_TEST_CASE(localhost_and_literals_need_no_resolver) {
  scripted_resolver names;
  run<scripted_resolver>(
      [](detail::shard &home, scripted_resolver &all) -> task<> {
        const std::vector<std::string> both{"[::1]:80", "127.0.0.1:80"};
        for (const char *host : {"localhost", "LocalHost.", "a.localhost", "a.b.LOCALHOST."}) {
          auto looking = resolve(home, host, "80", 0ms);
          auto found = co_await std::move(looking);
          BOOST_REQUIRE(found.has_value());
          BOOST_TEST(texts_of(*found) == both, boost::test_tools::per_element());
        }
        for (const char *host : {"192.0.2.1", "2001:db8::1"}) {
          auto looking = resolve(home, host, "80", 0ms);
          auto found = co_await std::move(looking);
          BOOST_REQUIRE(found.has_value());
          BOOST_REQUIRE(found->size() == 1U);
        }
        BOOST_TEST(all.asked().empty());
        for (const char *host : {"localhost.test", "notlocalhost"}) {
          auto looking = resolve(home, host, "80", 2min);
          auto found = co_await std::move(looking);
          BOOST_TEST(found.has_value());
        }
        BOOST_TEST(all.asked().size() == 2U);
      },
      names);
}

BOOST_AUTO_TEST_SUITE_END()
