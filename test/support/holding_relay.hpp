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
  // The next requests with this in them do not reach the server: nobody is there who answers (503), or
  // they have waited for too long (408).
  void turn_away(const std::string &text, unsigned times = 1, unsigned status = 503);
  // The next answer with this in it has that instead, of the same length.
  void change(const std::string &text, const std::string &instead);
  std::size_t held() const { return held_; } // ever
  std::size_t changes() const { return changes_; }
  std::size_t turned_away() const { return turned_; }
  void release(); // the oldest that is held goes on

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
  unsigned turns_ = 0;
  std::string status_;
  std::string changed_, instead_;
  std::map<std::string, std::uint64_t> subscriptions_;
  std::set<std::string> inboxes_;
  std::deque<std::pair<shared_pair, std::string>> kept_;
  std::atomic<std::size_t> held_{0}, changes_{0}, turned_{0};
  std::thread thread_;
};

} // namespace test_support
