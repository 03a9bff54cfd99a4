#include "serve_broker.hpp"

#include "log.hpp"
#include "values.hpp"

#include <chorus/base/redact.hpp>

#ifdef CHORUS_HAVE_REDIS
#include <chorus/redis.hpp>
#endif
#ifdef CHORUS_HAVE_NATS
#include <chorus/nats.hpp>
#endif

#include <algorithm>
#include <array>
#include <string_view>

namespace cli {

namespace {

#ifdef CHORUS_HAVE_REDIS
constexpr bool have_redis = true;
#else
constexpr bool have_redis = false;
#endif
#ifdef CHORUS_HAVE_NATS
constexpr bool have_nats = true;
#else
constexpr bool have_nats = false;
#endif

enum class engine { none, redis, nats };

std::string_view scheme_of(std::string_view url) {
  const auto colon = url.find(':');
  return colon == url.npos ? std::string_view() : url.substr(0, colon);
}

engine engine_of(std::string_view url) {
  constexpr std::array redis = {
      "redis",          "rediss",        "redis+unix",      "unix",
      "redis+sentinel", "redis+cluster", "rediss+sentinel", "rediss+cluster"};
  constexpr std::array nats = {"nats", "tls"};
  const auto scheme = scheme_of(url);
  if (std::find(redis.begin(), redis.end(), scheme) != redis.end())
    return engine::redis;
  if (std::find(nats.begin(), nats.end(), scheme) != nats.end())
    return engine::nats;
  return engine::none;
}

std::string complaint_about_url(const std::string &url) {
  switch (engine_of(url)) {
  case engine::none: {
    const auto scheme = scheme_of(url);
    const bool plain = !scheme.empty() && scheme.size() <= 20 &&
                       std::all_of(scheme.begin(), scheme.end(),
                                   [](char c) { return (c >= 'a' && c <= 'z') || c == '+'; });
    return (plain ? "'" + std::string(scheme) + ":' is no engine that servers can share"
                  : std::string("this is no URL of an engine that servers can share")) +
           "; say redis://HOST:6379, rediss://, unix:/PATH, "
           "redis+sentinel://HOST:26379/?master=NAME, "
           "redis+cluster://HOST:6379, nats://HOST:4222 or tls://HOST:4222 for NATS with TLS";
  }
  case engine::redis:
    return have_redis ? ""
                      : "this program was built without Redis; build it again with libhiredis "
                        "(Debian: libhiredis-dev) and CHORUS_BUILD_REDIS=ON";
  case engine::nats:
    return have_nats ? ""
                     : "this program was built without NATS; build it again with libnats "
                       "(Debian: libnats-dev) and CHORUS_BUILD_NATS=ON";
  }
  return {};
}

} // namespace

void add_broker(CLI::App &app, broker_settings &s) {
  auto *url =
      app.add_option_function<std::string>(
             "--broker",
             [&s](const std::string &text) {
               if (const auto why = complaint_about_url(text); !why.empty())
                 throw CLI::ValidationError("--broker", why);
               s.url = text;
             },
             "Be a node of several, which share this engine: redis://…, rediss://…, unix:/PATH, "
             "redis+sentinel://…, redis+cluster://…, nats://… or tls://… (NATS)")
          ->envname("CHORUS_BROKER")
          ->type_name("URL");
  app.add_option("--broker-ca", s.ca,
                 "Authorities (PEM) of a rediss: or tls: engine, instead of the system's")
      ->needs(url)
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  app.add_option(
         "--when-away", s.when_away,
         "What becomes of messages for rooms with history while the engine is away: they fail, "
         "they wait for it, or members here alone get them")
      ->check(CLI::IsMember({"refuse", "buffer", "degrade"}))
      ->needs(url)
      ->capture_default_str();
  add_duration(app, "--broker-lease", s.lease,
               "Who is present by this node's word stays so this long after its last word")
      ->needs(url)
      ->check([](const std::string &text) {
        const auto value = parse_duration(text);
        return value && *value < std::chrono::seconds(1)
                   ? "'" + text + "' is less than a second; say 15s"
                   : std::string();
      });
}

void use_broker(const broker_settings &s, chorus::server_options &o) {
  if (s.url.empty())
    return;
  o.broker_lease = s.lease;
#ifdef CHORUS_HAVE_REDIS
  if (engine_of(s.url) == engine::redis) {
    chorus::redis_options how;
    how.tls.ca_file = s.ca;
    how.on_event = [](std::string_view what) { log()->info("{}", what); };
    o.broker = chorus::redis(s.url, how);
  }
#endif
#ifdef CHORUS_HAVE_NATS
  if (engine_of(s.url) == engine::nats) {
    chorus::nats_options how;
    how.ca_file = s.ca;
    o.broker = chorus::nats(s.url, how);
  }
#endif
  log()->info("shares rooms, users and presence by {}; while it is away messages for rooms with "
              "history {}",
              name_of_engine(s),
              s.when_away == "buffer"    ? "wait for it"
              : s.when_away == "degrade" ? "go to members here alone"
                                         : "are refused");
}

chorus::away_policy away_policy_of(const broker_settings &s) noexcept {
  return s.when_away == "buffer"    ? chorus::away_policy::buffer
         : s.when_away == "degrade" ? chorus::away_policy::degrade
                                    : chorus::away_policy::refuse;
}

std::string name_of_engine(const broker_settings &s) {
  // Whatever is before the last @ may be a password that was not encoded as it should be.
  const auto scheme = scheme_of(s.url);
  const auto at = s.url.rfind('@');
  return at == s.url.npos
             ? chorus::redact(s.url)
             : std::string(scheme) + "://" + chorus::redact(std::string_view(s.url).substr(at + 1));
}

} // namespace cli
