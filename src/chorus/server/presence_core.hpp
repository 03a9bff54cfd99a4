#pragma once
// The presence of one room: what its members' views are made of. Lives on the room's home shard.
//
// Every change has a number. A member is sent the list as of some change, and then the changes with
// higher numbers, over the way that the room's messages take: so its view is exact, wherever it lives.
// Who is to be told comes in from, and goes out to, the room's parts, and nowhere else.

#include <chorus/async/shard.hpp>
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

private:
  struct entry : timer {
    entry(presence &o, std::string k) noexcept
        : timer(&entry::expired), owner(o), key(std::move(k)) {}
    static void expired(timer &t) noexcept;
    presence &owner;
    std::string key;
    presence_entry shown;
  };

  void on_shard_gone() noexcept override;
  void change_data(entry &e, const std::string &data);
  void remove(entry &e);
  void come_back(entry &e) noexcept;
  void tell(presence_change what, const presence_entry &who);
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
