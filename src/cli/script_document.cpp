#include "script_document.hpp"

#include <chorus/json/json.hpp>

#include <boost/json/parse.hpp>

#include <algorithm>

namespace cli::script {

namespace json = boost::json;

namespace {

// Walks over a text that is known to be valid JSON.
class scanner {
public:
  scanner(std::shared_ptr<const std::string> file, std::string_view text)
      : file_(std::move(file)), text_(text) {}

  node value() {
    skip_space();
    node out;
    out.at = here();
    const char c = text_[at_];
    if (c == '[')
      array(out);
    else if (c == '{')
      object(out);
    else
      out.value = scalar();
    return out;
  }

private:
  place here() const { return {file_, line_, column_}; }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos)
      step();
  }
  void step() {
    const auto c = static_cast<unsigned char>(text_[at_++]);
    if (c == '\n') {
      ++line_;
      column_ = 1;
    } else if ((c & 0xc0U) != 0x80U) { // no continuation of UTF-8
      ++column_;
    }
  }
  // Over the next character that is not white space.
  char punctuation() {
    skip_space();
    const char c = text_[at_];
    step();
    return c;
  }
  char peek() {
    skip_space();
    return text_[at_];
  }

  json::value scalar() {
    const auto begin = at_;
    if (text_[at_] == '"') {
      do {
        if (text_[at_] == '\\')
          step();
        step();
      } while (text_[at_] != '"');
      step();
    } else {
      while (at_ < text_.size() && std::string_view(",]} \t\r\n").find(text_[at_]) == text_.npos)
        step();
    }
    const auto token = text_.substr(begin, at_ - begin);
    return json::parse(json::string_view(token.data(), token.size()));
  }
  std::string name() {
    const auto text = scalar();
    const auto &s = text.as_string();
    return {s.data(), s.size()};
  }

  void array(node &out) {
    auto &values = out.value.emplace_array();
    step();
    if (peek() == ']') {
      step();
      return;
    }
    do {
      out.elements.push_back(value());
      values.push_back(out.elements.back().value);
    } while (punctuation() == ',');
  }

  void object(node &out) {
    auto &values = out.value.emplace_object();
    step();
    if (peek() == '}') {
      step();
      return;
    }
    do {
      skip_space();
      node::member m;
      m.at = here();
      m.name = name();
      punctuation(); // the colon
      m.content = value();
      values.insert_or_assign(json::string_view(m.name.data(), m.name.size()), m.content.value);
      out.members.push_back(std::move(m));
    } while (punctuation() == ',');
  }

  std::shared_ptr<const std::string> file_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t column_ = 1;
};

// What often is wrong with a JSON text at this byte.
std::string hint(std::string_view text, std::size_t byte) {
  const auto before = text.substr(0, byte);
  const auto last = before.find_last_not_of(" \t\r\n");
  const char previous = last == before.npos ? '\0' : before[last];
  const char next = byte < text.size() ? text[byte] : '\0';
  if (text.find_first_not_of(" \t\r\n") == text.npos)
    return "; the file is empty: a script is an array of steps";
  if (byte >= text.size())
    return "; the file ends too early: a bracket, a brace or a quote is not closed";
  if (previous == ',' && (next == ']' || next == '}'))
    return "; take away the comma before it";
  if (next == '\'')
    return "; strings stand in double quotes";
  if (next == '/' || next == '#')
    return "; JSON has no comments: give the step a \"comment\"";
  if ((previous == '"' || previous == '}' || previous == ']') && (next == '"' || next == '{'))
    return "; a comma is missing before it";
  return {};
}

} // namespace

std::string to_string(const place &at) {
  return (at.file ? *at.file : std::string()) + ':' + std::to_string(at.line) + ':' +
         std::to_string(at.column);
}

const node::member *node::find(std::string_view name) const noexcept {
  const auto it =
      std::find_if(members.begin(), members.end(), [&](const member &m) { return m.name == name; });
  return it == members.end() ? nullptr : &*it;
}

std::optional<node> read_document(std::shared_ptr<const std::string> file, std::string_view text,
                                  std::vector<complaint> &complaints) {
  chorus::json_position fault;
  const auto parsed =
      chorus::parse_json(text, {.max_depth = 64, .max_bytes = std::size_t{16} << 20}, &fault);
  if (!parsed) {
    const auto &code = parsed.error().code();
    std::string sentence = parsed.error() == chorus::error::message_too_big
                               ? "a script has at most 16 MiB and 64 levels"
                               : "not valid JSON: " + code.message() + hint(text, fault.byte);
    complaints.push_back({{std::move(file), fault.line, fault.column}, std::move(sentence)});
    return {};
  }
  return scanner(std::move(file), text).value();
}

} // namespace cli::script
