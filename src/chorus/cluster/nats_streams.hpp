#pragma once
// JetStream by plain requests: the streams of a prefix, each made when first needed, and single entries
// of them. Belongs to the engine's thread.

#include <chorus/cluster/nats_core.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

// A stream keeps the last message of each of its subjects, or as many as its policy says, and publishes
// what it has kept again, to who listens.
struct nats_stream {
  std::string name{};
  std::string subjects{};
  std::string told{}; // where it publishes again
  nats_policy_terms keep{};
  bool known = false;  // its being there, under this connection
  bool proven = false; // it has taken a message since
  std::string created{};
  // For how long JetStream knows an id, by the stream's own configuration.
  std::chrono::milliseconds window{0};
  std::uint64_t last = 0; // the largest sequence that was seen
  std::string life{"0"};  // changed when the stream was found to have lost what it had numbered
  std::uint64_t life_at = 0;
  // Stands for what its numbers are worth: with another one they begin anew.
  std::string tag() const;
};

// What the API has answered; fields that it had.
struct nats_api {
  failure why{};
  int code = 0; // JetStream's own, with `why`
  std::uint64_t sequence = 0, first = 0, last = 0, count = 0, waiting = 0;
  std::chrono::milliseconds window{0}; // of ids
  std::string created{}, name{}, subject{}, data{};
};

namespace nats_code {
inline constexpr int other_configuration = 10058;
inline constexpr int no_stream = 10059;
inline constexpr int wrong_last = 10071;
inline constexpr int no_message = 10037;
} // namespace nats_code

inline constexpr std::int64_t nats_nanoseconds = 1'000'000; // in a millisecond

class nats_streams {
public:
  explicit nats_streams(nats_core &core);

  nats_stream &records() noexcept { return records_; }   // of rooms: epoch and policy
  nats_stream &presence() noexcept { return presence_; } // room and member
  nats_stream &leases() noexcept { return leases_; }     // node
  // Null for one too many.
  nats_stream *kept(const std::string &policy);

  // Under a new connection: all that were used.
  task<result<>> restore();
  task<result<>> ensure(nats_stream &s);
  // Something of it is not there.
  void doubt(nats_stream &s) noexcept { s.known = false; }
  // A stream has begun a new life, as another engine says: they are looked at again.
  void doubt_all() noexcept;

  task<nats_api> api(std::string request, std::string body);
  task<result<nats_entry>> last(const nats_stream &s, std::string subject);
  // The first at or after `from`.
  task<result<nats_entry>> next(const nats_stream &s, std::string subject, std::uint64_t from);
  // `first` and `last` of the stream, `count` of the subject.
  task<nats_api> state(const nats_stream &s, std::string subject);
  // If the subject's last is `before`, else wrong_last.
  task<nats_api> put(nats_stream &s, std::string subject, std::string body, std::uint64_t before);
  void remove(const nats_stream &s, std::uint64_t sequence);
  // All of the subject before `stays`.
  task<nats_api> purge(const nats_stream &s, std::string subject, std::uint64_t stays);

  struct entries {
    std::vector<nats_entry> all{};
    bool more = false;
  };
  task<result<entries>> read(const nats_stream &s, std::string subject, std::uint64_t from);

  static nats_api parse(const nats_reply &r);

private:
  std::string configuration(const nats_stream &s) const;
  task<nats_api> caught_up(const nats_stream &s); // its state
  task<result<>> look_at_life(nats_stream &s, bool lost_some);
  // One of a bounded number, by look_up_timeout; who got one gives it back.
  task<bool> begin_reading();
  void end_reading();

  nats_core &core_;
  nats_stream records_, presence_, leases_;
  std::unordered_map<std::string, std::unique_ptr<nats_stream>> kept_;
  struct reader;
  std::size_t reading_ = 0;
  std::deque<std::shared_ptr<reader>> readers_; // that wait for their turn
};

} // namespace chorus::detail
