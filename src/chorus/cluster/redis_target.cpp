#include <chorus/cluster/redis_target.hpp>

#include <chorus/base/text.hpp>

#include <arpa/inet.h>

#include <charconv>
#include <optional>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::size_t max_redis_url = 8 * 1024;
constexpr std::size_t max_redis_hosts = 256;
constexpr std::size_t longest_socket_path = 107; // sockaddr_un::sun_path and its terminator

// No sentence repeats what stands before the @.
failure bad_redis_url(std::string sentence) {
  return failure(error::bad_url, stage::configure, "the URL of Redis " + std::move(sentence));
}

struct redis_scheme {
  std::string_view name;
  redis_target::kind is;
  bool tls;
  bool unix_socket;
};
constexpr redis_scheme redis_schemes[] = {
    {"redis", redis_target::kind::single, false, false},
    {"rediss", redis_target::kind::single, true, false},
    {"redis+unix", redis_target::kind::single, false, true},
    {"unix", redis_target::kind::single, false, true},
    {"redis+sentinel", redis_target::kind::sentinel, false, false},
    {"rediss+sentinel", redis_target::kind::sentinel, true, false},
    {"redis+cluster", redis_target::kind::cluster, false, false},
    {"rediss+cluster", redis_target::kind::cluster, true, false},
};

bool well_escaped(std::string_view text) noexcept {
  for (std::size_t i = 0; i != text.size(); ++i)
    if (text[i] == '%' &&
        (i + 2 >= text.size() || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0))
      return false;
  return true;
}

std::optional<unsigned> number_of(std::string_view text, unsigned most) {
  unsigned n = 0;
  const auto *end = text.data() + text.size();
  const auto [rest, ec] = std::from_chars(text.data(), end, n);
  if (ec != std::errc() || rest != end || n > most)
    return std::nullopt;
  return n;
}

result<> read_credentials(std::string_view text, redis_target &to) {
  if (text.find('@') != text.npos)
    return bad_redis_url("holds a second @: in a user or password it must be written as %40");
  if (!well_escaped(text))
    return bad_redis_url("holds a % in its user or password that two hexadecimal digits do not "
                         "follow; write a percent sign itself as %25");
  const auto colon = text.find(':');
  if (colon == text.npos)
    return bad_redis_url("has a name but no password before the @: write user:password@host, or "
                         ":password@host for a password alone");
  to.user = percent_decoded(text.substr(0, colon));
  to.password = percent_decoded(text.substr(colon + 1));
  if (to.password.empty())
    return bad_redis_url("has an empty password: leave out what stands before the host, with the "
                         "@, when Redis wants none");
  return {};
}

result<redis_address> read_address(std::string_view text, std::string_view usual_port) {
  redis_address found;
  found.port = usual_port;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    in6_addr parsed{};
    found.host = text.substr(1, end == text.npos ? end : end - 1);
    const auto plain = found.host.substr(0, found.host.find('%')); // before a zone
    if (end == text.npos || inet_pton(AF_INET6, plain.c_str(), &parsed) != 1)
      return bad_redis_url("has something in brackets that is no IPv6 address; write it as in "
                           "redis://[::1]:6379/0");
    const auto rest = text.substr(end + 1);
    has_port = !rest.empty();
    if (has_port && rest.front() != ':')
      return bad_redis_url("has something between ] and the port");
    port = has_port ? rest.substr(1) : rest;
  } else {
    const auto colon = text.find(':');
    found.host = lower(text.substr(0, colon));
    has_port = colon != text.npos;
    port = has_port ? text.substr(colon + 1) : std::string_view();
    if (port.find(':') != port.npos)
      return bad_redis_url("has a host with more than one colon; put an IPv6 address in brackets, "
                           "as in redis://[::1]:6379/0");
    for (const char c : found.host)
      if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
        return bad_redis_url("has a host with a character that no host name has; an /, ?, # or @ "
                             "in a password must be percent-encoded");
  }
  if (found.host.empty())
    return bad_redis_url("names no host; write it as in redis://127.0.0.1:6379/0");
  if (has_port) {
    const auto n = number_of(port, 65535);
    if (!n || *n == 0)
      return bad_redis_url("has a port that is no number from 1 to 65535");
    found.port = std::to_string(*n);
  }
  return found;
}

result<> read_database(std::string_view text, redis_target &to) {
  const auto n = number_of(text, 65535);
  if (!n)
    return bad_redis_url("has a database that is no number: write it as in "
                         "redis://127.0.0.1:6379/0");
  if (*n != 0 && to.is == redis_target::kind::cluster)
    return bad_redis_url("names a database, but a Redis Cluster has only number 0: leave it out");
  to.database = *n;
  return {};
}

result<> read_query(std::string_view query, bool database_too, redis_target &to) {
  while (!query.empty()) {
    const auto end = query.find('&');
    const auto field = query.substr(0, end);
    query.remove_prefix(end == query.npos ? query.size() : end + 1);
    const auto equal = field.find('=');
    const auto name = field.substr(0, equal);
    const auto value = equal == field.npos ? std::string_view() : field.substr(equal + 1);
    if (!well_escaped(value))
      return bad_redis_url("holds a % that two hexadecimal digits do not follow");
    if (name == "database" && database_too) {
      if (auto done = read_database(value, to); !done)
        return done;
    } else if (name == "master" && to.is == redis_target::kind::sentinel) {
      to.master = percent_decoded(value);
    } else {
      return bad_redis_url(
          to.is == redis_target::kind::sentinel
              ? "has a query other than ?master=name, by which Sentinel knows the master"
          : database_too ? "has a query other than ?database=0"
                         : "has a query, which only unix sockets (?database=0) and Sentinel "
                           "(?master=name) have");
    }
  }
  return {};
}

result<redis_target> read_unix(std::string_view rest, redis_target to) {
  // unix:/path, unix:///path, and credentials in front of the path.
  if (rest.starts_with("//")) {
    rest.remove_prefix(2);
    const auto slash = rest.find('/');
    const auto authority = rest.substr(0, slash);
    if (const auto at = authority.rfind('@'); at != authority.npos) {
      if (at + 1 != authority.size())
        return bad_redis_url(
            "has a host, but a unix socket is a path: redis+unix:///run/redis.sock");
      if (auto done = read_credentials(authority.substr(0, at), to); !done)
        return done.error();
    } else if (!authority.empty()) {
      return bad_redis_url("has a host, but a unix socket is a path: redis+unix:///run/redis.sock");
    }
    rest = slash == rest.npos ? std::string_view() : rest.substr(slash);
  }
  const auto mark = rest.find('?');
  if (mark != rest.npos)
    if (auto done = read_query(rest.substr(mark + 1), true, to); !done)
      return done.error();
  redis_address where;
  if (!well_escaped(rest.substr(0, mark)))
    return bad_redis_url("holds a % in its path that two hexadecimal digits do not follow");
  where.path = percent_decoded(rest.substr(0, mark));
  if (where.path.size() < 2 || where.path.front() != '/' ||
      where.path.size() > longest_socket_path || where.path.find('\0') != where.path.npos)
    return bad_redis_url("needs the whole path of a socket, of at most 107 bytes: "
                         "redis+unix:///run/redis.sock");
  to.addresses.push_back(std::move(where));
  return to;
}

} // namespace

result<redis_target> parse_redis_url(std::string_view url) {
  if (url.size() > max_redis_url)
    return bad_redis_url("is longer than 8 KiB");
  for (const char c : url)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f)
      return bad_redis_url("holds a blank or a control character");
  const auto colon = url.find(':');
  const auto name = lower(url.substr(0, colon));
  const redis_scheme *scheme = nullptr;
  for (const auto &one : redis_schemes)
    if (colon != url.npos && one.name == name)
      scheme = &one;
  if (!scheme)
    return bad_redis_url("begins with no scheme of redis://, rediss://, redis+unix://, "
                         "redis+sentinel:// or redis+cluster://, as in redis://127.0.0.1:6379/0");
  redis_target to;
  to.is = scheme->is;
  to.tls = scheme->tls;
  auto rest = url.substr(colon + 1);
  if (rest.find('#') != rest.npos)
    return bad_redis_url("holds a #: in a password it must be written as %23");
  if (scheme->unix_socket)
    return read_unix(rest, std::move(to));
  if (!rest.starts_with("//"))
    return bad_redis_url("needs // after its scheme, as in redis://127.0.0.1:6379/0");
  rest.remove_prefix(2);
  const auto end = rest.find_first_of("/?");
  auto authority = rest.substr(0, end);
  auto behind = end == rest.npos ? std::string_view() : rest.substr(end);
  if (behind.find('@') != behind.npos)
    return bad_redis_url("holds an @ behind the host: an / or ? in a password must be written as "
                         "%2F or %3F");
  if (const auto at = authority.rfind('@'); at != authority.npos) {
    if (auto done = read_credentials(authority.substr(0, at), to); !done)
      return done.error();
    authority.remove_prefix(at + 1);
  }
  const std::string_view usual = to.is == redis_target::kind::sentinel ? "26379" : "6379";
  for (;;) {
    const auto comma = authority.find(',');
    auto where = read_address(authority.substr(0, comma), usual);
    if (!where)
      return where.error();
    to.addresses.push_back(std::move(*where));
    if (comma == authority.npos)
      break;
    authority.remove_prefix(comma + 1);
  }
  if (to.is == redis_target::kind::single && to.addresses.size() != 1)
    return bad_redis_url("names several hosts: write redis+cluster:// for a cluster, or "
                         "redis+sentinel:// with ?master=name");
  if (to.addresses.size() > max_redis_hosts)
    return bad_redis_url("names more than 256 hosts");
  const auto mark = behind.find('?');
  if (auto path = behind.substr(0, mark); path.size() > 1)
    if (auto done = read_database(path.substr(1), to); !done)
      return done.error();
  if (mark != behind.npos)
    if (auto done = read_query(behind.substr(mark + 1), false, to); !done)
      return done.error();
  if (to.is == redis_target::kind::sentinel && to.master.empty())
    return bad_redis_url("does not say which master Sentinel is asked for: add ?master=name");
  return to;
}

std::string to_string(const redis_address &where) {
  if (!where.path.empty())
    return "unix:" + where.path;
  const bool brackets = where.host.find(':') != where.host.npos;
  return (brackets ? "[" + where.host + "]" : where.host) + ":" + where.port;
}

} // namespace chorus::detail
