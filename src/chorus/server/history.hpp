#pragma once
// What a room keeps of its messages, and what of it somebody who comes gets. Sans-I/O; belongs to the
// room's home shard, while what is kept is constant and shared between threads.

#include <chorus/async/timer_wheel.hpp>
#include <chorus/base/message.hpp>
#include <chorus/protocol/resume.hpp>
#include <chorus/server/room_options.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

class room_core;

// One message with its place. Its bytes are of its own, so that it keeps nothing else in memory, and
// stand as the frame that an uncompressed member under the resume protocol gets.
struct kept_message {
  std::uint64_t offset = 0;
  std::shared_ptr<const std::string> epoch;
  message content;              // the payload
  buffer frame;                 // unmasked: frame header, resume header, payload
  std::size_t frame_header = 0; // bytes
  std::size_t size = 0;         // of the whole frame
  time_point at{};
  std::vector<std::string> except; // clients it is not meant for

  std::span<const std::byte> wire() const noexcept { return {frame.data(), size}; }
  // As a message under the resume protocol.
  message enveloped() const { return message(content.kind(), frame, wire().subspan(frame_header)); }
  bool meant_for(std::string_view client) const noexcept;
  std::size_t cost() const noexcept;
};
using kept = std::shared_ptr<const kept_message>;

kept keep(std::string_view room, std::shared_ptr<const std::string> epoch, std::uint64_t offset,
          const message &m, std::vector<std::string> except, time_point at);

// What all rooms of a server may keep together. From any thread.
class history_budget {
public:
  struct account {
    std::size_t bytes = 0;
    bool taken = false; // no longer counted: the room is about to forget
    bool idle = false;
    std::list<account *>::iterator place;
    std::weak_ptr<room_core> room;
  };
  using victims = std::vector<std::weak_ptr<room_core>>;

  history_budget(std::size_t max_bytes, std::size_t max_idle) noexcept
      : max_bytes_(max_bytes), max_idle_(max_idle) {}

  // True when the rooms without members that had to go were not enough. They are to be told.
  bool charge(account &a, std::size_t more, victims &gone);
  void refund(account &a, std::size_t less) noexcept;
  // The room has nobody; it may be among the first to go.
  void set_idle(account &a, std::weak_ptr<room_core> room, victims &gone);
  void set_busy(account &a) noexcept;
  void close(account &a) noexcept;

  std::size_t bytes() const noexcept;
  std::size_t idle() const noexcept;

private:
  void take_first(victims &gone);

  const std::size_t max_bytes_;
  const std::size_t max_idle_;
  mutable std::mutex mutex_;
  std::size_t bytes_ = 0;
  std::list<account *> idle_; // the longest idle first
};

class history {
public:
  history(std::string room, const room_options &options, std::shared_ptr<history_budget> budget);
  ~history();
  history(const history &) = delete;
  history &operator=(const history &) = delete;

  const std::shared_ptr<const std::string> &epoch() const noexcept { return epoch_; }
  std::uint64_t last() const noexcept { return last_; } // offset; 0: none yet
  std::size_t size() const noexcept { return messages_.size(); }
  history_budget::account &account() noexcept { return account_; }

  // Gives it the next offset.
  kept append(const message &m, std::vector<std::string> except, time_point now,
              history_budget::victims &gone);
  // Takes one that an engine has numbered; null for one that is here already.
  kept adopt(std::string_view epoch, std::uint64_t offset, const message &m,
             std::vector<std::string> except, time_point now, history_budget::victims &gone);
  // An engine's word on where the room stands: nothing up to `trimmed` is kept any more.
  void place(std::string_view epoch, std::uint64_t trimmed);
  // The room goes on in another epoch, with the offsets that it has.
  void go_on_in(std::string_view epoch, history_budget::victims &gone);
  void forget_old(time_point now);
  void forget_all();

  // For somebody who comes.
  struct answer {
    std::shared_ptr<const std::string> epoch;
    std::uint64_t offset = 0;      // the position before `messages`
    std::optional<bool> recovered; // empty: no position was named
    protocol::resume_gap why = protocol::resume_gap::none;
    std::vector<kept> messages;
    std::uint64_t last = 0; // of the room
  };
  // `newcomer`: how many of the last messages somebody without a usable position gets.
  answer for_client(const protocol::resume_position *position, std::string_view client,
                    std::size_t newcomer, time_point now);

private:
  void push(kept k, history_budget::victims &gone);
  void pop_front() noexcept;
  void begin_epoch(std::string_view epoch);

  const std::string room_;
  const room_options options_;
  const std::shared_ptr<history_budget> budget_;
  std::shared_ptr<const std::string> epoch_;
  std::uint64_t last_ = 0;
  std::uint64_t trimmed_ = 0; // the newest that is not kept any more
  // Of another epoch: others may have given places before it in this one that mean something else here.
  std::uint64_t before_epoch_ = 0;
  std::size_t bytes_ = 0;
  std::deque<kept> messages_;
  history_budget::account account_;
};

// 64 random bits, in hex.
std::string random_epoch();

} // namespace chorus::detail
