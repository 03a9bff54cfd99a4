#pragma once
// The presence of one room: what its members' views are made of. Lives on the room's home shard.
//
// Every change has a number. A member is sent the list as of some change, and then the changes with
// higher numbers, over the way that the room's messages take: so its view is exact, wherever it lives.
// Who is to be told comes in from, and goes out to, the room's parts, and nowhere else.
//
// Over several servers each keeps all that the others say, one part of an entry for each server where the
// user is: who is in any part is present. So a user that goes from one to another has not left, and a
// change is told once on each. One's own connections count at once, whatever the engine does.

#include <chorus/async/shard.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/presence.hpp>
#include <chorus/server/room_options.hpp>
#include <chorus/server/room_part.hpp>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

class room_core;

class presence final : public resident {
public:
  // So many may be gone and expected back; others leave at once.
  static constexpr std::size_t max_absent = 4096;

  // `room` holds it; so `complaints` and the options live as long.
  presence(room_core &room, std::shared_ptr<const room_complaints> complaints);
  ~presence();

  // On the home shard, in the order in which it happened on the member's own shard.
  void joined(const std::shared_ptr<room_part> &where, session_id id, const std::string &user,
              const std::string &data);
  void changed(session_id id, const std::string &data);
  void left(session_id id);
  std::vector<presence_entry> list() const;
  // At most so many, `first` before all.
  std::vector<presence_entry> list(const presence_entry &first, std::size_t most) const;
  // What the engine says of one, in order, of this server's own, too; and of all. The first list is no
  // news.
  void learn(const broker_member &who, bool present);
  void learn(const std::vector<broker_member> &all, bool first);

private:
  // Of an entry, on one server.
  struct portion {
    std::string node;
    session_id id = 0;
    std::int64_t since = 0; // milliseconds since 1970
    bool connected = false; // false: expected back
    std::string data;
    std::uint64_t at = 0; // order at the engine
  };
  struct entry : timer {
    entry(presence &o, std::string k) noexcept
        : timer(&entry::expired), owner(o), key(std::move(k)) {}
    static void expired(timer &t) noexcept;
    presence &owner;
    std::string key;
    presence_entry shown;
    // This server's own part, while there are connections or the timer runs.
    std::size_t here = 0; // connections
    session_id id = 0;
    std::int64_t since = 0;
    std::string data;
    std::uint64_t at = UINT64_MAX; // until the engine has told
    std::vector<portion> elsewhere;
    bool has_here() const noexcept { return here != 0 || active(); }
  };

  static std::string text_of(const portion &p);
  static bool read(const broker_member &who, portion &p);
  std::string engine_id(const entry &e) const;
  // What the room's map calls one; empty: no sensible id.
  std::string key_of(const broker_member &who) const;
  bool is_ours(const broker_member &who) const;
  entry &found_or_made(const std::string &key, const std::string &user, bool &fresh);
  void on_shard_gone() noexcept override;
  portion own(const entry &e) const;
  void say(entry &e);
  void drop_here(entry &e, bool elsewhere = false);
  void take(const broker_member &who, bool quiet);
  void drop(const std::string &key, const std::string &node);
  // Sets what is shown, and tells of it.
  void settle(entry &e, bool fresh, bool elsewhere, bool quiet = false);
  void remove(entry &e, bool elsewhere);
  void come_back(entry &e) noexcept;
  void tell(presence_change what, const presence_entry &who, bool elsewhere);
  message text_of(const presence_event &event) const;
  template <class F> void guarded(const char *what, F f) const noexcept;

  room_core &room_;
  std::shared_ptr<const room_complaints> complaints_;
  std::unordered_map<std::string, std::unique_ptr<entry>> entries_;
  std::unordered_map<session_id, entry *> sessions_;
  std::uint64_t version_ = 0;
  std::size_t absent_ = 0;
  std::shared_ptr<room_core> keep_; // while somebody is expected back
};

} // namespace chorus::detail
