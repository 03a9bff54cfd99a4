#pragma once
// The demo's accounts. The publisher writes down every number, each server handler what its session
// was given, each client what it got; at the end every number must have exactly one fate at every
// client, and the two sides must agree.

#include <chorus/chorus.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace demo {

// One client's time in the room of one server, as the server saw it.
struct seating {
  unsigned server = 0; // which one, from 1
  // Numbers above `begin` and up to `end` were published while the client surely was a member.
  std::uint64_t begin = 0;
  std::uint64_t end = ~std::uint64_t{0};
  bool planned = false; // ended while nothing was being published
  bool cut = false;     // by the end of its server, in the midst of publishing
  bool over = false;
  // Copies its connection took: handed to the kernel, dropped by policy, not begun at the end.
  std::uint64_t sent = 0;
  std::uint64_t dropped = 0;
  std::uint64_t unsent = 0;
  std::uint64_t confirmed = 0; // of those sent: before a ping that the client answered
};

struct totals {
  // The fates of a number at a client.
  std::uint64_t delivered = 0;
  std::uint64_t dropped = 0;      // by the overflow policy
  std::uint64_t server_down = 0;  // published while there was no server
  std::uint64_t not_yet_back = 0; // published before this client had joined (again)
  std::uint64_t unconfirmed = 0;  // on its way to this client when the connection ended
  // Messages of the clients to the server.
  std::uint64_t up_accepted = 0;
  std::uint64_t up_received = 0;
  std::uint64_t up_dropped = 0;     // by a client's own outbox, or left in it at the end
  std::uint64_t up_lost = 0;        // neither of the above
  std::uint64_t up_unconfirmed = 0; // what the clients report as uncertain; at least what was lost
  std::vector<std::string> complaints;

  std::uint64_t sum() const {
    return delivered + dropped + server_down + not_yet_back + unconfirmed;
  }
};

class ledger {
public:
  explicit ledger(std::size_t clients);

  std::size_t clients() const noexcept { return clients_.size(); }

  // The publisher's side; one thread. `server` 0: there is none. Before the number is published.
  std::uint64_t publish(unsigned server);
  void pause(bool on) noexcept { paused_ = on; }
  // From here on the connections of `server` end without warning.
  void cut(unsigned server) noexcept { cut_ = server; }
  std::uint64_t published() const noexcept { return published_; }

  // The server handlers' side; any thread. Returns the seating's place in the book.
  std::size_t sit_down(std::size_t client, unsigned server);
  void stand_up(std::size_t client, std::size_t place, const chorus::session_stats &stats);
  void upstream(std::size_t client, std::uint64_t number);
  // Distinct clients that have joined this server.
  std::size_t joined(unsigned server) const noexcept { return joined_[server]; }

  // The clients' side; each client from one thread.
  void receive(std::size_t client, std::uint64_t number);
  void accepted(std::size_t client) noexcept { ++clients_[client].up_accepted; }
  void closed(std::size_t client, const chorus::client_stats &stats);

  std::uint64_t deliveries() const noexcept { return deliveries_; }
  std::uint64_t upstream_received() const noexcept { return upstream_; }

  // When all clients and servers have ended.
  totals close_books();

private:
  struct account {
    std::vector<bool> got;  // by number
    std::uint64_t last = 0; // number received
    std::string complaint;  // the first one
    std::uint64_t up_accepted = 0;
    chorus::client_stats stats;
    std::vector<seating> seatings; // under the mutex
    std::uint64_t up_received = 0; // and these
    std::uint64_t up_last = 0;
    std::string up_complaint;
  };
  void settle(std::size_t client, totals &t);

  std::vector<account> clients_;
  std::vector<std::uint8_t> server_of_; // by number; 0: down
  std::atomic<std::uint64_t> published_{0};
  std::atomic<bool> paused_{false};
  std::atomic<unsigned> cut_{0}; // a server's number
  std::atomic<std::uint64_t> deliveries_{0};
  std::atomic<std::uint64_t> upstream_{0};
  std::atomic<std::size_t> joined_[3] = {};
  std::mutex mutex_;
};

} // namespace demo
