#pragma once
// A NATS server of a test's own, and handles to it as nodes would have them.

#include "support/broker_calls.hpp"
#include "support/nats_process.hpp"

#include <chorus/cluster/nats.hpp>

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace nats_test {

using namespace std::chrono_literals;
using test_support::asker;
using test_support::becomes_true;
using test_support::nats_process;

inline asker node_at(const std::string &url, chorus::nats_options o) {
  auto made = chorus::nats(url, std::move(o));
  made->attach({}).value();
  return asker(std::move(made));
}

inline bool is_up(const asker &a) {
  return becomes_true([&] { return a.engine->status().connected; });
}
inline bool is_down(const asker &a) {
  return becomes_true([&] { return !a.engine->status().connected; });
}

inline chorus::nats_options patient() {
  chorus::nats_options o;
  o.connect_timeout = 20s; // on a slow machine, too
  o.answer_timeout = 20s;
  return o;
}

// Also while a cluster looks for a leader, when asking fails.
inline chorus::broker_page page_of(asker &reader, const chorus::broker_position &since = {}) {
  chorus::broker_page page;
  BOOST_REQUIRE(becomes_true([&] {
    auto got = reader.page("r", since);
    if (got.has_error())
      return false;
    page = std::move(*got);
    return true;
  }));
  return page;
}

struct one_server {
  nats_process server;
  chorus::room_options kept;
  one_server() { kept.history_messages = 10'000; }

  asker node(chorus::nats_options o = patient()) const {
    return node_at(server.url(), std::move(o));
  }
};

// Publishes to "r" all the time, each number once, whatever becomes of it.
class steady_publisher {
public:
  steady_publisher(asker &by, const chorus::room_options &kept)
      : by_(by), kept_(kept), thread_([this] { publish(); }) {}
  ~steady_publisher() { end(); }
  steady_publisher(const steady_publisher &) = delete;
  steady_publisher &operator=(const steady_publisher &) = delete;

  // Returns when so many more are kept.
  bool goes_on(std::size_t more = 200) {
    const auto until = kept_so_far_ + more;
    return becomes_true([&] { return kept_so_far_ >= until; });
  }
  // Whether `reader` is given the newest of what was kept before it asked; none: it was refused.
  std::optional<bool> is_read_by(asker &reader) {
    const auto wanted = newest();
    chorus::broker_position since{wanted.epoch, wanted.offset < 500 ? 0 : wanted.offset - 500};
    for (;;) {
      const auto page = reader.page("r", since);
      if (page.has_error())
        return {};
      if (!page->messages.empty())
        since = page->messages.back().at;
      if (!page->more)
        return since.epoch == wanted.epoch && since.offset >= wanted.offset;
    }
  }
  // Ends, and sees that what was kept is there once, in its order and at its place, and what was refused is
  // not.
  void balances(asker &reader) {
    end();
    BOOST_REQUIRE(becomes_true([&] { return answered() == asked_; }));
    std::map<std::size_t, std::uint64_t> there;
    chorus::broker_position since;
    for (bool more = true; more;) {
      const auto page = page_of(reader, since);
      for (const auto &m : page.messages)
        BOOST_CHECK(there.emplace(std::stoul(m.content.str()), m.at.offset).second);
      more = page.more;
      if (more)
        since = page.messages.back().at;
    }
    std::uint64_t last = 0;
    for (const auto &[i, r] : outcomes_) {
      if (r.has_value()) {
        BOOST_REQUIRE(there.contains(i));
        BOOST_CHECK_EQUAL(there[i], r->offset);
        BOOST_CHECK_GT(r->offset, last);
        last = r->offset;
      } else {
        const auto why = r.error();
        BOOST_CHECK_MESSAGE(why == chorus::error::lost || why == chorus::error::timed_out ||
                                why == chorus::error::queue_full,
                            why.message());
        BOOST_CHECK(!there.contains(i));
      }
    }
    BOOST_TEST_MESSAGE(kept_so_far_ << " kept, " << outcomes_.size() - kept_so_far_ << " refused, "
                                    << by_.engine->stats().looked_up << " sent again");
  }

private:
  void publish() {
    while (!over_) {
      const auto i = asked_++;
      auto m = by_.make("r", std::to_string(i), kept_);
      by_.engine->publish(std::move(m), [this, i](auto r) {
        const std::lock_guard lock(mutex_);
        kept_so_far_ += r.has_value();
        if (r.has_value())
          last_ = *r;
        outcomes_.emplace(i, std::move(r));
      });
      std::this_thread::sleep_for(200us); // the pace
    }
  }
  void end() {
    over_ = true;
    if (thread_.joinable())
      thread_.join();
  }
  chorus::broker_position newest() {
    const std::lock_guard lock(mutex_);
    return last_;
  }
  std::size_t answered() {
    const std::lock_guard lock(mutex_);
    return outcomes_.size();
  }

  asker &by_;
  const chorus::room_options kept_;
  std::mutex mutex_;
  std::map<std::size_t, chorus::result<chorus::broker_position>> outcomes_;
  chorus::broker_position last_{}; // kept
  std::atomic<std::size_t> asked_{0}, kept_so_far_{0};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

} // namespace nats_test
