#pragma once
// What /dashboard draws: one JSON object with the server's counters, the queues and round trips of its
// sessions, and its rooms. docs/chat.md lists the members.

#include "chat.hpp"

#include <memory>
#include <string>

namespace cli {

// What nodes share; without a broker this server is alone.
struct shared_engine {
  std::string name{}; // for people
  std::shared_ptr<chorus::broker> broker{};
};

// Answers GET of `path`. Looking at every session costs time that grows with their number, so one
// look is made at most every half second, however many dashboards ask.
void serve_stats(chorus::server &srv, std::string_view path, std::shared_ptr<chat> rooms,
                 shared_engine engine);

} // namespace cli
