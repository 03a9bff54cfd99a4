#include <chorus/transport/proxy.hpp>

#include <chorus/base/base64.hpp>
#include <chorus/base/text.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/ip/address.hpp>

#include <algorithm>
#include <array>
#include <charconv>

namespace chorus::transport {

namespace {

namespace ip = boost::asio::ip;

constexpr std::size_t max_head = 8 * 1024;
constexpr std::size_t max_body = 1024;

failure_detail about(const stream &s, std::string sentence, std::string hint) {
  failure_detail detail;
  detail.where = stage::proxy;
  detail.address = s.remote_address();
  detail.sentence = std::move(sentence);
  detail.hint = std::move(hint);
  return detail;
}

failure failed(chorus::error code, const stream &s, std::string sentence, std::string hint = {}) {
  return failure(make_error_code(code), about(s, std::move(sentence), std::move(hint)));
}

failure broken(const failure &why, const stream &s) {
  if (why == error::proxy_timeout)
    return failed(error::proxy_timeout, s,
                  "the proxy " + s.remote_address() + " did not connect to the server in time",
                  "can it reach the server, and is it a proxy of this kind?");
  return failed(error::lost, s,
                "the connection to the proxy " + s.remote_address() +
                    " broke: " + why.code().message());
}

failure no_proxy_there(const stream &s, const char *kind, const std::string &why) {
  return failed(error::proxy_invalid, s,
                "what answers at " + s.remote_address() + " is no " + kind + " proxy: " + why,
                "check the proxy's address, port and kind (http:// or socks5://)");
}

failure ended(const stream &s) {
  return failed(error::lost, s,
                "the proxy " + s.remote_address() + " ended the connection without an answer",
                "does it allow this host and port, and is it a proxy of this kind?");
}

// Exactly so many bytes: what comes behind them is the server's.
task<result<std::string>> read_exactly(stream &s, std::size_t count, detail::time_point deadline) {
  std::string out(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    const auto rest = std::as_writable_bytes(std::span(out)).subspan(have);
    auto got = co_await read_some(s, rest, deadline, error::proxy_timeout);
    if (!got)
      co_return broken(got.error(), s);
    if (*got == 0)
      co_return ended(s);
    have += *got;
  }
  co_return out;
}

// The answer's head with its empty line, and not a byte more.
task<result<std::string>> read_head(stream &s, detail::time_point deadline) {
  std::string head;
  while (!head.ends_with("\n\r\n") && !head.ends_with("\n\n")) {
    if (head.size() >= max_head)
      co_return no_proxy_there(s, "HTTP", "the head of its answer is larger than 8 KiB");
    const bool near = head.ends_with('\n') || head.ends_with("\n\r");
    auto more = co_await read_exactly(s, near ? 1 : 2, deadline);
    if (!more)
      co_return more.error();
    head += *more;
    if (head.size() >= 5 && !head.starts_with("HTTP/"))
      co_return no_proxy_there(s, "HTTP", "its answer does not begin with HTTP/");
  }
  co_return head;
}

// A line of the head without what ends it.
std::string_view line_at(std::string_view head) {
  auto line = head.substr(0, head.find('\n'));
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  return detail::trimmed(line);
}

std::string http_hint(unsigned status, bool had_credentials) {
  switch (status) {
  case 403:
    return "it does not allow this host or port; ask who runs the proxy";
  case 401:
  case 407:
    if (had_credentials)
      return "it does not know this user and password; check what stands before the @ in its URL";
    return "it wants a user and a password; give them in the proxy's URL, as in "
           "http://user:password@host:port";
  case 405:
  case 501:
    return "it does not know CONNECT; is it a forward proxy?";
  case 500:
  case 502:
  case 503:
  case 504:
    return "it can't reach the server; check the server's name and port";
  default:
    return "check the proxy's address and what it allows";
  }
}

task<result<>> by_http(stream &s, const proxy_server &by, const std::string &host,
                       const std::string &port, detail::time_point deadline) {
  const auto authority = (host.find(':') == host.npos ? host : "[" + host + "]") + ":" + port;
  std::string request = "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n";
  if (!by.user.empty())
    request += "Proxy-Authorization: Basic " +
               chorus::detail::to_base64(by.user + ":" + by.password) + "\r\n";
  request += "\r\n";
  auto written = co_await write_all(s, request, deadline, error::proxy_timeout);
  if (!written)
    co_return broken(written.error(), s);
  auto head = co_await read_head(s, deadline);
  if (!head)
    co_return head.error();

  std::string_view rest = *head;
  const auto line = line_at(rest);
  rest.remove_prefix(rest.find('\n') + 1);
  unsigned status = 0;
  const auto blank = line.find(' ');
  if (blank != line.npos)
    std::from_chars(line.data() + blank + 1, line.data() + line.size(), status);
  if (status < 100 || status > 599)
    co_return no_proxy_there(s, "HTTP", "its answer has no status");
  if (status >= 200 && status < 300)
    co_return result<>();

  auto detail =
      about(s,
            "the proxy " + s.remote_address() + " answered " +
                chorus::detail::one_line(line.substr(blank + 1), 80) + " to CONNECT " + authority,
            http_hint(status, !by.user.empty()));
  detail.status = status;
  detail.wants_credentials = status == 401 || status == 407;
  // Where nothing says how long the body is, its end is the connection's.
  std::size_t length = line.starts_with("HTTP/1.0") ? max_body : 0;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size() - 1);
    const auto field = line_at(rest);
    rest.remove_prefix(end + 1);
    const auto colon = field.find(':');
    if (colon == field.npos || colon == 0)
      continue;
    const std::string name(field.substr(0, colon));
    const auto value = detail::trimmed(field.substr(colon + 1));
    detail.headers.emplace_back(name, value);
    if (detail::equal_ignoring_case(name, "Content-Length"))
      std::from_chars(value.data(), value.data() + value.size(), length);
    else if (detail::equal_ignoring_case(name, "Connection") && value == "close" && length == 0)
      length = max_body;
  }
  // Only as much of the body as it says there is: one without an end is not waited for.
  std::string body(std::min(length, max_body), '\0');
  std::size_t have = 0;
  while (have < body.size()) {
    const auto into = std::as_writable_bytes(std::span(body)).subspan(have);
    auto got = co_await read_some(s, into, deadline, error::proxy_timeout);
    if (!got || *got == 0)
      break;
    have += *got;
  }
  body.resize(have);
  detail.body = std::move(body);
  co_return failure(make_error_code(error::proxy_refused), std::move(detail));
}

const char *socks_reply(unsigned code) {
  constexpr std::array texts{"",
                             "it failed in general",
                             "its rules do not allow this host or port",
                             "it can't reach the server's network",
                             "it can't reach the server",
                             "the server refused the connection",
                             "the server did not answer in time",
                             "it does not know the command CONNECT",
                             "it does not know this kind of address"};
  return code < texts.size() ? texts[code] : "it gave a reason that is not in RFC 1928";
}

failure refused(const stream &s, const std::string &why, std::string hint,
                bool wants_credentials = false) {
  auto detail = about(s, "the proxy " + s.remote_address() + " refused: " + why, std::move(hint));
  detail.wants_credentials = wants_credentials;
  return failure(make_error_code(error::proxy_refused), std::move(detail));
}

std::string socks_request(const std::string &host, const std::string &port) {
  std::string out("\x05\x01\x00", 3);
  boost::system::error_code no_address;
  const auto address = ip::make_address(host, no_address);
  const auto append = [&out](const auto &bytes) {
    for (const auto b : bytes)
      out += static_cast<char>(b);
  };
  if (no_address) {
    out += '\x03';
    out += static_cast<char>(host.size());
    out += host;
  } else if (address.is_v4()) {
    out += '\x01';
    append(address.to_v4().to_bytes());
  } else {
    out += '\x04';
    append(address.to_v6().to_bytes());
  }
  unsigned number = 0;
  std::from_chars(port.data(), port.data() + port.size(), number);
  out += static_cast<char>(number >> 8);
  out += static_cast<char>(number & 0xff);
  return out;
}

task<result<>> by_socks5(stream &s, const proxy_server &by, const std::string &host,
                         const std::string &port, detail::time_point deadline) {
  const auto byte = [](const std::string &text, std::size_t at) {
    return static_cast<unsigned>(static_cast<unsigned char>(text[at]));
  };
  if (host.size() > 255)
    co_return refused(s, "SOCKS5 has no place for a name of more than 255 bytes",
                      "use the address instead");
  const auto greeting = by.user.empty() ? std::string("\x05\x01\x00", 3)      // no authentication
                                        : std::string("\x05\x02\x00\x02", 4); // or by password
  auto written = co_await write_all(s, greeting, deadline, error::proxy_timeout);
  if (!written)
    co_return broken(written.error(), s);
  auto chosen = co_await read_exactly(s, 2, deadline);
  if (!chosen)
    co_return chosen.error();
  if (byte(*chosen, 0) != 5)
    co_return no_proxy_there(s, "SOCKS5", "its answer does not begin with the version 5");
  const auto method = byte(*chosen, 1);
  if (method == 2 && !by.user.empty()) {
    std::string credentials("\x01");
    credentials += static_cast<char>(by.user.size());
    credentials += by.user;
    credentials += static_cast<char>(by.password.size());
    credentials += by.password;
    written = co_await write_all(s, credentials, deadline, error::proxy_timeout);
    if (!written)
      co_return broken(written.error(), s);
    auto verdict = co_await read_exactly(s, 2, deadline);
    if (!verdict)
      co_return verdict.error();
    if (byte(*verdict, 1) != 0)
      co_return refused(s, "the user or the password is wrong",
                        "check what stands before the @ in the proxy's URL", true);
  } else if (method == 0xff) {
    co_return by.user.empty()
        ? refused(s, "it wants authentication",
                  "give a user and a password in the proxy's URL, as in "
                  "socks5://user:password@host:port",
                  true)
        : refused(s, "it takes no user and password", "ask who runs it how to authenticate", true);
  } else if (method != 0) {
    co_return no_proxy_there(s, "SOCKS5", "it chose a way to authenticate that was not offered");
  }
  const auto request = socks_request(host, port);
  written = co_await write_all(s, request, deadline, error::proxy_timeout);
  if (!written)
    co_return broken(written.error(), s);
  auto reply = co_await read_exactly(s, 5, deadline);
  if (!reply)
    co_return reply.error();
  if (byte(*reply, 0) != 5)
    co_return no_proxy_there(s, "SOCKS5", "its reply does not begin with the version 5");
  if (const auto code = byte(*reply, 1); code != 0)
    co_return refused(s, socks_reply(code),
                      code == 2 ? "ask who runs the proxy" : "check the server's name and port");
  // The address that the proxy bound, of no use here: one byte of it has been read.
  std::size_t left = 0;
  switch (byte(*reply, 3)) {
  case 1:
    left = 4 + 2 - 1;
    break;
  case 3:
    left = byte(*reply, 4) + 2;
    break;
  case 4:
    left = 16 + 2 - 1;
    break;
  default:
    co_return no_proxy_there(s, "SOCKS5", "its reply holds an address of an unknown kind");
  }
  auto bound = co_await read_exactly(s, left, deadline);
  if (!bound)
    co_return bound.error();
  co_return result<>();
}

} // namespace

task<result<>> connect_through(stream &s, proxy_server by, std::string host, std::string port,
                               detail::time_point deadline) {
  // A zone means something to this machine only.
  host.resize(std::min(host.find('%'), host.size()));
  auto asking = by.kind == proxy_kind::http ? by_http(s, by, host, port, deadline)
                                            : by_socks5(s, by, host, port, deadline);
  auto done = co_await std::move(asking);
  co_return done;
}

} // namespace chorus::transport
