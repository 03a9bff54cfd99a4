#pragma once
// `nats`: a broker on a NATS server: core NATS for what passes, JetStream for what is kept. docs/scaling.md
// says what it can't give.
//
//   options.broker = chorus::nats("nats://127.0.0.1:4222");

#include <chorus/server/broker.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace chorus {

// Members are only ever added at the end.
struct nats_options {
  std::string client_name{}; // as the server's monitoring shows it; empty: "chorus"
  std::string prefix =
      "chorus"; // of every subject, stream and bucket; a token: letters, digits, - and _
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds answer_timeout{3'000}; // of a request, and of a ping
  // Of a message whose acknowledgement was lost, and of what waits for its turn to ask NATS.
  std::chrono::milliseconds look_up_timeout{30'000};
  std::size_t max_waiting = 20'000; // calls without an answer, and their bytes
  std::size_t max_waiting_bytes = std::size_t{64} << 20;
  std::string ca_file{};          // PEM; for tls://
  std::string credentials_file{}; // a user's JWT and NKey
  // Of the streams, as they are made: where they are kept, and how many servers of a cluster have them.
  bool in_memory = false;
  int replicas = 1;
  // Rooms that keep messages for any time keep none for longer: NATS has no `history_linger`.
  std::chrono::hours longest_kept{24 * 7};
};

// `url`: nats://[user:password@]host[:4222][,host…], or tls://; user and password percent-encoded, or a token
// instead of both. What is wrong with it is answered by server::start, with bad_url.
std::shared_ptr<broker> nats(std::string_view url, nats_options options = {});

} // namespace chorus
