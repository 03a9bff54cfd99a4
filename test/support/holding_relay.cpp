#include "support/holding_relay.hpp"

#include <chorus/cluster/nats_names.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace test_support {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

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

void give(tcp::socket &to, const std::string &what) {
  boost::system::error_code ec;
  asio::write(to, asio::buffer(what), ec);
}

} // namespace

struct holding_relay::pair {
  explicit pair(tcp::socket from) : client(std::move(from)), server(client.get_executor()) {}
  tcp::socket client, server;
};

holding_relay::holding_relay(std::uint16_t to)
    : to_(to), listener_(io_, {asio::ip::address_v4::loopback(), 0}), thread_([this] {
        asio::co_spawn(io_, accept(), asio::detached);
        io_.run();
      }) {}

holding_relay::~holding_relay() {
  io_.stop();
  thread_.join();
}

std::string holding_relay::url() const {
  return "nats://127.0.0.1:" + std::to_string(listener_.local_endpoint().port());
}

void holding_relay::hold(const std::string &subject) {
  asio::post(io_, [this, subject] { subject_ = subject; });
}

void holding_relay::turn_away(const std::string &text, unsigned times, unsigned status) {
  asio::post(io_, [this, text, times, status] {
    turned_away_ = text;
    turns_ = times;
    status_ = std::to_string(status);
  });
}

void holding_relay::change(const std::string &text, const std::string &instead) {
  asio::post(io_, [this, text, instead] {
    changed_ = text;
    instead_ = instead;
  });
}

void holding_relay::release() {
  asio::post(io_, [this] {
    const auto [to, what] = std::move(kept_.front());
    kept_.pop_front();
    give(to->client, what);
  });
}

asio::awaitable<void> holding_relay::accept() {
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

asio::awaitable<void> holding_relay::carry(shared_pair p, bool up) {
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

void holding_relay::asked(const shared_pair &p, const std::string &one) {
  const auto words = chorus::detail::split(one, ' ');
  if (words[0] == "SUB")
    subscriptions_[std::string(words[1])] =
        chorus::detail::to_number(words.back().substr(0, words.back().find('\r')));
  if (words[0].ends_with("PUB") && words[1] == subject_)
    inboxes_.insert(std::string(words[2]));
  if (words[0].ends_with("PUB") && turns_ != 0 && one.find(turned_away_) != one.npos) {
    --turns_;
    const std::string to(words[2]);
    const auto by = subscriptions_.at(to.substr(0, to.rfind('.')) + ".*");
    give(p->client, "HMSG " + to + ' ' + std::to_string(by) + " 16 16\r\nNATS/1.0 " + status_ +
                        "\r\n\r\n\r\n");
    ++turned_;
    return;
  }
  give(p->server, one);
}

void holding_relay::answered(const shared_pair &p, const std::string &one) {
  const auto words = chorus::detail::split(one, ' ');
  if (words[0].ends_with("MSG") && inboxes_.contains(std::string(words[1]))) {
    kept_.emplace_back(p, one);
    ++held_;
    return;
  }
  auto what = one;
  if (const auto at = changed_.empty() ? one.npos : one.find(changed_); at != one.npos) {
    what.replace(at, changed_.size(), instead_);
    changed_.clear();
    ++changes_;
  }
  give(p->client, what);
}

} // namespace test_support
