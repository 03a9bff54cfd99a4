#include "script_names.hpp"

#include <algorithm>

namespace cli::script {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // The rows of the table for the prefixes of `a` of i - 2, i - 1 and i letters.
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string_view nearest(std::string_view wrong, const std::vector<std::string_view> &known) {
  constexpr std::size_t longest = 64; // what is longer is no misspelt name
  if (wrong.size() > longest)
    return {};
  std::string_view best;
  std::size_t least = std::max<std::size_t>(2, wrong.size() / 3) + 1;
  for (const auto name : known) {
    const auto distance = edit_distance(wrong, name);
    // A name of two letters is not the misspelling of any other of two letters.
    if (distance < least && distance < std::max(wrong.size(), name.size())) {
      least = distance;
      best = name;
    }
  }
  if (best.empty() && wrong.size() > 2)
    for (const auto name : known)
      if (name.starts_with(wrong) || (name.size() > 2 && wrong.starts_with(name)))
        return name;
  return best;
}

std::string listed(const std::vector<std::string_view> &names, std::string_view last) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i != 0)
      out += i + 1 == names.size() ? ' ' + std::string(last) + ' ' : std::string(", ");
    out += names[i];
  }
  return out;
}

std::string suggestion(std::string_view wrong, const std::vector<std::string_view> &known) {
  const auto best = nearest(wrong, known);
  if (!best.empty())
    return "; did you mean '" + std::string(best) + "'?";
  if (known.empty())
    return {};
  return (known.size() == 1 ? "; there is only " : "; there are ") + listed(known);
}

} // namespace cli::script
