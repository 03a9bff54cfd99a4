#include <chorus/base/redact.hpp>

#include <chorus/base/text.hpp>

#include <algorithm>
#include <array>
#include <vector>

namespace chorus {

namespace {

constexpr std::string_view blank = "***";
constexpr std::array endings = {std::string_view("token"), std::string_view("secret"),
                                std::string_view("password"), std::string_view("passwd")};
constexpr std::array words = {std::string_view("pwd"),        std::string_view("pass"),
                              std::string_view("key"),        std::string_view("apikey"),
                              std::string_view("auth"),       std::string_view("authorization"),
                              std::string_view("sig"),        std::string_view("signature"),
                              std::string_view("credential"), std::string_view("credentials"),
                              std::string_view("ticket"),     std::string_view("cookie"),
                              std::string_view("jwt"),        std::string_view("session"),
                              std::string_view("sid"),        std::string_view("pin"),
                              std::string_view("sessionid")};

bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
bool in_word(char c) noexcept { return is_upper(c) || is_lower(c) || (c >= '0' && c <= '9'); }
bool same(std::string_view word, std::string_view listed) noexcept {
  return std::equal(word.begin(), word.end(), listed.begin(), listed.end(),
                    [](char a, char b) { return detail::lower(a) == b; });
}

bool is_secret_word(std::string_view word) noexcept {
  for (const auto ending : endings)
    if (word.size() >= ending.size() && same(word.substr(word.size() - ending.size()), ending))
      return true;
  return std::any_of(words.begin(), words.end(), [&](auto one) { return same(word, one); });
}

} // namespace

bool is_secret_name(std::string_view name) noexcept {
  for (std::size_t i = 0; i < name.size();) {
    if (!in_word(name[i])) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < name.size() && in_word(name[end]) &&
           !(is_upper(name[end]) && !is_upper(name[end - 1])))
      ++end;
    if (is_secret_word(name.substr(i, end - i)))
      return true;
    i = end;
  }
  return false;
}

std::string redact(std::string_view target) {
  std::string out;
  out.reserve(target.size());
  // Another one may stand in the path or the query.
  if (const auto scheme = target.find("://"); scheme < target.find_first_of("/?#")) {
    const auto begin = scheme + 3;
    const auto end = std::min(target.find_first_of("/?#", begin), target.size());
    const auto authority = target.substr(begin, end - begin);
    out.append(target.substr(0, begin));
    if (const auto at = authority.rfind('@'); at != authority.npos)
      out.append(blank).append(authority.substr(at));
    else
      out.append(authority);
    target.remove_prefix(end);
  }
  const auto query = std::min(target.find('?'), target.size());
  const auto fragment = std::min(target.find('#'), target.size());
  out.append(target.substr(0, std::min(query, fragment)));
  if (query < fragment) {
    out.push_back('?');
    auto rest = target.substr(query + 1, fragment - query - 1);
    for (;;) {
      const auto size = std::min(rest.find_first_of("&;"), rest.size());
      const auto one = rest.substr(0, size);
      const auto equals = one.find('=');
      if (equals != one.npos && equals + 1 < one.size() &&
          is_secret_name(detail::percent_decoded(one.substr(0, equals))))
        out.append(one.substr(0, equals + 1)).append(blank);
      else
        out.append(one);
      if (size == rest.size())
        break;
      out.push_back(rest[size]);
      rest.remove_prefix(size + 1);
    }
  }
  if (fragment < target.size())
    out.append("#").append(blank);
  return out;
}

std::string redact_header(std::string_view name, std::string_view value) {
  if (value.empty() || !is_secret_name(name))
    return std::string(value);
  if (const auto end = value.find(' ');
      end != value.npos && (same(name, "authorization") || same(name, "proxy-authorization")))
    return std::string(value.substr(0, end + 1)).append(blank);
  return std::string(blank);
}

std::string redact_text(std::string_view text, std::span<const std::string_view> secrets) {
  // The longest first: one may hold another.
  std::vector<std::string_view> order(secrets.begin(), secrets.end());
  std::sort(order.begin(), order.end(), [](auto a, auto b) { return a.size() > b.size(); });
  std::string out(text);
  for (const auto secret : order) {
    if (secret.size() < 4)
      continue;
    for (auto at = out.find(secret); at != out.npos; at = out.find(secret, at + blank.size()))
      out.replace(at, secret.size(), blank);
  }
  return out;
}

} // namespace chorus
