#include <chorus/protocol/header_text.hpp>

#include <algorithm>

namespace chorus::protocol::detail {

namespace {

// Reads tokens and separators off the front of a text.
class scanner {
public:
  explicit scanner(std::string_view text) noexcept : rest_(text) {}

  void skip_blanks() noexcept {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
  }
  bool at_end() noexcept {
    skip_blanks();
    return rest_.empty();
  }
  bool take(char c) noexcept {
    skip_blanks();
    if (rest_.empty() || rest_.front() != c)
      return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string token() {
    skip_blanks();
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_token_char);
    std::string result(rest_.begin(), end);
    rest_.remove_prefix(result.size());
    return result;
  }
  // After the opening quote. What is quoted must be a token, too (RFC 6455 section 9.1).
  std::optional<std::string> quoted() {
    std::string result;
    while (!rest_.empty()) {
      char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"')
        return result.empty() ? std::nullopt : std::optional(std::move(result));
      if (c == '\\') {
        if (rest_.empty())
          return std::nullopt;
        c = rest_.front();
        rest_.remove_prefix(1);
      }
      if (!is_token_char(c))
        return std::nullopt;
      result += c;
    }
    return std::nullopt;
  }

private:
  std::string_view rest_;
};

} // namespace

bool is_token_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> result;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    if (const auto element = trimmed(text.substr(0, comma)); !element.empty())
      result.push_back(element);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return result;
}

bool list_contains(std::string_view list, std::string_view token) noexcept {
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    if (equal_ignoring_case(trimmed(list.substr(0, comma)), token))
      return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

std::optional<std::vector<extension>> parse_extensions(std::string_view text) {
  std::vector<extension> result;
  scanner in(text);
  for (;;) {
    while (in.take(','))
      ;
    if (in.at_end())
      return result;
    auto &ext = result.emplace_back();
    ext.name = in.token();
    if (ext.name.empty())
      return std::nullopt;
    while (in.take(';')) {
      auto &parameter = ext.parameters.emplace_back();
      parameter.name = in.token();
      if (parameter.name.empty())
        return std::nullopt;
      if (!in.take('='))
        continue;
      parameter.value = in.take('"') ? in.quoted() : in.token();
      if (!parameter.value || parameter.value->empty())
        return std::nullopt;
    }
    if (!in.at_end() && !in.take(','))
      return std::nullopt;
  }
}

} // namespace chorus::protocol::detail
