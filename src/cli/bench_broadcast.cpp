// One member publishes with a number of broadcasts outstanding: the next goes out when every member has
// the oldest. Every member gets every broadcast in order, so its own count tells which one it is.
//
// Before the load, text messages make sure that everybody has joined: the publisher repeats "here?"
// until each member has seen one, then sends "go".

#include "fleet.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <bit>

namespace cli {

namespace {

using chorus::task;
using namespace std::chrono_literals;

class broadcast_load : public std::enable_shared_from_this<broadcast_load> {
public:
  explicit broadcast_load(fleet &all)
      : all_(all), load_(all.settings().size), slots_(std::bit_ceil(all.settings().in_flight)),
        missing_(slots_) {
    for (const auto &l : all.lanes()) {
      got_.emplace_back(slots_);
      lanes_ += !l->sessions.empty();
      for (const auto &s : l->sessions)
        if (!publisher_) {
          publisher_ = s;
          home_ = l->index;
        }
    }
    for (auto &m : missing_)
      m = lanes_;
  }

  task<> run() {
    for (auto &l : all_.lanes()) {
      for (std::size_t i = 0; i < l->sessions.size(); ++i)
        all_.begun();
      all_.runtime().spawn(start_lane(shared_from_this(), *l), l->index);
    }
    while (seen_ < all_.settings().connections && all_.errors() == 0 && !all_.interrupted()) {
      co_await publisher_.send("here?");
      co_await chorus::sleep(20ms);
    }
    co_await publisher_.send("go");
    boost::asio::post(all_.runtime().executor(home_), [self = shared_from_this()] {
      self->publish(self->all_.settings().in_flight);
    });
  }

private:
  static task<> start_lane(std::shared_ptr<broadcast_load> self, lane &mine) {
    const auto ex = co_await boost::asio::this_coro::executor;
    for (const auto &s : mine.sessions)
      co_spawn(ex, self->member(self, mine, s), boost::asio::detached);
  }

  task<> member(std::shared_ptr<broadcast_load>, lane &mine, chorus::session s) {
    bool seen = false;
    bool going = false;
    std::uint64_t next = 0;
    for (;;) {
      const auto batch = co_await s.receive_some();
      if (!batch) {
        all_.ended(batch.error());
        co_return;
      }
      const auto now = now_ns();
      std::uint64_t count = 0;
      std::size_t done = 0;
      for (const auto &m : *batch) {
        if (m.is_text()) {
          seen_ += !std::exchange(seen, true);
          going = going || m.text() == "go";
        } else if (going) {
          if (!take(mine, m, next, now)) {
            s.start_close(chorus::close_code::policy_violation);
            break;
          }
          done += complete(mine, next);
          ++next;
          ++count;
        }
      }
      mine.count(count, count * all_.settings().size);
      if (done != 0)
        grant(mine, done);
    }
  }

  bool take(lane &mine, const chorus::message_view &m, std::uint64_t next, std::uint64_t now) {
    const auto size = all_.settings().size;
    if (m.size() == size && (size < stamped_size || load_message::number_of(m) == next)) {
      if (size >= stamped_size && all_.measuring())
        mine.latency.add(now - load_message::time_of(m));
      return true;
    }
    all_.report({chorus::error::protocol, chorus::stage::open,
                 "a broadcast was lost, out of order or not what was sent"});
    return false;
  }

  // True when this was the last member of all to get that broadcast.
  bool complete(lane &mine, std::uint64_t number) {
    const auto slot = number & (slots_ - 1);
    auto &got = got_[mine.index][slot];
    if (++got != mine.sessions.size())
      return false;
    got = 0;
    if (missing_[slot].fetch_sub(1, std::memory_order_acq_rel) != 1)
      return false;
    missing_[slot].store(lanes_, std::memory_order_release);
    return true;
  }

  void grant(lane &mine, std::size_t count) {
    if (mine.index == home_)
      publish(count);
    else
      boost::asio::post(all_.runtime().executor(home_),
                        [self = shared_from_this(), count] { self->publish(count); });
  }

  // On the publisher's thread.
  void publish(std::size_t count) {
    const auto now = now_ns();
    const auto before = number_;
    while (count-- > 0 && all_.sending())
      if (publisher_.try_send(load_.make(now, number_)))
        ++number_;
    all_.lanes()[home_]->expect((number_ - before) * all_.settings().connections);
  }

  fleet &all_;
  load_message load_;
  std::size_t slots_;
  std::vector<std::vector<std::size_t>> got_;     // per lane and slot: members that have it
  std::vector<std::atomic<std::size_t>> missing_; // per slot: lanes that do not have it whole
  std::size_t lanes_ = 0;                         // with members
  std::atomic<std::size_t> seen_{0};
  chorus::session publisher_;
  unsigned home_ = 0;
  std::uint64_t number_ = 0;
};

} // namespace

task<> start_broadcast(fleet &all) {
  const auto load = std::make_shared<broadcast_load>(all);
  co_await load->run();
}

} // namespace cli
