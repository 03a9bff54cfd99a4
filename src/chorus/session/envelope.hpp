#pragma once
// A subprotocol that wraps every message of a WebSocket connection and has messages of its own, beneath
// the session's verbs: who receives and sends sees payloads only. Belongs to its session and to that
// session's shard.

#include <chorus/base/message.hpp>
#include <chorus/protocol/close_code.hpp>

#include <cstddef>
#include <span>
#include <string_view>

namespace chorus::detail {

class session_core;

class session_envelope {
public:
  enum class verdict : unsigned char {
    payload,  // a message for whoever receives, behind `head` bytes
    consumed, // nothing for them
    refused,  // the peer broke the subprotocol: see `complaint`
  };

  virtual ~session_envelope() = default;

  // The session is open, or over; each is called at most once, `closed` last.
  virtual void opened(session_core &) {}
  virtual void closed() noexcept {}

  // A received message. Must not end the session nor resume anybody inline.
  virtual verdict unwrap(std::span<const std::byte> received, std::size_t &head) = 0;
  // What to close with after a refusal.
  virtual std::string_view complaint() const noexcept = 0;
  virtual close_code complaint_code() const noexcept { return close_code::protocol_error; }
  // A message of this side's as it goes on the wire. Throws std::bad_alloc.
  virtual message wrap(const message &m) = 0;
  // The most that `unwrap` takes off a message, in bytes.
  virtual std::size_t max_head() const noexcept = 0;
  // This side closes, and nobody takes what comes from here on: payloads are dropped.
  virtual void ignored() noexcept {}
};

// `head` and then the payload of `m`, in one message of its kind.
message with_head(std::string_view head, const message &m);

} // namespace chorus::detail
