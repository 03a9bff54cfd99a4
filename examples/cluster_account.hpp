#pragma once
// The account of the cluster demo: what publishers were told of each message, and what each client got of
// its room, in the order in which it came. At the end every client of a room must have had the same
// messages in the same order, each once: all that were accepted, none that was refused. Where the engine
// has lost its data on purpose, that holds from then on, and who was there before must have been told.

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
  std::uint64_t overheard = 0;       // that plain readers got
  std::uint64_t told = 0;            // clients that heard of the loss
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
  // It was told that it can't have what it missed, before the first message that follows.
  void tell(std::size_t client, std::string_view why);
  void complain(std::size_t client, std::string what);

  // A reader of the room that resumes nothing: nothing between the server and the account drops what
  // comes twice. Each room's from one thread; what it misses is not looked at.
  void overhear(std::size_t room, message_id id);
  void complain_of_reader(std::size_t room, std::string what);

  // The engine's data are gone: who has had anything of its room has to be told so, once its room goes on.
  void lose();
  // From now on count for `idle_room` only messages that are published later.
  void begin_stage();
  // A room in which none of those was accepted, or none has come to anybody; rooms() when there is none.
  std::size_t idle_room() const;

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
    std::uint32_t epoch = 0; // of its client's, from 0
  };
  struct book {
    std::vector<std::string> epochs{};
    std::vector<receipt> receipts{};
    std::vector<std::string> complaints{};
    std::atomic<std::uint64_t> last{0}; // offset
    std::atomic<std::uint64_t> told{0}; // that there is a gap
    std::atomic<bool> to_be_told{false};
  };
  struct room {
    std::atomic<std::uint64_t> top{0}; // offset
    // Of its plain reader.
    std::vector<message_id> overheard{};
    std::vector<std::string> complaints{};
  };
  struct progress {
    std::atomic<std::uint32_t> sent{0};
    std::atomic<std::uint32_t> delivered{0}; // the newest that anybody has
    std::uint32_t accepted = 0;              // the newest
    std::uint32_t before = 0;                // those of earlier stages
  };
  struct place {
    message_id id{};
    std::string_view epoch{};
  };
  bool belongs(message_id id, std::size_t room) const noexcept;
  std::string name_of(std::size_t client) const;
  void close_room(std::size_t room, verdict &v) const;
  void close_reader(std::size_t room, verdict &v) const;
  void compare(std::size_t client, const std::vector<place> &order, verdict &v) const;

  std::vector<book> books_;
  std::vector<room> rooms_;
  std::vector<std::vector<outcome>> published_; // by publisher and number - 1
  std::vector<progress> progress_;              // of publishers
  mutable std::mutex mutex_;                    // of both
  std::atomic<bool> lost_{false};
  std::atomic<std::uint64_t> deliveries_{0};
  std::atomic<std::uint64_t> told_[3] = {};
};

// Whether the account finds a message that was dropped, doubled, swapped, lost by all, or refused and yet
// delivered: what it missed, one sentence each.
std::vector<std::string> check_account();

} // namespace cluster_demo
