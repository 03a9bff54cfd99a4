#pragma once
// Messages of rooms: kept ones by the stream of their policy, which gives them their places, others by
// core NATS. A room's record says its epoch and its policy. Belongs to the engine's thread.

#include <chorus/cluster/nats_streams.hpp>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace chorus::detail {

struct nats_record {
  std::string epoch{};
  std::string ended{};      // the one before; empty: none that can be gone on with
  std::string policy = "-"; // not known yet
  std::string tag = "-";    // of the policy's stream, as it was then
  std::uint64_t at = 0;     // the record's own place
  std::string str() const;
  static std::optional<nats_record> parse(std::string_view text, std::uint64_t at);
};

// What was asked about a room and takes effect in its order.
struct nats_operation {
  enum class kind : std::uint8_t { message, history, epoch };
  kind what = kind::message;
  std::string body{};
  std::string id{}; // of the message, to JetStream
  std::string policy{};
  std::size_t size = 0;  // of its content
  std::size_t bytes = 0; // that its room may keep
  std::size_t messages = 0;
  std::function<void(result<broker_position>)> answer{};
  std::function<task<>()> run{}; // of the others
  std::function<void(const failure &)> refuse{};
  nats_core::clock::time_point since{};
  bool running = false;
  bool doubtful = false; // sent, and its answer was lost
  // Of the stream that may have it, and for how long from `since` on that would know it again.
  std::string tag{};
  std::chrono::milliseconds limit{};
  bool tried = false;
};

struct nats_room {
  std::string name{};
  std::string token{};
  std::vector<std::weak_ptr<broker_listener>> listeners{};
  std::shared_ptr<nats_link::subscription> heard{};
  std::optional<nats_record> record{};
  bool looking = false; // for the record
  bool chose = false;   // this engine has said which policy it is
  // Listeners were told of all up to `seen`, a number of the stream with that tag, if it is `based`: what
  // comes until then waits, and is old where it is not beyond.
  std::uint64_t seen = 0;
  std::string seen_tag{};
  bool based = false;
  bool basing = false;
  bool gap_then = false;
  unsigned begun = 0; // how often this was begun
  struct newcomer {
    std::weak_ptr<broker_listener> who{};
    nats_answer<void> answer;
    nats_core::clock::time_point since;
  };
  std::vector<newcomer> waiting{}; // for the base
  // Streams publish again what two connections send in another order than they keep it, now and then.
  std::map<std::uint64_t, nats_event> ahead{}; // the one before it is missing
  std::size_t ahead_bytes = 0;
  std::map<std::uint64_t, broker_change> changes{};
  std::uint64_t changed = 0; // the newest change that was told
  std::string changed_epoch{};
  bool missed_change = false;
  nats_core::clock::time_point settle_at{}, hole_since{};
  // All messages up to `checked` are known, the newest of them is `top`.
  std::uint64_t top = 0;
  std::uint64_t checked = 0;
  std::string checked_tag{};
  // What it keeps, as far as this engine knows.
  std::deque<std::pair<std::uint64_t, std::size_t>> sizes{}; // by sequence
  std::size_t bytes = 0;
  std::size_t early_bytes = 0;
  std::deque<nats_event> early{}; // until the record is there
  std::deque<std::shared_ptr<nats_operation>> operations{};
  std::size_t in_flight = 0;
};

class nats_rooms {
public:
  explicit nats_rooms(nats_core &core) : core_(core) {}

  void publish(broker_message m, nats_answer<broker_position> answer);
  void subscribe(const std::string &name, std::weak_ptr<broker_listener> to,
                 nats_answer<void> answer);
  void unsubscribe(const std::string &name, const broker_listener *who);
  void history(const std::string &name, broker_position since, nats_answer<broker_page> answer);
  void begin_epoch(const std::string &name, std::string ended, nats_answer<void> answer);

  // By the core.
  void calls_done();
  void arrived(nats_event &e, const std::vector<std::string_view> &parts);
  void record_changed(std::string_view token, const nats_event &e);
  result<> subscribe_again();
  void restored(bool again);
  void away(const failure &why);
  void missed(); // something that came in was dropped
  void expire(nats_core::clock::time_point now);
  void shut(const failure &why);

private:
  using room = std::shared_ptr<nats_room>;
  struct passing {
    std::string subject, id, body;
    bool command = false;
    bool again = false;
    nats_answer<broker_position> answer;
    nats_core::clock::time_point since;
  };

  room find(const std::string &name);
  void forget(const room &r);
  void tell(const room &r, const std::function<void(broker_listener &)> &f);
  void gap(const room &r);
  void pass(std::shared_ptr<passing> p);
  void passed(const std::shared_ptr<passing> &p, const nats_reply &reply);
  void pass_again(const std::shared_ptr<passing> &p, const failure &why);
  void passed_on(const room &r, const nats_event &e, std::string_view id);
  bool is_new(std::string_view id);
  void heard(const room &r, nats_event e);
  void kept(const room &r, nats_event e);
  void told(const room &r, const nats_event &e);
  void skip_hole(const room &r);
  static void forget_ahead(nats_room &r);
  void change(const room &r, const broker_change &c);
  void settle(const room &r);
  void settle_later(const room &r, std::chrono::milliseconds wait);
  void renew(const room &r);
  void begin_again(const room &r, bool gap);
  void begin_some();
  task<> find_base(room r);
  void turn_away_late(nats_core::clock::time_point now);
  void turn_away(const room &r, const failure &why);
  task<result<>> look_for_base(room r);
  void wait_with(const room &r, nats_event e);
  std::deque<nats_event> take_early(nats_room &r);
  void pump(const room &r);
  void send(const room &r, const std::shared_ptr<nats_operation> &o);
  void sent(const room &r, const std::shared_ptr<nats_operation> &o, const nats_reply &reply);
  void drop(const room &r, const std::shared_ptr<nats_operation> &o);
  void refuse_overtaken(const room &r, const nats_operation &by);
  void give_up(const room &r, const std::shared_ptr<nats_operation> &o, const failure &why);
  static void note(nats_room &r, std::uint64_t sequence, std::size_t size);
  // Where the room has more bytes than it may: the first message that stays; 0: all may.
  static std::uint64_t too_much(nats_room &r, const nats_operation &o);
  task<> trim(std::string subject, std::string policy, std::uint64_t stays,
              std::function<void()> then);
  void refuse_all(const room &r, const failure &why);
  void start(const room &r, const std::shared_ptr<nats_operation> &o);
  task<> look_up(room r, std::string policy);
  task<> look_up_later(room r, std::string policy);
  // The room's record, made where it is missing, and good for its stream. `policy`: empty for any.
  task<result<nats_record>> record_of(room r, std::string policy);
  task<result<broker_page>> read(room r, broker_position since);
  task<result<>> end_epoch(room r, std::string ended);
  static result<broker_message> message_of(const nats_room &r, std::string_view epoch,
                                           std::string_view body, std::uint64_t sequence);

  nats_core &core_;
  std::unordered_map<std::string, room> rooms_; // by token
  std::deque<room> to_base_;
  std::size_t basing_ = 0;
  nats_core::clock::time_point late_at_ = nats_core::clock::time_point::max(); // of newcomers
  std::unordered_set<std::string> unsettled_; // tokens of rooms that wait for what comes late
  std::unordered_set<std::string> busy_;      // tokens of rooms with operations
  std::vector<std::shared_ptr<passing>> passing_;
  std::vector<std::shared_ptr<passing>> doubtful_; // to be sent again
  std::deque<std::size_t> recent_;                 // ids of what passed by, hashed
  std::unordered_multiset<std::size_t> recent_set_;
};

} // namespace chorus::detail
