#include "serve_observe.hpp"

#ifdef CHORUS_HAVE_OBSERVE
#include <chorus/observe.hpp>
#endif

#include <algorithm>

namespace cli {

namespace {

// An empty one, as from a variable that is not set, must not open what was to be closed.
std::string usable_token(std::string &text) {
  const auto visible = [](char c) { return c > ' ' && c <= '~'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), visible)
             ? std::string()
             : "a token is visible ASCII without blanks, and not empty";
}

} // namespace

void add_observe_options(CLI::App &app, std::string &metrics_token, std::string &admin_token) {
  app.add_option("--metrics-token", metrics_token,
                 "What GET /metrics wants as Authorization: Bearer TOKEN; without one it answers "
                 "anyone")
      ->envname("CHORUS_METRICS_TOKEN")
      ->check(CLI::Validator(usable_token, ""))
      ->type_name("TOKEN");
  app.add_option("--admin-token", admin_token,
                 "Serve /rooms and /connections to who says Authorization: Bearer TOKEN")
      ->envname("CHORUS_ADMIN_TOKEN")
      ->check(CLI::Validator(usable_token, ""))
      ->type_name("TOKEN");
}

void mount_observe([[maybe_unused]] chorus::server &srv,
                   [[maybe_unused]] const std::string &metrics_token) {
#ifdef CHORUS_HAVE_OBSERVE
  chorus::observe::mount_metrics(srv, {.token = metrics_token});
  chorus::observe::mount_health(srv);
#endif
}

} // namespace cli
