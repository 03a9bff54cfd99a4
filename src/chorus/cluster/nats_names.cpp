#include <chorus/cluster/nats_names.hpp>

#include <chorus/base/base64.hpp>
#include <chorus/base/text.hpp>

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace chorus::detail {

namespace {

constexpr std::size_t longest_plain = 180; // bytes; 240 as base64

std::string url_safe(std::string text) {
  while (!text.empty() && text.back() == '=')
    text.pop_back();
  for (char &c : text)
    c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

bool is_token(std::string_view text) noexcept {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

failure bad(std::string sentence) {
  return failure(error::bad_url, stage::configure, std::move(sentence));
}

constexpr const char *right_form = "write nats://[user:password@]host[:4222][,host...], with a "
                                   "token instead of user:password if need be, or tls:// for TLS";

} // namespace

std::string nats_token(std::string_view name) {
  if (name.size() <= longest_plain)
    return "n" + url_safe(to_base64(name));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(name.data(), name.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return "h" + url_safe(to_base64({reinterpret_cast<const char *>(digest.data()), size}));
}

std::string nats_policy(const room_options &keep) {
  return std::to_string(keep.history_messages) + "-" + std::to_string(keep.history_age.count());
}

result<nats_policy_terms> parse_nats_policy(std::string_view policy) {
  const auto parts = split(policy, '-');
  nats_policy_terms terms;
  if (parts.size() == 2)
    terms = {to_number(parts[0]), to_number(parts[1])};
  if (terms.messages == 0 && terms.milliseconds == 0)
    return failure(error::protocol, stage::none, "a room's record names no policy of history");
  return terms;
}

result<nats_target> parse_nats_target(std::string_view url, const nats_options &options) {
  nats_target target;
  const auto mark = url.find("://");
  const auto scheme = url.substr(0, mark == std::string_view::npos ? 0 : mark);
  if (scheme != "nats" && scheme != "tls")
    return bad("this is no URL of a NATS server: " + std::string(right_form));
  target.secure = scheme == "tls";
  auto rest = url.substr(mark + 3);
  if (const auto at = rest.rfind('@'); at != std::string_view::npos) {
    const auto login = rest.substr(0, at);
    if (const auto colon = login.find(':'); colon == std::string_view::npos) {
      target.token = percent_decoded(login);
    } else {
      target.user = percent_decoded(login.substr(0, colon));
      target.password = percent_decoded(login.substr(colon + 1));
    }
    rest = rest.substr(at + 1);
  }
  if (rest.ends_with('/'))
    rest.remove_suffix(1);
  for (auto host : split(rest, ',')) {
    std::string_view port;
    if (const auto colon = host.rfind(':');
        colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
      port = host.substr(colon + 1);
      host = host.substr(0, colon);
      if (to_number(port) == 0 || to_number(port) > 65535)
        return bad("a port is a number up to 65535: " + std::string(right_form));
    }
    if (host.empty() || host.find_first_of("/?# ") != std::string_view::npos)
      return bad("a host is missing or has characters that hosts don't have: " +
                 std::string(right_form));
    target.servers.push_back(std::string(scheme) + "://" + std::string(host) + ":" +
                             (port.empty() ? "4222" : std::string(port)));
  }
  if (!is_token(options.prefix))
    return failure(error::bad_option, stage::configure,
                   "nats_options::prefix is 1 to 64 letters, digits, - and _");
  if (options.connect_timeout.count() <= 0 || options.answer_timeout.count() <= 0 ||
      options.look_up_timeout.count() <= 0 || options.max_waiting == 0 ||
      options.max_waiting_bytes == 0)
    return failure(error::bad_option, stage::configure,
                   "the timeouts and bounds of nats_options are more than zero");
  return target;
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos)
      return parts;
    text.remove_prefix(end + 1);
  }
}

std::uint64_t to_number(std::string_view digits) noexcept {
  std::uint64_t n = 0;
  const auto [end, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
  return wrong == std::errc() && end == digits.data() + digits.size() ? n : 0;
}

} // namespace chorus::detail
