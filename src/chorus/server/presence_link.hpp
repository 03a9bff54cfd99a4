#pragma once
// What a room and its engine tell each other of who is present. Part of the room's link, on the room's
// home shard. What the engine was not told, or has forgotten, is found by comparing its list with ours.

#include <chorus/server/broker.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace chorus::detail {

class presence;
class room_core;
class room_link;

class presence_link {
public:
  using known_or_not = std::function<void(const failure &)>; // no error: known

  explicit presence_link(room_link &owner) noexcept : link_(owner) {}

  // The list has been read, and changes are followed.
  bool known() const noexcept { return known_; }
  // Reads the list, and sets right what differs; once more when it is being read.
  void read();
  // The list was asked for, and does not come.
  void overdue(const failure &why);
  void changed(const broker_change &c);
  // `told` is called once, when the list has been read or could not be. Reading is the caller's matter.
  void when_known(known_or_not told) { waiting_.push_back(std::move(told)); }
  void give_up(const failure &why);

  // Of this node. What fails is set right later.
  void enter(const std::string &id, std::string data);
  void leave(const std::string &id);

private:
  void listed(const result<broker_members> &r);
  void apply(presence &who, const broker_change &c);
  void answered(const result<> &r);

  room_link &link_;
  bool known_ = false;
  bool reading_ = false;
  bool again_ = false; // while reading: more has come than was kept here
  bool enlisted_ = false;
  std::uint64_t asked_ = 0; // of the list that is read; an answer to anything else comes too late
  broker_position at_;      // of the newest change that is known here
  std::size_t early_bytes_ = 0;
  std::vector<broker_change> early_; // while reading
  std::vector<known_or_not> waiting_;
};

} // namespace chorus::detail
