#pragma once
// A NATS server of a test's own, and handles to it as nodes would have them.

#include "support/broker_calls.hpp"
#include "support/nats_process.hpp"

#include <chorus/cluster/nats.hpp>

namespace nats_test {

using namespace std::chrono_literals;
using test_support::asker;
using test_support::becomes_true;
using test_support::nats_process;

inline asker node_at(const std::string &url, chorus::nats_options o) {
  auto made = chorus::nats(url, std::move(o));
  made->attach({}).value();
  return asker(std::move(made));
}

inline bool is_up(const asker &a) {
  return becomes_true([&] { return a.engine->status().connected; });
}
inline bool is_down(const asker &a) {
  return becomes_true([&] { return !a.engine->status().connected; });
}

inline chorus::nats_options patient() {
  chorus::nats_options o;
  o.answer_timeout = 20s; // on a slow machine, too
  return o;
}

struct one_server {
  nats_process server;
  chorus::room_options kept;
  one_server() { kept.history_messages = 10'000; }

  asker node(chorus::nats_options o = patient()) const {
    return node_at(server.url(), std::move(o));
  }
};

} // namespace nats_test
