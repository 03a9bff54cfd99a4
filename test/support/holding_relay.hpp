#pragma once
// A relay before a NATS server that holds the answers to some requests back, or has nobody there for them.

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace test_support {

// Asked from the test's thread.
class holding_relay {
public:
  explicit holding_relay(std::uint16_t to);
  ~holding_relay();
  holding_relay(const holding_relay &) = delete;
  holding_relay &operator=(const holding_relay &) = delete;

  std::string url() const;
  // Answers to requests of this subject stay here; empty: of none any more.
  void hold(const std::string &subject);
  // The first request with this in it does not reach the server: nobody is there who answers.
  void turn_away(const std::string &text);
  std::size_t held() const { return held_; } // ever
  void release();                            // the oldest of them goes on

private:
  struct pair;
  using shared_pair = std::shared_ptr<pair>;

  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> carry(shared_pair p, bool up);
  void asked(const shared_pair &p, const std::string &one);
  void answered(const shared_pair &p, const std::string &one);

  const std::uint16_t to_;
  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor listener_;
  std::string subject_;
  std::string turned_away_;
  std::map<std::string, std::uint64_t> subscriptions_;
  std::set<std::string> inboxes_;
  std::deque<std::pair<shared_pair, std::string>> kept_;
  std::atomic<std::size_t> held_{0};
  std::thread thread_;
};

} // namespace test_support
