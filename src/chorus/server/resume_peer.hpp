#pragma once
// The server's half of the resume protocol on one connection (docs/protocol.md): who the client says it
// is, where it left its rooms, and what it acknowledges. On the session's shard, but for the directory.

#include <chorus/async/parked.hpp>
#include <chorus/base/ring.hpp>
#include <chorus/protocol/resume.hpp>
#include <chorus/server/room.hpp>
#include <chorus/session/envelope.hpp>
#include <chorus/session/session.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

struct room_counters;

// Of a room, and of all rooms of a server.
struct resume_counters {
  std::atomic<std::uint64_t> recovered{0}, lost_epoch{0}, lost_trimmed{0}, lost_ahead{0},
      lost_no_history{0}, acks{0};

  void count(protocol::resume_gap why) noexcept; // none: recovered
  resume_stats values() const noexcept;
};

// Which client a session is, as long as that session's state lives. From any thread.
class client_directory {
public:
  void add(session_id id, std::string client);
  void remove(session_id id) noexcept;
  // Of those that are under the resume protocol.
  std::vector<std::string> of(const std::vector<session_id> &ids) const;

private:
  mutable std::mutex mutex_;
  std::unordered_map<session_id, std::string> clients_;
};

// What the peers of one server share.
struct resume_setup {
  client_directory clients;
  resume_counters counters;
  std::chrono::milliseconds hello_wait{10'000};
};

class resume_peer final : public session_envelope {
public:
  explicit resume_peer(std::shared_ptr<resume_setup> setup);
  ~resume_peer() override;

  void opened(session_core &core) override;
  void closed() noexcept override;
  verdict unwrap(std::span<const std::byte> received, std::size_t &head) override;
  std::string_view complaint() const noexcept override { return complaint_; }
  close_code complaint_code() const noexcept override { return complaint_code_; }
  message wrap(const message &m) override { return with_head(protocol::plain_msg_header, m); }
  std::size_t max_head() const noexcept override { return protocol::max_client_header + 1; }

  // The hello has come.
  bool greeted() const noexcept { return greeted_; }
  ring<parked *> &awaiting() noexcept { return awaiting_; }
  const std::string &client() const noexcept { return client_; }
  // The position that the hello named for the room. It holds until it has become a member, since the
  // first of several joins may come to nothing, and no longer, since it is over with the membership.
  const protocol::resume_position *position_in(std::string_view room) const noexcept;
  void forget_position(std::string_view room) noexcept;

  // A member from here on.
  void entered(const std::string &room, std::shared_ptr<room_counters> counters);
  // No member any more; the peer is told so unless the session is about to end.
  void leaving(const std::string &room);
  void tell_left();

private:
  struct deadline final : timer {
    explicit deadline(resume_peer &p) noexcept
        : timer([](timer &t) noexcept { static_cast<deadline &>(t).peer.on_late(); }), peer(p) {}
    resume_peer &peer;
  };
  void on_late() noexcept;
  verdict refuse(std::string_view why, close_code code = close_code::protocol_error) noexcept;
  verdict greet(protocol::resume_header &&h);
  void wake_all() noexcept;

  std::shared_ptr<resume_setup> setup_;
  session_core *core_ = nullptr; // while it is open
  session_id id_ = 0;            // in the directory; 0: not there
  deadline deadline_{*this};
  ring<parked *> awaiting_;
  std::string_view complaint_;
  close_code complaint_code_ = close_code::protocol_error;
  bool greeted_ = false;
  std::string client_;
  std::vector<protocol::resume_position> positions_;
  std::vector<std::pair<std::string, std::shared_ptr<room_counters>>> rooms_;
  std::vector<std::string> left_; // not told yet
};

// Null: a plain peer. Servers install no other envelope.
resume_peer *peer_of(const session_core &core) noexcept;

} // namespace chorus::detail
