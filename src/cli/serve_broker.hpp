#pragma once
// `chorus serve` as one of several nodes: the engine that they share, and what becomes of messages while
// that is away.

#include <chorus/chorus.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <string>

namespace cli {

struct broker_settings {
  std::string url; // empty: a server alone
  std::string ca;
  std::string when_away = "refuse";
  std::chrono::milliseconds lease{15'000};
};

// The options for that. A URL of no engine, or of one that this build lacks, is a usage error; none of
// its sentences repeats the URL, which may hold a password.
void add_broker(CLI::App &app, broker_settings &settings);

// Makes the engine, and says in the log which.
void use_broker(const broker_settings &settings, chorus::server_options &options);

chorus::away_policy away_policy_of(const broker_settings &settings) noexcept;

// The engine, without its password, for people.
std::string name_of_engine(const broker_settings &settings);

} // namespace cli
