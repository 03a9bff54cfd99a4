#include <chorus/transport/dial.hpp>

#include <chorus/transport/resolve.hpp>
#include <chorus/transport/socket_stream.hpp>
#include <chorus/transport/tls.hpp>

#include <net/if.h>
#include <optional>
#include <vector>

namespace chorus::transport {

namespace {

failure not_a_path(const std::string &path) {
  failure_detail detail;
  detail.where = stage::connect;
  detail.address = "unix:" + path;
  detail.sentence = "the path of a socket file has 1 to 107 bytes";
  return failure(make_error_code(error::bad_url), std::move(detail));
}

// The zone of an IPv6 address when this machine has no such interface. Asio leaves out what it does not know,
// and any interface would do then.
std::optional<std::string> unknown_zone(const std::string &host) {
  const auto mark = host.find('%');
  if (mark == host.npos || host.find(':') > mark)
    return {};
  auto zone = host.substr(mark + 1);
  const bool number =
      !zone.empty() && zone.find_first_not_of("0123456789") == zone.npos; // of an interface
  if (number || ::if_nametoindex(zone.c_str()) != 0)
    return {};
  return zone;
}

failure no_such_zone(const std::string &zone, const std::string &host) {
  failure_detail detail;
  detail.where = stage::resolve;
  detail.sentence = "the zone \"" + zone + "\" of the address " + host +
                    " is no network interface of this machine";
  detail.hint = "its interfaces are listed by: ip link";
  return failure(make_error_code(error::resolve_failed), std::move(detail));
}

// A failure on the way to the proxy, which has nothing to do with the host.
failure of_proxy(const failure &why, const dial_target &proxy) {
  auto detail = why.detail();
  detail.where = stage::proxy;
  detail.hint = "check the proxy's address, or go without it";
  detail.sentence = "the proxy " + proxy.host + ":" + proxy.port + ": " + detail.sentence;
  return failure(why.code(), std::move(detail));
}

} // namespace

task<result<std::unique_ptr<stream>>> dial(detail::shard &home, dial_target target,
                                           dial_options options) {
  const auto keep = home.shared_from_this();
  auto context = options.ready_context;
  if (target.tls && !context) {
    auto made = make_client_context(options.tls);
    if (!made)
      co_return made.error();
    context = std::move(*made);
  }
  const bool by_proxy = target.path.empty() && options.proxy;
  auto first = target; // where the socket goes to
  if (by_proxy) {
    first.host = options.proxy->host;
    first.port = options.proxy->port;
  }
  if (options.observer)
    options.observer->on_started();
  std::vector<endpoint> addresses;
  if (!target.path.empty()) {
    sockaddr_un name{};
    socklen_t size = 0;
    if (!make_unix_address(target.path, name, size))
      co_return not_a_path(target.path);
    addresses.emplace_back(&name, size);
  } else {
    auto found = result<std::vector<endpoint>>(std::vector<endpoint>());
    if (options.look_up) {
      found = options.look_up(first);
    } else if (const auto zone = unknown_zone(first.host)) {
      found = no_such_zone(*zone, first.host);
    } else {
      auto looking = resolve(home, first.host, first.port, options.resolve_timeout);
      found = co_await std::move(looking);
    }
    if (!found)
      co_return by_proxy ? of_proxy(found.error(), first) : found.error();
    addresses = interleave(std::move(*found));
  }
  if (options.observer) {
    std::vector<std::string> shown;
    for (const auto &one : addresses)
      shown.push_back(one.text());
    options.observer->on_resolved(shown);
  }
  race_options race;
  race.limit = options.connect_timeout;
  race.stagger = options.stagger;
  race.keep_alive = options.keep_alive;
  auto connecting = connect_any(home, std::move(addresses), race);
  auto connected = co_await std::move(connecting);
  if (!connected)
    co_return by_proxy ? of_proxy(connected.error(), first) : connected.error();
  auto plain = make_socket_stream(home, connected->release());
  if (options.observer)
    options.observer->on_connected(plain->remote_address(), plain->local_address());
  if (by_proxy) {
    const auto deadline = home.now() + options.connect_timeout;
    auto asking = connect_through(*plain, *options.proxy, target.host, target.port, deadline);
    auto agreed = co_await std::move(asking);
    if (!agreed)
      co_return agreed.error();
    if (options.observer)
      options.observer->on_proxied();
  }
  if (!target.tls)
    co_return std::move(plain);
  auto secure = make_tls_client_stream(std::move(plain), context, target.host);
  if (!secure)
    co_return secure.error();
  auto done = co_await tls_handshake(**secure, home.now() + options.tls_timeout);
  if (options.observer)
    if (const auto shown = tls_certificate_of(**secure))
      options.observer->on_certificate(*shown);
  if (!done)
    co_return done.error();
  if (options.observer)
    options.observer->on_secured(tls_info_of(**secure));
  co_return std::move(*secure);
}

} // namespace chorus::transport
