#include <chorus/observe/health.hpp>

#include <chorus/server/server_core.hpp>

namespace chorus::observe {

namespace {

task<response> live() { co_return response("ok\n"); }

task<response> ready(std::weak_ptr<chorus::detail::server_core> server) {
  const auto core = server.lock();
  response page(core && core->ready() ? "ready\n" : "not ready\n");
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
