#include "json_display.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <vector>

namespace cli {

namespace {

struct token {
  std::string_view text;
  std::size_t partner = 0; // of a bracket that opens: the index of the one that closes
  std::size_t width = 0;   // of the same: all between them on one line
};

bool opens(const token &t) { return t.text == "{" || t.text == "["; }
bool closes(const token &t) { return t.text == "}" || t.text == "]"; }

// Of text that is known to be JSON.
std::vector<token> tokens_of(std::string_view text) {
  std::vector<token> out;
  std::vector<std::size_t> open;
  std::vector<std::size_t> before; // width up to the bracket
  std::size_t width = 0;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++at;
      continue;
    }
    std::size_t end = at + 1;
    if (c == '"') {
      while (text[end] != '"')
        end += text[end] == '\\' ? 2 : 1;
      ++end;
    } else if (std::string_view("{}[],:").find(c) == std::string_view::npos) {
      end = std::min(text.find_first_of(" \t\r\n{}[],:\"", at), text.size());
    }
    out.push_back({text.substr(at, end - at)});
    width += end - at + (c == ',' || c == ':' ? 1 : 0);
    if (opens(out.back())) {
      open.push_back(out.size() - 1);
      before.push_back(width);
    } else if (closes(out.back())) {
      out[open.back()].partner = out.size() - 1;
      out[open.back()].width = width - before.back();
      open.pop_back();
      before.pop_back();
    }
    at = end;
  }
  return out;
}

class layout {
public:
  layout(const std::vector<token> &tokens, const painter &paint, std::size_t width)
      : tokens_(tokens), paint_(paint), width_(width) {}

  std::string take() {
    std::size_t inline_until = 0; // index of the bracket that closes what stands on one line
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const auto &t = tokens_[i];
      const bool one_line = i < inline_until;
      if (opens(t)) {
        put(t.text);
        if (!one_line && column_ + t.width <= width_)
          inline_until = t.partner + 1;
        else if (!one_line)
          line(++depth_);
      } else if (closes(t)) {
        if (!one_line)
          line(--depth_);
        put(t.text);
      } else if (t.text == ",") {
        put(t.text);
        if (one_line)
          put(" ");
        else
          line(depth_);
      } else if (t.text == ":") {
        put(": ");
      } else {
        value(t, i + 1 < tokens_.size() && tokens_[i + 1].text == ":");
      }
    }
    return std::move(out_);
  }

private:
  void line(std::size_t depth) {
    out_ += '\n';
    out_.append(2 * depth, ' ');
    column_ = 2 * depth;
  }
  void put(std::string_view text) {
    out_ += text;
    column_ += text.size();
  }
  void value(const token &t, bool name) {
    const char c = t.text.front();
    const auto color = name ? paint::blue : c == '"' ? paint::green : paint::magenta;
    out_ += paint_(color, harmless(t.text));
    column_ += t.text.size();
  }

  const std::vector<token> &tokens_;
  const painter &paint_;
  std::size_t width_;
  std::size_t depth_ = 0;
  std::size_t column_ = 0;
  std::string out_;
};

} // namespace

std::optional<std::string> lay_out_json(std::string_view text, const painter &paint,
                                        std::size_t width) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos || (text[first] != '{' && text[first] != '[') ||
      text.size() > most_laid_out)
    return {};
  boost::system::error_code ec;
  boost::json::parse(text, ec);
  if (ec)
    return {};
  const auto tokens = tokens_of(text);
  return layout(tokens, paint, width).take();
}

} // namespace cli
