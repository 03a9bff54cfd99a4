#include <chorus/async/poller.hpp>

#include <boost/test/unit_test.hpp>

#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

using chorus::detail::poll_entry;
using chorus::detail::poller;
using chorus::detail::ready_hangup;
using chorus::detail::ready_read;
using chorus::detail::ready_write;

namespace {

struct ready_probe : chorus::detail::ready_listener {
  void on_ready(unsigned what) noexcept override {
    told.push_back(what);
    if (then)
      then();
  }
  std::vector<unsigned> told;
  std::function<void()> then;
};

struct pair {
  pair() {
    BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd.data()), 0);
  }
  ~pair() {
    for (const int d : fd)
      ::close(d);
  }
  void send() const { BOOST_REQUIRE_EQUAL(::send(fd[1], "x", 1, 0), 1); }
  std::array<int, 2> fd{};
};

} // namespace

BOOST_AUTO_TEST_SUITE(pollers)

BOOST_AUTO_TEST_CASE(is_level_triggered_and_follows_the_interest) {
  poller p;
  const pair s;
  ready_probe r;
  auto *entry = p.add(s.fd[0], r, ready_read);
  BOOST_REQUIRE(entry);
  BOOST_TEST(p.size() == 1U);
  BOOST_TEST(!p.dispatch());
  BOOST_TEST(r.told.empty());
  s.send();
  p.dispatch();
  p.dispatch();
  BOOST_TEST(r.told == (std::vector<unsigned>{ready_read, ready_read}),
             boost::test_tools::per_element());
  p.modify(*entry, ready_read | ready_write);
  p.dispatch();
  BOOST_TEST(r.told.back() == (ready_read | ready_write));
  p.modify(*entry, 0);
  r.told.clear();
  p.dispatch();
  BOOST_TEST(r.told.empty());
  p.remove(entry);
  p.remove(nullptr);
  BOOST_TEST(p.size() == 0U);
}

BOOST_AUTO_TEST_CASE(what_the_kernel_refuses_gives_null) {
  poller p;
  ready_probe r;
  BOOST_TEST(p.add(-1, r, ready_read) == nullptr);
  BOOST_TEST(errno == EBADF);
  BOOST_TEST(p.size() == 0U);
}

BOOST_AUTO_TEST_CASE(a_hangup_without_interest_is_told_once) {
  poller p;
  ready_probe r;
  pair s;
  auto *entry = p.add(s.fd[0], r, 0);
  ::shutdown(s.fd[1], SHUT_RDWR);
  for (int i = 0; i < 5; ++i)
    p.dispatch();
  BOOST_TEST(r.told == (std::vector<unsigned>{ready_hangup}), boost::test_tools::per_element());
  p.remove(entry);
  // With an interest it is told each time.
  entry = p.add(s.fd[0], r, ready_read);
  r.told.clear();
  p.dispatch();
  p.dispatch();
  BOOST_REQUIRE_EQUAL(r.told.size(), 2U);
  BOOST_TEST(r.told[1] == (ready_read | ready_hangup));
  p.remove(entry);
}

BOOST_AUTO_TEST_CASE(entries_may_be_removed_while_told) {
  poller p;
  std::array<pair, 3> s;
  std::array<ready_probe, 3> r;
  std::array<poll_entry *, 3> entries{};
  for (std::size_t i = 0; i < 3; ++i) {
    entries[i] = p.add(s[i].fd[0], r[i], ready_read);
    s[i].send();
  }
  // The first to be told removes them all, itself included, and adds one again.
  ready_probe fresh;
  poll_entry *added = nullptr;
  for (auto &one : r)
    one.then = [&] {
      for (auto *&e : entries)
        p.remove(std::exchange(e, nullptr));
      added = p.add(s[0].fd[0], fresh, ready_read);
    };
  p.dispatch();
  BOOST_TEST(r[0].told.size() + r[1].told.size() + r[2].told.size() == 1U);
  BOOST_TEST(fresh.told.empty());
  p.dispatch();
  BOOST_TEST(fresh.told.size() == 1U);
  BOOST_TEST(p.size() == 1U);
  p.remove(added);
}

BOOST_AUTO_TEST_CASE(a_full_batch_says_that_there_may_be_more) {
  poller p;
  std::vector<std::unique_ptr<pair>> s;
  std::vector<poll_entry *> entries;
  ready_probe r;
  for (int i = 0; i < 400; ++i) {
    s.push_back(std::make_unique<pair>());
    for (const int fd : s.back()->fd)
      entries.push_back(p.add(fd, r, ready_write));
  }
  BOOST_TEST(p.dispatch());
  BOOST_TEST(r.told.size() == 512U);
  for (auto *e : entries)
    p.remove(e);
  BOOST_TEST(!p.dispatch());
}

BOOST_AUTO_TEST_SUITE_END()
