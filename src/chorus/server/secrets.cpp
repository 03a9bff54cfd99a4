#include <chorus/server/secrets.hpp>

#include <chorus/base/redact.hpp>
#include <chorus/server/router.hpp>

#include <algorithm>
#include <vector>

namespace chorus::detail {

std::string without_secrets(std::string_view what, const http_head &head) {
  std::vector<std::string> held;
  for (const auto &field : head.fields())
    if (is_secret_name(field.name)) {
      held.emplace_back(field.value);
      if (const auto blank = field.value.find(' '); blank != field.value.npos)
        held.emplace_back(field.value.substr(blank + 1));
      for (auto rest = field.value; !rest.empty();) { // of cookies
        const auto one = rest.substr(0, rest.find(';'));
        rest.remove_prefix(std::min(rest.size(), one.size() + 1));
        if (const auto equals = one.find('='); equals != one.npos)
          held.emplace_back(one.substr(equals + 1));
      }
    }
  for (auto rest = split_target(head.target()).query; !rest.empty();) {
    const auto one = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const auto equals = std::min(one.find('='), one.size());
    const auto name = percent_decode(one.substr(0, equals), true);
    if (equals == one.size() ||
        !is_secret_name(name ? std::string_view(*name) : one.substr(0, equals)))
      continue;
    held.emplace_back(one.substr(equals + 1));
    if (auto plain = percent_decode(one.substr(equals + 1), true))
      held.push_back(*std::move(plain));
  }
  const std::vector<std::string_view> secrets(held.begin(), held.end());
  return redact_text(what, secrets);
}

} // namespace chorus::detail
