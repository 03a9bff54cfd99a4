#include <chorus/transport/dial.hpp>

#include <chorus/base/text.hpp>
#include <chorus/transport/socket_stream.hpp>
#include <chorus/transport/tls.hpp>
#include <chorus/transport/waiter.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <vector>

namespace chorus::transport {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;

failure unresolved(chorus::error code, std::string sentence, std::string hint = {}) {
  failure_detail detail;
  detail.where = stage::resolve;
  detail.sentence = std::move(sentence);
  detail.hint = std::move(hint);
  return failure(make_error_code(code), std::move(detail));
}

failure not_a_path(const std::string &path) {
  failure_detail detail;
  detail.where = stage::connect;
  detail.address = "unix:" + path;
  detail.sentence = "the path of a socket file has 1 to 107 bytes";
  return failure(make_error_code(error::bad_url), std::move(detail));
}

// A look-up in progress. The system's resolver can't be interrupted, so it may outlast the coroutine
// that asked.
struct lookup {
  waiter *waiting = nullptr;
  error_code error;
  std::vector<endpoint> found;
};

class asking {
public:
  asking(std::shared_ptr<lookup> l, waiter &w) : lookup_(std::move(l)) { lookup_->waiting = &w; }
  ~asking() { lookup_->waiting = nullptr; }
  asking(const asking &) = delete;
  asking &operator=(const asking &) = delete;

private:
  std::shared_ptr<lookup> lookup_;
};

task<result<std::vector<endpoint>>> resolve(detail::shard &home, const dial_target &target,
                                            milliseconds limit) {
  std::vector<endpoint> literal;
  error_code not_literal;
  unsigned short port = 0;
  const auto address = asio::ip::make_address(target.host, not_literal);
  const auto kind = parse_port(target.port, port);
  if (kind == port_kind::invalid)
    co_return unresolved(error::resolve_failed,
                         "\"" + target.port + "\" is no port; ports are numbers from 0 to 65535");
  if (!not_literal && kind == port_kind::number) {
    const tcp::endpoint e(address, port);
    literal.emplace_back(e.data(), e.size());
    co_return literal;
  }
  waiter waiting(home);
  auto state = std::make_shared<lookup>();
  asking until_done(state, waiting);
  tcp::resolver resolver(home.context());
  resolver.async_resolve(target.host, target.port,
                         [state](error_code ec, const tcp::resolver::results_type &results) {
                           state->error = ec;
                           for (const auto &entry : results) {
                             const auto e = entry.endpoint();
                             state->found.emplace_back(e.data(), e.size());
                           }
                           if (state->waiting)
                             state->waiting->on_ready(0);
                         });
  const bool in_time = co_await waiting.wait(home.now() + limit);
  if (!in_time)
    co_return unresolved(error::resolve_timeout,
                         "looking up " + target.host + " took longer than " + detail::in_ms(limit),
                         "is the DNS server reachable?");
  if (state->error == asio::error::service_not_found)
    co_return unresolved(error::resolve_failed, "the port \"" + target.port +
                                                    "\" is neither a number nor a known service");
  if (state->error || state->found.empty())
    co_return unresolved(error::resolve_failed,
                         "the host name " + target.host + " is not known (" +
                             state->error.message() + ")",
                         "check its spelling and the DNS");
  co_return std::move(state->found);
}

// A failure on the way to the proxy, which has nothing to do with the host.
failure of_proxy(const failure &why, const dial_target &proxy) {
  auto detail = why.detail();
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
  std::vector<endpoint> addresses;
  if (!target.path.empty()) {
    sockaddr_un name{};
    socklen_t size = 0;
    if (!make_unix_address(target.path, name, size))
      co_return not_a_path(target.path);
    addresses.emplace_back(&name, size);
  } else {
    auto found = result<std::vector<endpoint>>(std::vector<endpoint>());
    if (options.look_up)
      found = options.look_up(first);
    else
      found = co_await resolve(home, first, options.resolve_timeout);
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
