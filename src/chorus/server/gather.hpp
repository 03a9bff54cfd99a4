#pragma once
// The outcomes of one broadcast: counted where the members live, collected where the caller waits.
// Every part reports once: when its last member is settled, or when the deadline asks.

#include <chorus/async/parked.hpp>
#include <chorus/server/room.hpp>
#include <chorus/session/session_core.hpp>

#include <memory>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

class gather;

// On one shard.
class gather_part final : public delivery_sink, public std::enable_shared_from_this<gather_part> {
public:
  gather_part(std::shared_ptr<gather> whole, bool list_delivered) noexcept
      : whole_(std::move(whole)), list_delivered_(list_delivered) {}

  // Every copy for `member` is settled before that session is gone.
  void expect(session_core &member) { waiting_.emplace(member.id(), &member); }
  bool expects(session_id member) const { return waiting_.contains(member); }
  bool expects_anyone() const noexcept { return !waiting_.empty(); }
  // The message comes only now, and who is not `here` any more won't get it.
  template <class F> void keep_those(F here) {
    std::erase_if(waiting_, [&](const auto &one) {
      if (here(one.first))
        return false;
      note_gone(one.first);
      return true;
    });
  }
  // All members are known: reports at once when there is nobody to wait for.
  void begun();
  void on_outcome(std::uint64_t member, write_outcome outcome) noexcept override {
    settle(member, outcome, false);
  }
  // Dropped because its time to live had passed.
  void on_expired(std::uint64_t member) noexcept { settle(member, write_outcome::dropped, true); }
  // Instead of `begun`: nobody gets the message, which is all that happens to it.
  void refuse(const failure &why);
  // The deadline: what still waits is pending.
  void give_up();
  bool reported() const noexcept { return reported_; }

private:
  void settle(std::uint64_t member, write_outcome outcome, bool expired) noexcept;
  void note_failed(const session_core &member);
  void note_gone(session_id member);
  void settle_failing(const std::shared_ptr<session_core> &member);
  void report_when_settled();
  void report();

  std::shared_ptr<gather> whole_;
  std::unordered_map<session_id, session_core *> waiting_;
  std::vector<std::shared_ptr<session_core>> failing_; // their sessions do not know yet why
  broadcast_report report_;
  bool list_delivered_;
  bool begun_ = false;
  bool reported_ = false;
};

// On the room's home shard.
class gather final : public resident, public std::enable_shared_from_this<gather> {
public:
  gather(std::shared_ptr<shard> home, std::size_t parts) : home_(std::move(home)), parts_(parts) {}

  // From any shard.
  void merge(broadcast_report part);

  bool complete() const noexcept { return parts_ == 0; }
  broadcast_report &report() noexcept { return report_; }
  parked &sleeper() noexcept { return sleeper_; }
  // Enrolled while somebody waits: no part can report any more.
  void on_shard_gone() noexcept override { sleeper_.wake_later(); }

private:
  std::shared_ptr<shard> home_;
  std::size_t parts_;
  broadcast_report report_;
  parked sleeper_;
};

} // namespace chorus::detail
