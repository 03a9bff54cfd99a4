#include <chorus/observe/health.hpp>

#include <chorus/server/broker_node.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/server_core.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <string>

namespace chorus::observe {

namespace {

task<response> live() { co_return response("ok\n"); }

// The second line while the broker's engine is away, without which a server goes on as its rooms say.
std::string about_broker(const chorus::detail::server_core &core) {
  const auto &node = core.setup()->rooms->node();
  if (!node)
    return {};
  const auto now = node->watch().look();
  if (!now.away)
    return {};
  const auto since = std::chrono::system_clock::to_time_t(now.since);
  std::tm utc{};
  ::gmtime_r(&since, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  auto line = "broker: away since " + std::string(text.data()) + ", " + now.why + "\n";
  std::replace_if(
      line.begin(), std::prev(line.end()),
      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, ' ');
  return line;
}

task<response> ready(std::weak_ptr<chorus::detail::server_core> server) {
  const auto core = server.lock();
  std::string text = core && core->ready() ? "ready\n" : "not ready\n";
  if (core)
    text += about_broker(*core);
  response page(std::move(text));
  if (!core || !core->ready())
    page.status(503);
  co_return page;
}

} // namespace

void mount_health(server &srv, health_options options) {
  if (!options.live.empty())
    srv.get(options.live, [](const request &) { return live(); });
  if (!options.ready.empty())
    srv.get(options.ready,
            [core = std::weak_ptr(srv.core())](const request &) { return ready(core); });
}

} // namespace chorus::observe
