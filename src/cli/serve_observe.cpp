#include "serve_observe.hpp"

#ifdef CHORUS_HAVE_OBSERVE
#include <chorus/observe.hpp>
#endif

namespace cli {

void add_observe_options(CLI::App &app, std::string &metrics_token) {
  app.add_option("--metrics-token", metrics_token,
                 "What GET /metrics wants as Authorization: Bearer TOKEN; without one it answers "
                 "anyone")
      ->envname("CHORUS_METRICS_TOKEN")
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
