#pragma once
// JSON as a person likes to read it. Only the blanks between its parts change: numbers, escapes, the order and
// repetition of members stay as the peer wrote them.

#include "screen_text.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace cli {

// Larger text is not laid out.
constexpr std::size_t most_laid_out = 64 * 1024;

// An object or array in one line where that is short, else indented by two, without a line feed at the end. Nothing
// for what is neither, is no JSON, is nested more than 32 deep, or larger than `most_laid_out`.
std::optional<std::string> lay_out_json(std::string_view text, const painter &paint,
                                        std::size_t width = 72);

} // namespace cli
