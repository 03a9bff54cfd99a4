#pragma once
// One client connection of the load: upgrade, the reader of server frames, and sending in batches.
// Nothing here allocates per message; what a link keeps between events is the rest of an unfinished send.

#include "payload.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace load {

// What went wrong, in a word that a script can look at, and in a sentence.
class failure : public std::runtime_error {
public:
  failure(std::string kind, const std::string &sentence)
      : std::runtime_error{sentence}, kind_{std::move(kind)} {}
  const std::string &kind() const { return kind_; }

private:
  std::string kind_;
};

struct target {
  std::string host;
  std::uint16_t port = 0;
  std::string path = "/";
};
target parse_url(const std::string &url); // ws:// only; throws failure "usage"

struct dial_options {
  int receive_buffer = 0;        // bytes of SO_RCVBUF, 0 for the system's
  std::uint32_t source = 0;      // an address of this host to come from, 0 for any
  std::uint64_t deadline_ns = 0; // on the clock of now_ns
};

// A connected, upgraded, non-blocking descriptor. Throws failure with one of the kinds connect_refused,
// connect_timeout, connect_failed, upgrade_refused (with the status), upgrade_invalid, upgrade_timeout,
// upgrade_closed, no_descriptors.
int dial(const target &to, const dial_options &options);

struct tally {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0; // payload
  std::uint64_t lost = 0;  // sequence numbers that never came, seen by a later one
  std::uint64_t disordered = 0;
  std::uint64_t corrupted = 0; // wrong size, kind or content
  std::uint64_t fragmented = 0;
  bool clean() const { return lost == 0 && disordered == 0 && corrupted == 0; }
};

enum class link_state { open, closed_by_frame, ended, failed };

class link {
public:
  link(int fd, std::uint32_t index, std::uint32_t expected_sender)
      : fd_{fd}, index_{index}, sender_{expected_sender} {}

  int fd() const { return fd_; }
  std::uint32_t index() const { return index_; }
  link_state state() const { return state_; }
  const std::string &why() const { return why_; }
  int close_code() const { return close_code_; }
  std::uint32_t received() const { return next_; } // the next sequence number that is expected
  std::uint64_t last_arrival = 0;                  // for those who measure gaps

  // One recv into the shared buffer, then on_message(sequence) for each message that it completed.
  // False when nothing was there or the link ended.
  template <class Handler>
  bool receive(std::vector<std::uint8_t> &shared, const payload &expected, tally &sum,
               Handler &&on_message);

  // Sends frames first..first+count-1, or as much of them as the socket takes now; returns how many
  // were begun. The rest of a frame begun is kept and goes first.
  std::uint32_t send(std::vector<std::uint8_t> &scratch, const payload &what, std::uint32_t sender,
                     std::uint32_t first, std::uint32_t count);
  bool blocked() const { return !rest_.empty(); }
  void flush_rest();
  void say_goodbye(); // a close frame with 1000, tried once, and the descriptor is closed

private:
  void fail(const std::string &why) {
    state_ = link_state::failed;
    why_ = why;
  }
  long receive_some(std::vector<std::uint8_t> &shared); // bytes read, 0 for none now or ended
  bool take_header(); // head_ is whole: look at it; false on a violation
  void control_ended();
  void chunk(const std::uint8_t *p, std::size_t n, const payload &expected);
  void judge(std::uint64_t tag, bool intact, const payload &expected, tally &sum);

  int fd_;
  std::uint32_t index_;
  std::uint32_t sender_;
  std::uint32_t next_ = 0;
  link_state state_ = link_state::open;
  bool in_payload_ = false;
  bool in_message_ = false;
  bool intact_ = true;
  std::uint8_t have_ = 0; // bytes of head_
  std::uint8_t kind_ = 0; // opcode that the message began with
  std::uint8_t head_[10];
  std::uint8_t tag_[tag_size];
  std::uint8_t control_[125];
  std::uint64_t left_ = 0; // of the frame's payload
  std::uint64_t at_ = 0;   // in the message, or in the control frame
  std::uint64_t message_at_ = 0;
  std::vector<std::uint8_t> rest_;
  std::size_t rest_from_ = 0;
  int close_code_ = 0;
  std::string why_;
};

template <class Handler>
bool link::receive(std::vector<std::uint8_t> &shared, const payload &expected, tally &sum,
                   Handler &&on_message) {
  const long got = receive_some(shared);
  if (got <= 0)
    return false;
  const std::uint8_t *p = shared.data();
  auto n = static_cast<std::size_t>(got);
  const std::uint8_t usual = expected.text() ? 0x81 : 0x82;
  while (n > 0 && state_ == link_state::open) {
    if (!in_payload_) {
      if (have_ == 0 && !in_message_ && n >= 4 && p[0] == usual && p[1] < 127) {
        const std::size_t header = p[1] == 126 ? 4 : 2;
        const std::size_t size = p[1] == 126 ? static_cast<std::size_t>(p[2] << 8 | p[3]) : p[1];
        if (n >= header + size) { // a whole small message: the usual case
          std::uint64_t tag = 0;
          const bool right_size = size == expected.size();
          if (right_size)
            std::memcpy(&tag, p + header, expected.tag_bytes());
          judge(tag, right_size && expected.body_matches(p + header, size, 0), expected, sum);
          on_message(next_ - 1);
          p += header + size;
          n -= header + size;
          continue;
        }
      }
      head_[have_++] = *p++;
      --n;
      if (have_ < 2)
        continue;
      const unsigned length = head_[1] & 127;
      if (have_ < (length == 126 ? 4 : length == 127 ? 10 : 2))
        continue;
      if (!take_header())
        return false;
    } else {
      const std::size_t k = left_ < n ? static_cast<std::size_t>(left_) : n;
      chunk(p, k, expected);
      p += k;
      n -= k;
      left_ -= k;
    }
    if (in_payload_ && left_ == 0) {
      in_payload_ = false;
      have_ = 0;
      if (head_[0] & 8) {
        control_ended();
      } else {
        message_at_ = at_;
        if (!(head_[0] & 0x80)) {
          ++sum.fragmented;
          continue;
        }
        in_message_ = false;
        std::uint64_t tag = 0;
        std::memcpy(&tag, tag_, expected.tag_bytes());
        judge(tag, intact_ && message_at_ == expected.size(), expected, sum);
        on_message(next_ - 1);
      }
    }
  }
  return true;
}

} // namespace load
