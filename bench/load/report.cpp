#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace load {

namespace {

std::string number(double v, const char *format) {
  char out[64];
  std::snprintf(out, sizeof out, format, v);
  return out;
}

std::string quoted(const std::string &s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\')
      out += '\\';
    if (static_cast<unsigned char>(c) < 32)
      out += ' ';
    else
      out += c;
  }
  return out + '"';
}

struct printer {
  bool json;
  std::string operator()(std::uint64_t v) const { return std::to_string(v); }
  std::string operator()(double v) const {
    if (!std::isfinite(v))
      return json ? "null" : "none";
    return number(v, json ? "%.9g" : std::fabs(v) >= 1000 ? "%.0f" : "%.3f");
  }
  std::string operator()(bool v) const {
    return json ? (v ? "true" : "false") : (v ? "yes" : "no");
  }
  std::string operator()(const std::string &v) const { return json ? quoted(v) : v; }
};

} // namespace

std::string report::text() const {
  std::size_t width = 0;
  for (const auto &[name, v] : figures_)
    width = std::max(width, name.size());
  std::string out;
  for (const auto &[name, v] : figures_)
    out += name + std::string(width + 2 - name.size(), ' ') + std::visit(printer{false}, v) + '\n';
  return out;
}

std::string report::json() const {
  std::string out = "{";
  for (const auto &[name, v] : figures_) {
    if (out.size() > 1)
      out += ", ";
    out += quoted(name) + ": " + std::visit(printer{true}, v);
  }
  return out + "}\n";
}

} // namespace load
