#pragma once
// The account of the cluster demo: what publishers were told of each message, and what each client got of
// its room, in the order in which it came. At the end every client of a room must have had the same
// messages in the same order, each once: all that were accepted, none that was refused.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace cluster_demo {

struct message_id {
  std::uint32_t publisher = 0;
  std::uint32_t number = 0; // of its publisher's, from 1
  friend auto operator<=>(const message_id &, const message_id &) = default;
};
// "p12-345", the first line of every message.
std::string to_string(message_id);
// False when the text is none.
bool parse(std::string_view text, message_id &into) noexcept;

enum class outcome : std::uint8_t {
  unknown, // not told: it has come to all or to nobody
  accepted,
  refused,
};

struct verdict {
  std::uint64_t sent = 0;
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;
  std::uint64_t unknown = 0;
  std::uint64_t unknown_arrived = 0; // of those
  std::uint64_t deliveries = 0;      // that clients got
  std::uint64_t expected = 0;        // that they were to get
  std::vector<std::string> complaints{};
  bool good() const noexcept { return complaints.empty() && deliveries == expected; }
};

class account {
public:
  // Client i is in room i % rooms; publisher p publishes to room p % rooms and is client p too.
  account(std::size_t clients, std::size_t rooms, std::size_t publishers);

  std::size_t clients() const noexcept { return books_.size(); }
  std::size_t rooms() const noexcept { return rooms_.size(); }
  std::size_t publishers() const noexcept { return published_.size(); }
  std::size_t room_of(std::size_t client) const noexcept { return client % rooms_.size(); }

  // Each publisher from one thread. Before the message is sent.
  message_id publish(std::size_t publisher);
  // What it was told; also late, after it had given up waiting.
  void settle(message_id id, outcome o);

  // Each client from one thread.
  void receive(std::size_t client, std::string_view epoch, std::uint64_t offset, message_id id);
  void complain(std::size_t client, std::string what);

  // Live figures, from any thread.
  std::uint64_t deliveries() const noexcept { return deliveries_; }
  std::uint64_t told(outcome o) const noexcept { return told_[static_cast<std::size_t>(o)]; }
  // Clients that have not got the newest message that anybody in their room has.
  std::size_t behind() const noexcept;

  // When nobody calls anything else any more.
  verdict close() const;

private:
  struct receipt {
    std::uint64_t offset = 0;
    message_id id{};
  };
  struct book {
    std::string epoch{};
    std::vector<receipt> receipts{};
    std::vector<std::string> complaints{};
    std::atomic<std::uint64_t> last{0}; // offset
  };
  struct room {
    std::atomic<std::uint64_t> top{0}; // offset
  };
  std::string name_of(std::size_t client) const;
  void close_room(std::size_t room, verdict &v) const;
  void compare(std::size_t client, const std::vector<message_id> &order, verdict &v) const;

  std::vector<book> books_;
  std::vector<room> rooms_;
  std::vector<std::vector<outcome>> published_; // by publisher and number - 1
  mutable std::mutex mutex_;                    // of those
  std::atomic<std::uint64_t> deliveries_{0};
  std::atomic<std::uint64_t> told_[3] = {};
};

// Whether the account finds a message that was dropped, doubled, swapped, lost by all, or refused and yet
// delivered: what it missed, one sentence each.
std::vector<std::string> check_account();

} // namespace cluster_demo
