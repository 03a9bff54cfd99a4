#pragma once
// `broker`: what stands between the rooms of one server, a node, and the same rooms elsewhere. It
// numbers the messages of rooms with history, so that all nodes have one order, keeps them, carries
// them and what is published to other rooms from node to node, and knows who is present on which node.
// Without one a server does that itself. docs/broker.md says what an author has to provide.
//
// An implementation is called from any thread and must not block nor throw. It answers by calling back,
// once for each call and within a bounded time, from any thread, perhaps before the call returns;
// answers and listeners are quick and throw nothing. Of two calls about one room the one that returned
// before the other began takes effect first. Nothing is cancelled: an answer that comes too
// late for its caller is ignored by it. The names of rooms are the server's own ("room/lobby",
// "user/ann", "node/…"): to an engine they are bytes, at most max_broker_name of them.

#include <chorus/base/message.hpp>
#include <chorus/base/result.hpp>
#include <chorus/server/room_options.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chorus {

// Within one life of a room: an epoch of 1 to 64 letters and digits, and a positive offset below 2^53
// that grows, not necessarily by one.
struct broker_position {
  std::string epoch{};
  std::uint64_t offset = 0;
};

struct broker_message {
  std::string room{};
  message content{};
  // Who published: made by the server, carried as it is. Up to the last colon it names the node.
  std::string origin{};
  std::vector<std::string> except_clients{}; // carried as they are
  std::string key{};
  std::chrono::milliseconds time_to_live{0};
  // How the room is kept; one that is not kept gets no position.
  room_options keep{};
  broker_position at{}; // given by the engine
  // What nodes tell each other; carried as it is. Empty: the message is for members. An engine that
  // knows that nobody listens answers such a publish with not_open.
  std::string command{};
  // Since 1970, by the clock of the server that published it; 0: not known. Carried as it is.
  std::chrono::microseconds published{0};
};

struct broker_page {
  std::string epoch{};
  std::uint64_t last = 0;    // offset of the room's newest message; 0: none yet
  std::uint64_t trimmed = 0; // of the newest that is not kept any more; 0: all are
  std::vector<broker_message> messages{};
  bool more = false; // ask again from the last one of them
};

// Somebody present in a room.
struct broker_member {
  std::string node{};   // by whose word, and as long as its lease
  std::string id{};     // unique within the room, over all nodes
  std::string data{};   // carried as it is
  std::uint64_t at = 0; // given by the engine: offset of the change that brought it, or this data
};

// Changes of a room's presence have an order and positions of their own, apart from the messages'.
struct broker_change {
  std::string room{};
  broker_member who{};
  bool present = true; // false: gone, and `data` is empty
  broker_position at{};
};

struct broker_members {
  broker_position at{};                 // of the newest change that is in the list
  std::vector<broker_member> members{}; // in the order of their `at`
};

// What an engine can do now, for health pages; quick, from any thread.
struct broker_status {
  bool connected = true; // false: what it is asked fails, or waits for a bounded time
  std::string why{};     // a sentence, when it is not
};

// What has become of the way to an engine, for metrics; quick, from any thread. Zero where there is none.
struct broker_stats {
  std::uint64_t connects = 0;    // connections that came to be used
  std::uint64_t disconnects = 0; // and those of them that were lost
  std::uint64_t commands = 0;    // that were sent
  std::uint64_t received = 0;    // messages and changes of presence that came in
  std::uint64_t looked_up = 0;   // publishes without an answer, whose outcome was found out
  std::uint64_t refused = 0;     // calls that failed since the engine was away, or too many waited
  std::uint64_t gaps = 0;        // times that listeners were told that something may be lost
  std::size_t waiting = 0;       // calls without an answer
  std::size_t waiting_bytes = 0; // of them
  std::chrono::microseconds lag{0};  // how long the oldest has waited, or the last answer took
  std::chrono::milliseconds away{0}; // without a connection, all in all
  // Messages and changes of presence, come in or read from a history, that were passed over since this
  // version can't read them.
  std::uint64_t unreadable = 0;
};

// A node's part of one room.
class broker_listener {
public:
  // In the order of their offsets; of a node's own messages, too.
  virtual void on_message(const broker_message &m) noexcept = 0;
  // In the order of their offsets; of a node's own changes, too.
  virtual void on_presence(const broker_change &c) noexcept = 0;
  // Some of either may have been lost: what has a position can be read again. Told before whatever came
  // after that; and when an engine that was away is back.
  virtual void on_gap() noexcept = 0;

protected:
  ~broker_listener() = default;
};

class broker {
public:
  using published = std::function<void(result<broker_position>)>;
  using done = std::function<void(result<>)>;
  using page_read = std::function<void(result<broker_page>)>;
  using members_read = std::function<void(result<broker_members>)>;
  using renewed = std::function<void(result<bool>)>;

  virtual ~broker() = default;

  // A server is made that will ask it things, by the executor of its first shard: an engine without
  // threads of its own works there, on the first one that it is given, as long as that runs; when that
  // has gone it works on the next one it is given. A failure is what `server::start` answers.
  virtual result<> attach(boost::asio::any_io_executor) { return {}; }

  // Numbered in the order of the calls. A failure says that nobody gets the message, but for
  // `unconfirmed`: nobody knows. After `lost`, `timed_out` and `queue_full` it may be published again,
  // with the same origin.
  virtual void publish(broker_message m, published answer) = 0;
  // From the answer on `to` is told of everything. One that has gone needs no more.
  virtual void subscribe(std::string room, std::weak_ptr<broker_listener> to, done answer) = 0;
  virtual void unsubscribe(std::string room, const broker_listener *who) = 0;
  // What the room has kept since `since`; all of it when that names another epoch, or none, but for an
  // epoch that `begin_epoch` has ended: what was given a place after that is not given twice.
  virtual void history(std::string room, broker_position since, page_read answer) = 0;

  // `who` is in the room, or has other data. Told to all listeners, unless nothing is new. With `most`,
  // fails with limit_reached when so many others are there. Fails with not_open when its node has no
  // lease.
  virtual void enter(std::string room, broker_member who, std::size_t most, done answer) = 0;
  // Not any more. Told to all listeners, if it was there with this node.
  virtual void leave(std::string room, std::string node, std::string id, done answer) = 0;
  // Who is in the room, over all nodes.
  virtual void members(std::string room, members_read answer) = 0;
  // The node's lease begins, or lasts `alive` from now; zero ends it. With it all who are present by the
  // node's word go, and that is told to all listeners. Answers whether it had one that had not ended:
  // false says that nobody is present by its word.
  virtual void renew(std::string node, std::chrono::milliseconds alive, renewed answer) = 0;

  // Ends the room's epoch `ended`, unless that is over already: members were given messages that have
  // no place in it. Nothing is forgotten. All listeners are told of a gap.
  virtual void begin_epoch(std::string room, std::string ended, done answer) = 0;

  virtual broker_status status() const { return {}; }
  virtual broker_stats stats() const { return {}; }
};

// Bytes of the names that a server hands to its broker.
inline constexpr std::size_t max_broker_name = 64 * 1024;

// One that several servers of this process share: rooms last as long as it does, but for those without
// listeners and members beyond `max_rooms`, the longest without a message first. Leases are looked
// after whenever it is asked something.
std::shared_ptr<broker> make_memory_broker(std::size_t max_rooms = 10'000);

} // namespace chorus
