#pragma once
// `broker`: what stands between the rooms of one server and the same rooms elsewhere. It numbers the
// messages of rooms with history, so that all servers have one order, keeps them, and carries them and
// what is published to other rooms from server to server. Without one a server does that itself.
//
// An implementation is called from any thread and must not block nor throw. It answers by calling back,
// once for each call, from any thread, perhaps before the call returns; answers and listeners are quick.

#include <chorus/base/message.hpp>
#include <chorus/base/result.hpp>
#include <chorus/server/room_options.hpp>

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
  // Who published: made by the server, carried as it is. Up to the last colon it names the server.
  std::string origin{};
  std::vector<std::string> except_clients{}; // carried as they are
  std::string key{};
  std::chrono::milliseconds time_to_live{0};
  // How the room is kept; one that is not kept gets no position.
  room_options keep{};
  broker_position at{}; // given by the engine
};

struct broker_page {
  std::string epoch{};
  std::uint64_t last = 0;    // offset of the room's newest message; 0: none yet
  std::uint64_t trimmed = 0; // of the newest that is not kept any more; 0: all are
  std::vector<broker_message> messages{};
  bool more = false; // ask again from the last one of them
};

struct broker_member {
  std::string id{};   // unique within the room, over all servers
  std::string data{}; // the application's, opaque
};

// A server's part of one room.
class broker_listener {
public:
  // In the order of their offsets; of a server's own messages, too.
  virtual void on_message(const broker_message &m) noexcept = 0;
  // Some may have been lost: those with a position can be read again.
  virtual void on_gap() noexcept = 0;

protected:
  ~broker_listener() = default;
};

class broker {
public:
  using published = std::function<void(result<broker_position>)>;
  using done = std::function<void(result<>)>;
  using page_read = std::function<void(result<broker_page>)>;
  using members_read = std::function<void(result<std::vector<broker_member>>)>;

  virtual ~broker() = default;

  // Calls of one thread for one room are numbered in their order. A failure says that nobody gets the
  // message.
  virtual void publish(broker_message m, published answer) = 0;
  // From the answer on `to` is told of everything. One that has gone needs no more.
  virtual void subscribe(std::string room, std::weak_ptr<broker_listener> to, done answer) = 0;
  virtual void unsubscribe(std::string room, const broker_listener *who) = 0;
  // What the room has kept since `since`; all of it when that names another epoch, or none.
  virtual void history(std::string room, broker_position since, page_read answer) = 0;
  // Who is in the room, over all servers. An entry that is not renewed ends after `alive`.
  virtual void enter(std::string room, broker_member who, std::chrono::milliseconds alive,
                     done answer) = 0;
  virtual void leave(std::string room, std::string id, done answer) = 0;
  virtual void members(std::string room, members_read answer) = 0;
};

// One that several servers of this process share: rooms last as long as it does, but for those without
// listeners beyond `max_rooms`, the longest without a message first.
std::shared_ptr<broker> make_memory_broker(std::size_t max_rooms = 10'000);

} // namespace chorus
