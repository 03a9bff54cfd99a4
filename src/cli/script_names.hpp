#pragma once
// What a misspelt name was probably meant to be.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cli::script {

// How many letters to insert, remove, replace or swap with their neighbour to get from one to the other.
std::size_t edit_distance(std::string_view a, std::string_view b);
// The known name nearest to it, or empty when none is near: a third of its letters may be wrong, two
// in any case, or one of the two is the beginning of the other.
std::string_view nearest(std::string_view wrong, const std::vector<std::string_view> &known);
// "; did you mean 'x'?", or else what there is: "; there are a, b and c".
std::string suggestion(std::string_view wrong, const std::vector<std::string_view> &known);
// "a, b and c"
std::string listed(const std::vector<std::string_view> &names, std::string_view last = "and");

} // namespace cli::script
