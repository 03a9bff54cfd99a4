#pragma once
// The client's half of the resume protocol (docs/protocol.md): what a reconnecting client remembers
// across its connections, and the envelope that speaks for it on one of them. On the client's shard.

#include <chorus/client/client.hpp>
#include <chorus/protocol/resume.hpp>
#include <chorus/session/envelope.hpp>
#include <chorus/session/session_core.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace chorus::detail {

// Where a message was published. Both null: nowhere, or the client does not know.
struct message_place {
  std::shared_ptr<const std::string> room;
  std::shared_ptr<const std::string> epoch;
  std::uint64_t offset = 0;
};

class resume_memory {
public:
  // A server can't make a client remember more: beyond it, the room that was quiet longest is forgotten.
  static constexpr std::size_t max_rooms = protocol::max_positions;

  explicit resume_memory(std::string client) : client_(std::move(client)) {}

  std::string hello() const;
  struct room_state {
    std::shared_ptr<const std::string> name;
    std::shared_ptr<const std::string> epoch;
    std::uint64_t offset = 0;
    std::uint64_t moved = 0; // when, in steps of `clock_`
    unsigned unacknowledged = 0;
  };
  // Null: no position.
  room_state *find(const std::string &room) noexcept;
  room_state &set(const std::string &room, const std::string &epoch, std::uint64_t offset);
  void forget(const std::string &room) noexcept { rooms_.erase(room); }
  std::unordered_map<std::string, room_state> &rooms() noexcept { return rooms_; }
  // A connection has ended; `too_big`: by a message beyond this side's bound. True when so has the one
  // before: what a room keeps would come again for ever.
  bool too_big_again(bool too_big) noexcept {
    too_big_in_row_ = too_big ? too_big_in_row_ + 1 : 0;
    return too_big_in_row_ > 1;
  }

private:
  std::string client_;
  std::unordered_map<std::string, room_state> rooms_;
  std::uint64_t clock_ = 0;
  unsigned too_big_in_row_ = 0; // connections
};

class resume_envelope final : public session_envelope {
public:
  // What happened, in order: a message for the pump, at its place, or a joined that speaks of recovery.
  using event = std::variant<message_place, recovery>;
  struct settings {
    std::size_t max_message = 0;
    std::size_t max_events = 0;     // of messages that nobody takes
    bool ignore_input = false;      // no places are kept
    std::function<void()> reported; // a recovery was added; called in the midst of reading
    std::function<void()> doubled;  // a message was dropped
  };
  static constexpr unsigned acknowledge_after = 64; // messages of a room
  static constexpr std::chrono::milliseconds acknowledge_within{1'000};

  resume_envelope(std::shared_ptr<resume_memory> memory, settings s);

  void opened(session_core &core) override;
  void closed() noexcept override;
  void ignored() noexcept override { ignored_ = true; }
  verdict unwrap(std::span<const std::byte> received, std::size_t &head) override;
  std::string_view complaint() const noexcept override { return complaint_; }
  message wrap(const message &m) override { return with_head(protocol::plain_msg_header, m); }
  std::size_t max_head() const noexcept override { return protocol::max_server_header + 1; }

  std::deque<event> &events() noexcept { return events_; }
  // Somebody else has received all but the last `untaken` messages.
  void forget_taken(std::size_t untaken);
  // Messages of the protocol itself that this side has accepted into the session's queue.
  std::uint64_t own_messages() const noexcept { return own_; }
  // After the end: leaves payloads only in what was not sent, and counts in `stats`.
  void settle(std::vector<message> &unsent, session_stats &stats);

private:
  struct ack_timer final : timer {
    explicit ack_timer(resume_envelope &e) noexcept
        : timer([](timer &t) noexcept { static_cast<ack_timer &>(t).owner.acknowledge(1); }),
          owner(e) {}
    resume_envelope &owner;
  };
  verdict on_msg(const protocol::resume_header &h, std::size_t payload);
  void on_joined(const protocol::resume_header &h);
  void add(event e);
  void say(const std::string &header);
  // For rooms with so many unacknowledged messages.
  void acknowledge(unsigned least);

  std::shared_ptr<resume_memory> memory_;
  settings settings_;
  session_core *core_ = nullptr; // while it is open
  std::string_view complaint_;
  std::deque<event> events_;
  ack_timer timer_{*this};
  std::uint64_t own_ = 0;
  // Where the latest of them stand among all messages sent, to tell which were confirmed.
  std::deque<std::uint64_t> own_at_;
  std::uint64_t own_settled_ = 0; // of older ones
  bool ignored_ = false;          // what comes is received by nobody
};

// Null: a plain connection. Clients install no other envelope.
resume_envelope *envelope_of(const session &s) noexcept;

std::string fresh_client_key();

} // namespace chorus::detail
