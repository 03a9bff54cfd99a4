// Answers of NATS that others overtake, as they do under load: a relay before the server holds them.

#include "integration/nats_support.hpp"

#include <chorus/cluster/nats_names.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <deque>
#include <filesystem>
#include <future>
#include <map>
#include <set>
#include <thread>

namespace {

namespace asio = boost::asio;
using namespace nats_test;
using asio::ip::tcp;

// One line of the protocol with the payload that it announces; empty: it has not come whole.
std::string take_one(std::string &got) {
  const auto end = got.find("\r\n");
  if (end == got.npos)
    return {};
  auto size = end + 2;
  const auto words = chorus::detail::split(std::string_view(got).substr(0, end), ' ');
  for (const auto *with_payload : {"MSG", "HMSG", "PUB", "HPUB"})
    if (words[0] == with_payload)
      size += chorus::detail::to_number(words.back()) + 2;
  if (got.size() < size)
    return {};
  auto one = got.substr(0, size);
  got.erase(0, size);
  return one;
}

// Asked from the test's thread.
class holding_relay {
public:
  explicit holding_relay(std::uint16_t to)
      : to_(to), listener_(io_, {asio::ip::address_v4::loopback(), 0}), thread_([this] {
          asio::co_spawn(io_, accept(), asio::detached);
          io_.run();
        }) {}
  ~holding_relay() {
    io_.stop();
    thread_.join();
  }
  std::string url() const {
    return "nats://127.0.0.1:" + std::to_string(listener_.local_endpoint().port());
  }
  // Answers to requests of this subject stay here; empty: of none any more.
  void hold(const std::string &subject) {
    asio::post(io_, [this, subject] { subject_ = subject; });
  }
  // The first request with this in it does not reach the server: nobody is there who answers.
  void turn_away(const std::string &text) {
    asio::post(io_, [this, text] { turned_away_ = text; });
  }
  std::size_t held() const { return held_; } // ever
  // The oldest of them goes on.
  void release() {
    asio::post(io_, [this] {
      const auto [to, what] = std::move(kept_.front());
      kept_.pop_front();
      give(to->client, what);
    });
  }

private:
  struct pair {
    explicit pair(tcp::socket from) : client(std::move(from)), server(client.get_executor()) {}
    tcp::socket client, server;
  };
  using shared_pair = std::shared_ptr<pair>;

  asio::awaitable<void> accept() {
    for (;;) {
      auto p = std::make_shared<pair>(co_await listener_.async_accept(asio::use_awaitable));
      boost::system::error_code ec;
      const tcp::endpoint to(asio::ip::address_v4::loopback(), to_);
      co_await p->server.async_connect(to, asio::redirect_error(asio::use_awaitable, ec));
      if (ec)
        continue;
      asio::co_spawn(io_, carry(p, true), asio::detached);
      asio::co_spawn(io_, carry(p, false), asio::detached);
    }
  }
  asio::awaitable<void> carry(shared_pair p, bool up) {
    auto &from = up ? p->client : p->server;
    std::string got;
    std::string some(64 * 1024, ' ');
    boost::system::error_code ec;
    for (;;) {
      const auto space = asio::buffer(some);
      const auto n =
          co_await from.async_read_some(space, asio::redirect_error(asio::use_awaitable, ec));
      if (ec)
        break;
      got.append(some, 0, n);
      for (auto one = take_one(got); !one.empty(); one = take_one(got))
        up ? asked(p, one) : answered(p, one);
    }
    p->client.close(ec);
    p->server.close(ec);
  }
  void asked(const shared_pair &p, const std::string &one) {
    const auto words = chorus::detail::split(one, ' ');
    if (words[0] == "SUB")
      subscriptions_[std::string(words[1])] =
          chorus::detail::to_number(words.back().substr(0, words.back().find('\r')));
    if (words[0].ends_with("PUB") && words[1] == subject_)
      inboxes_.insert(std::string(words[2]));
    if (words[0] == "HPUB" && !turned_away_.empty() && one.find(turned_away_) != one.npos) {
      turned_away_.clear();
      const std::string to(words[2]);
      const auto by = subscriptions_.at(to.substr(0, to.rfind('.')) + ".*");
      give(p->client,
           "HMSG " + to + ' ' + std::to_string(by) + " 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
      return;
    }
    give(p->server, one);
  }
  void answered(const shared_pair &p, const std::string &one) {
    const auto words = chorus::detail::split(one, ' ');
    if (words[0].ends_with("MSG") && inboxes_.contains(std::string(words[1]))) {
      kept_.emplace_back(p, one);
      ++held_;
    } else {
      give(p->client, one);
    }
  }
  static void give(tcp::socket &to, const std::string &what) {
    boost::system::error_code ec;
    asio::write(to, asio::buffer(what), ec);
  }

  const std::uint16_t to_;
  asio::io_context io_{1};
  tcp::acceptor listener_;
  std::string subject_;
  std::string turned_away_;
  std::map<std::string, std::uint64_t> subscriptions_;
  std::set<std::string> inboxes_;
  std::deque<std::pair<shared_pair, std::string>> kept_;
  std::atomic<std::size_t> held_{0};
  std::thread thread_;
};

struct overtaken : one_server {
  static asker node(const std::string &url) {
    chorus::nats_options o;
    o.answer_timeout = 10min; // nothing here waits for its end
    return node_at(url, std::move(o));
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_overtaken, overtaken)

// Two rooms ask for their stream, and the second answer says less than what was published meanwhile.
BOOST_AUTO_TEST_CASE(an_answer_that_comes_late_is_no_loss) {
  auto other = node(server.url());
  const auto first = other.publish("r", "1", kept).value();
  const auto aside = other.publish("q", "1", kept).value();
  server.kill();
  BOOST_REQUIRE(is_down(other));
  const auto copy = server.folder() / "copy";
  std::filesystem::copy(server.data(), copy, std::filesystem::copy_options::recursive);
  server.start();
  BOOST_REQUIRE(is_up(other));
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  between.hold("$JS.API.STREAM.CREATE.chorus-h-10000-0");
  auto second = std::make_shared<std::promise<chorus::result<chorus::broker_position>>>();
  one.engine->publish(one.make("r", "2", kept),
                      [second](auto r) { second->set_value(std::move(r)); });
  BOOST_REQUIRE(becomes_true([&] { return between.held() == 1; }));
  auto page = std::make_shared<std::promise<chorus::result<chorus::broker_page>>>();
  one.engine->history("q", {}, [page](auto r) { page->set_value(std::move(r)); });
  BOOST_REQUIRE(becomes_true([&] { return between.held() == 2; }));
  between.hold({});
  between.release();
  BOOST_CHECK_EQUAL(second->get_future().get().value().epoch, first.epoch);
  const auto third = one.publish("r", "3", kept).value();
  between.release();
  BOOST_CHECK_EQUAL(page->get_future().get().value().epoch, aside.epoch);
  BOOST_CHECK_EQUAL(third.epoch, first.epoch);
  BOOST_CHECK_EQUAL(other.page("r").value().epoch, first.epoch);
  // Nor does it make this server forget how much there was: that is what a loss is known by.
  server.kill();
  BOOST_REQUIRE(is_down(one) && is_down(other));
  std::filesystem::remove_all(server.data());
  std::filesystem::rename(copy, server.data());
  server.start();
  BOOST_REQUIRE(is_up(one) && is_up(other));
  BOOST_CHECK_NE(one.page("r", third).value().epoch, third.epoch);
}

// As at a server that has started and has not yet found all of its streams.
BOOST_AUTO_TEST_CASE(what_found_no_stream_does_not_come_behind_others) {
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  one.publish("r", "0", kept).value();
  between.turn_away("first");
  std::vector<std::promise<chorus::result<chorus::broker_position>>> became(2);
  int i = 0;
  for (const auto *text : {"first", "second"})
    one.engine->publish(one.make("r", text, kept), [&to = became[static_cast<std::size_t>(i++)]](
                                                       auto r) { to.set_value(std::move(r)); });
  const auto first = became[0].get_future().get();
  BOOST_CHECK(became[1].get_future().get().has_value());
  BOOST_REQUIRE(first.has_error());
  BOOST_CHECK(first.error() == chorus::error::lost);
  BOOST_CHECK_EQUAL(one.history("r"), "0 second ");
  // Alone it is sent again.
  between.turn_away("third");
  BOOST_CHECK(one.publish("r", "third", kept).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
