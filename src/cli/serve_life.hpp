#pragma once
// The life of `chorus serve` apart from its routes: where its sockets come from, signals, and the ways
// in which it ends.

#include "exit_status.hpp"
#include "serve.hpp"

#include <chorus/server/handover.hpp>
#include <chorus/server/server.hpp>

#include <optional>

namespace cli {

// The options for all that.
void add_life(CLI::App &command, serve_settings &settings);

// Where to listen, as the options say: "inherited" becomes the sockets that the parent hands over, and
// with --handover a predecessor's take the place of all. False, and said why, when that is not
// possible. To be called before the server is made.
bool find_sockets(const serve_settings &settings, chorus::runtime &rt,
                  chorus::server_options &options, std::optional<chorus::inheritance> &heritage,
                  status &outcome);

// Starts, says so, and serves until a signal or a successor ends it.
chorus::task<> live(const serve_settings &settings, chorus::server &srv,
                    std::optional<chorus::inheritance> heritage, status &outcome);

} // namespace cli
