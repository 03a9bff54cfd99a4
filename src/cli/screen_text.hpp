#pragma once
// Text for a person at a terminal: colours, and what a peer sent made harmless.

#include <CLI/CLI.hpp>

#include <string>
#include <string_view>

namespace cli {

// When to colour what goes to a terminal; "auto": it is one, NO_COLOR is unset or empty and TERM is not
// "dumb".
enum class color_choice : unsigned char { automatic, always, never };
void add_color(CLI::App &app, color_choice &into);
bool wants_color(color_choice choice, int descriptor) noexcept;

enum class paint : unsigned char { plain, dim, bold, red, green, yellow, blue, magenta, cyan };

class painter {
public:
  explicit painter(bool colored = false) : colored_(colored) {}
  bool colored() const noexcept { return colored_; }
  std::string operator()(paint p, std::string_view text) const;

private:
  bool colored_;
};

// Control characters, those of ISO 6429's upper half too, and the ones that turn the direction of writing,
// as "\x1b" and "\u202e"; what is no UTF-8 as "\xff". Line feeds and tabs stay when `lines`.
std::string harmless(std::string_view text, bool lines = false);

// A space for each ASCII control character; the others are for `harmless`.
std::string one_line(std::string_view text);

bool is_utf8(std::string_view text) noexcept;

} // namespace cli
