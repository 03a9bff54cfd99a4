#pragma once
// Three nodes that publish without a pause while something is done to their engine or to the way there,
// and an account of every message.

#include "integration/cluster_support.hpp"
#include "support/account.hpp"
#include "support/fault_proxy.hpp"

#include <condition_variable>
#include <cstdlib>

namespace cluster_test {

using test_support::account;

// Polls at a pace that leaves the processor to others.
template <class F> bool soon(F f) {
  for (const auto end = std::chrono::steady_clock::now() + 4 * patience;
       std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(5ms))
    if (f())
      return true;
  return f();
}

// What lies between one node and a port of this machine. Its proxy lives on a thread of its own.
class road {
public:
  explicit road(std::uint16_t to)
      : proxy_(std::make_unique<test_support::fault_proxy>(loop_.rt().executor(), to)) {}
  ~road() {
    run([this] { proxy_.reset(); });
  }
  std::uint16_t port() const { return proxy_->port(); }
  // On the proxy's thread.
  template <class F> void on(F f) {
    run([&] { f(*proxy_); });
  }

private:
  static chorus::task<int> call(std::function<void()> f) {
    f();
    co_return 0;
  }
  void run(std::function<void()> f) { loop_.wait(call(std::move(f))); }

  running loop_{1};
  std::unique_ptr<test_support::fault_proxy> proxy_;
};

// Publishes on one node, at a pace and with a bounded number on their way.
class publisher {
public:
  publisher(account &books, char name, std::size_t padding)
      : books_(books), name_(name), padding_(padding, '.') {}
  ~publisher() { stop(); }
  // What the engine answers is told here, from whatever thread.
  void answered(const chorus::broker_message &m,
                const chorus::result<chorus::broker_position> &outcome) {
    using enum account::outcome;
    const auto text = m.content.str().substr(0, m.content.text().find(' '));
    if (text[0] != name_)
      return;
    if (outcome)
      books_.became(text, accepted);
    else
      books_.became(text, outcome.error() == chorus::error::unconfirmed ? unconfirmed : refused,
                    outcome.error().code().message());
    std::lock_guard lock(mutex_);
    accepted_ += outcome.has_value();
    --on_their_way_;
    changed_.notify_all();
  }
  void open(chorus::room to) { room_ = std::move(to); }
  void begin() {
    thread_ = std::thread([this] { work(); });
  }
  // Returns when everything was answered; false when that does not come.
  bool stop() {
    stops_ = true;
    if (thread_.joinable())
      thread_.join();
    return settles();
  }
  // One more, behind all others, until one is accepted; its text.
  std::string last_word() {
    std::string text;
    soon([&] {
      const auto before = accepted();
      text = publish();
      return settles() && accepted() != before;
    });
    return text;
  }
  std::size_t accepted() const {
    std::lock_guard lock(mutex_);
    return accepted_;
  }
  std::size_t on_their_way() const {
    std::lock_guard lock(mutex_);
    return on_their_way_;
  }

private:
  std::string publish() {
    const auto text = std::string(1, name_) + ':' + std::to_string(next_++);
    books_.sent(text);
    {
      std::lock_guard lock(mutex_);
      ++on_their_way_;
    }
    room_.publish(text + ' ' + padding_);
    return text;
  }
  bool settles() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 4 * patience, [this] { return on_their_way_ == 0; });
  }
  void work() {
    while (!stops_) {
      publish();
      std::unique_lock lock(mutex_);
      while (!stops_ && on_their_way_ >= 64)
        changed_.wait_for(lock, 10ms);
      lock.unlock();
      std::this_thread::sleep_for(1ms); // the pace
    }
  }

  account &books_;
  const char name_;
  const std::string padding_;
  chorus::room room_;
  std::thread thread_;
  std::atomic<bool> stops_{false};
  int next_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t accepted_ = 0, on_their_way_ = 0;
};

// A client, and what it gets.
class reader {
public:
  reader(account &books, running &loop, const std::string &name, std::vector<std::string> urls,
         account::reading how)
      : books_(books), name_(name), number_(books.open(name, how)) {
    chorus::client_options options;
    options.urls = std::move(urls);
    options.order = chorus::url_order::shuffled;
    options.backoff = {10ms, 1.5, 100ms};
    options.max_retry_after = 0ms;
    options.resume =
        how == account::reading::resuming ? chorus::resume_mode::require : chorus::resume_mode::off;
    options.on_message = [this](const chorus::message &m) {
      ++got_;
      books_.got(number_, m.str().substr(0, m.text().find(' ')));
    };
    options.on_recovery = [this](const chorus::recovery &r) {
      if (!r.recovered)
        books_.not_recovered(number_, r.why);
      lost_ += !r.recovered;
    };
    client_.emplace(loop.rt(), std::move(options));
  }
  chorus::client &client() { return *client_; }
  int lost() const { return lost_; }
  // Messages that came on its connections, those that it had before included.
  std::uint64_t got() const { return got_ + client_->stats().messages_doubled; }
  std::uint64_t connects() const { return client_->stats().connects; }
  const std::string &name() const { return name_; }
  std::string state() const {
    const auto s = client_->stats();
    return name_ + (client_->current().is_open() ? ": connected" : ": not connected") + ", " +
           std::to_string(s.connects) + " connects, " + std::to_string(s.rooms_recovered) +
           " times recovered, " + std::to_string(s.rooms_lost) + " times not, " +
           std::to_string(s.messages_doubled) + " messages dropped as known";
  }

private:
  account &books_;
  const std::string name_;
  const std::size_t number_;
  std::atomic<int> lost_{0};
  std::atomic<std::uint64_t> got_{0};
  std::optional<chorus::client> client_;
};

class trial {
public:
  using make_engine = std::function<std::shared_ptr<chorus::broker>(std::size_t number)>;

  static constexpr std::size_t count = 3;

  explicit trial(const make_engine &make, std::size_t padding = 0) {
    for (std::size_t i = 0; i < count; ++i) {
      publishers_.push_back(
          std::make_unique<publisher>(books, static_cast<char>('a' + i), padding));
      auto engine = std::make_shared<tap>(make(i));
      engine->on_outcome = [to = publishers_.back().get()](const auto &m, const auto &outcome) {
        to->answered(m, outcome);
      };
      nodes_.push_back(
          std::make_unique<node>(std::move(engine), 12s, [this](chorus::server_options &o) {
            o.on_error = [this](std::string_view what, const chorus::session *) {
              std::lock_guard lock(mutex_);
              ++complaints_[std::string(what)];
            };
          }));
    }
    std::vector<std::string> all;
    for (std::size_t i = 0; i < count; ++i) {
      const auto url = nodes_[i]->server().url() + "/kept";
      all.push_back(url);
      const auto on = std::string(" on ") + static_cast<char>('a' + i);
      add("steady" + on, {url}, account::reading::resuming);
      add("plain" + on, {url}, account::reading::plain);
    }
    add("wanderer", all, account::reading::resuming);
    all_are_in();
    for (std::size_t i = 0; i < count; ++i)
      publishers_[i]->open(nodes_[i]->room("kept"));
    // Whoever is cut off from here on knows its place.
    const auto first = publishers_[0]->last_word();
    BOOST_REQUIRE(soon([&] { return books.all_have(first, true); }));
    for (const auto &p : publishers_)
      p->begin();
    wandering_ = std::thread([this] {
      while (!stops_) {
        readers_.back()->client().current().abort();
        std::this_thread::sleep_for(50ms); // the pace
      }
    });
  }
  ~trial() {
    stop();
    readers_.clear();
    clients_.end();
    for (const auto &n : nodes_)
      n->stop(); // what is answered late is told to publishers, which are there
  }

  node &at(std::size_t number) { return *nodes_[number]; }
  // Every publisher, or all but one, gets so many more accepted.
  void goes_on(std::size_t more = 100, std::size_t without = count) {
    std::vector<std::size_t> want;
    for (const auto &p : publishers_)
      want.push_back(p->accepted() + more);
    const bool good = soon([&] {
      for (std::size_t i = 0; i < count; ++i)
        if (i != without && publishers_[i]->accepted() < want[i])
          return false;
      return true;
    });
    if (!good)
      BOOST_TEST_MESSAGE(print());
    BOOST_REQUIRE_MESSAGE(good, "nothing more is accepted");
  }
  // Some of what was sent fails.
  void fails(std::size_t more = 1) {
    const auto failed = [this] {
      const auto s = books.sum();
      return s.refused + s.unconfirmed;
    };
    const auto want = failed() + more;
    BOOST_REQUIRE(soon([&] { return failed() >= want; }));
  }
  std::uint64_t disconnects() const {
    std::uint64_t sum = 0;
    for (const auto &n : nodes_)
      sum += n->engine->stats().disconnects;
    return sum;
  }
  // The same, once every engine has both connections to its one Redis.
  std::uint64_t disconnects_so_far() const {
    BOOST_REQUIRE(soon([&] {
      for (const auto &n : nodes_)
        if (const auto s = n->engine->stats(); s.connects != s.disconnects + 2)
          return false;
      return true;
    }));
    return disconnects();
  }
  std::size_t told() const { // readers
    std::size_t sum = 0;
    for (const auto &r : readers_)
      sum += r->lost() != 0;
    return sum;
  }

  // No more is published, and what has to come has come: to plain members, too, or to those who resume.
  void comes_to_an_end(bool plain_too) {
    BOOST_CHECK_MESSAGE(stop(), "not everything was answered");
    all_are_in(); // who comes back later, and is told that it can't have what it missed, misses the last, too
    std::vector<std::string> last;
    for (const auto &p : publishers_)
      last.push_back(p->last_word());
    const bool all = soon([&] {
      for (const auto &text : last)
        if (!books.all_have(text, plain_too))
          return false;
      return true;
    });
    BOOST_CHECK_MESSAGE(all, "not everybody got the last messages");
  }
  // Comes to an end, and balances.
  void balances(account::losses allowed) {
    comes_to_an_end(allowed == account::losses::none);
    soon([&] { return imbalances().empty(); });
    BOOST_TEST_MESSAGE(print());
    for (const auto &text : books.complaints(allowed))
      BOOST_ERROR(text);
    for (const auto &text : imbalances())
      BOOST_ERROR(text);
  }
  // Of all nodes, messages that their members would have missed.
  std::uint64_t replayed() const {
    std::uint64_t sum = 0;
    for (const auto &n : nodes_)
      sum += n->room("kept").stats().replayed;
    return sum;
  }
  // On each node a member who was there all the time has what the engine gave as it was published, and what
  // was replayed from the history; and nothing is replayed that the engine was not asked for.
  std::vector<std::string> imbalances() const {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < count; ++i) {
      const auto s = nodes_[i]->room("kept").stats();
      const auto account = std::to_string(s.relayed) + " relayed + " + std::to_string(s.replayed) +
                           " replayed + " + std::to_string(s.unnumbered) + " unnumbered";
      for (const auto &one : {std::cref(*readers_[2 * i]), std::cref(*readers_[2 * i + 1])}) {
        const auto &r = one.get();
        if (r.connects() != 1)
          all.push_back(r.name() + " was cut off");
        else if (r.got() != s.relayed + s.replayed + s.unnumbered)
          all.push_back(r.name() + " got " + std::to_string(r.got()) + ", and not " + account);
      }
      if (const auto read = nodes_[i]->engine->read_again(); s.replayed > read)
        all.push_back("of " + std::to_string(read) + " messages that were read " +
                      std::to_string(s.replayed) + " were replayed");
    }
    return all;
  }
  std::string print() const {
    auto out = books.print();
    for (std::size_t i = 0; i < count; ++i) {
      const auto s = nodes_[i]->engine->stats();
      out += std::string("  engine of ") + static_cast<char>('a' + i) + ": " +
             std::to_string(s.connects) + " connects, " + std::to_string(s.disconnects) +
             " disconnects, " + std::to_string(s.looked_up) + " looked up, " +
             std::to_string(s.gaps) + " gaps, " + std::to_string(s.waiting) + " waiting, " +
             std::to_string(publishers_[i]->on_their_way()) + " on their way\n";
      const auto room = nodes_[i]->room("kept");
      const auto r = room.stats();
      out += "    its room: " + std::to_string(room.size()) + " members, " +
             std::to_string(r.published) + " published, " + std::to_string(r.relayed) +
             " relayed + " + std::to_string(r.replayed) + " replayed of " +
             std::to_string(nodes_[i]->engine->read_again()) + " read again, " +
             std::to_string(r.broker_failures) + " failures of the engine\n";
    }
    for (const auto &one : readers_)
      out += "  " + one->state() + '\n';
    std::lock_guard lock(mutex_);
    for (const auto &[what, times] : complaints_)
      out += "  " + std::to_string(times) + " times told: " + what + "\n";
    return out;
  }

  account books;

private:
  void add(const std::string &name, std::vector<std::string> urls, account::reading how) {
    readers_.push_back(std::make_unique<reader>(books, clients_, name, std::move(urls), how));
  }
  void all_are_in() const {
    BOOST_REQUIRE(soon([&] {
      std::size_t members = 0;
      for (const auto &n : nodes_)
        members += n->room("kept").size();
      return members == readers_.size();
    }));
  }
  bool stop() {
    stops_ = true;
    if (wandering_.joinable())
      wandering_.join();
    bool all = true;
    for (const auto &p : publishers_)
      all = p->stop() && all;
    return all;
  }

  mutable std::mutex mutex_;
  std::map<std::string, int> complaints_;
  std::atomic<bool> stops_{false};
  std::vector<std::unique_ptr<publisher>> publishers_;
  std::vector<std::unique_ptr<node>> nodes_;
  running clients_{2};
  std::vector<std::unique_ptr<reader>> readers_;
  std::thread wandering_;
};

} // namespace cluster_test
