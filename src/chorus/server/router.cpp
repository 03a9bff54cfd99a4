#include <chorus/server/router.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace chorus::detail {

struct router::node {
  std::map<std::string, std::unique_ptr<node>, std::less<>> literals;
  std::unique_ptr<node> parameter;
  std::shared_ptr<route> leaf;
};

namespace {

int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

std::vector<std::string_view> split_path(std::string_view path) {
  std::vector<std::string_view> segments;
  path.remove_prefix(1);
  for (;;) {
    const auto slash = path.find('/');
    segments.push_back(path.substr(0, slash));
    if (slash == path.npos)
      return segments;
    path.remove_prefix(slash + 1);
  }
}

[[noreturn]] void malformed(std::string_view pattern, const char *what) {
  throw std::invalid_argument("chorus: the route pattern \"" + std::string(pattern) + "\" " + what);
}

bool serves(const route &r, route_kind kind) noexcept {
  return kind == route_kind::session ? static_cast<bool>(r.on_session)
                                     : static_cast<bool>(r.on_page);
}

bool is_name(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

} // namespace

router::router() : root_(std::make_unique<node>()) {}
router::~router() = default;

void router::add(std::string_view pattern, session_handler h, route_options options) {
  if (!h)
    malformed(pattern, "has an empty handler");
  auto &one = place(pattern, route_kind::session);
  one.on_session = std::move(h);
  one.options = std::move(options);
}

void router::add(std::string_view pattern, page_handler p) {
  if (!p)
    malformed(pattern, "has an empty handler");
  place(pattern, route_kind::page).on_page = std::move(p);
}

route &router::place(std::string_view pattern, route_kind kind) {
  if (pattern.empty() || pattern.front() != '/')
    malformed(pattern, "must begin with a slash");
  if (pattern.find_first_of("?#") != pattern.npos)
    malformed(pattern, "must be a path, without a query or a fragment");

  std::vector<std::string> names;
  std::vector<std::pair<bool, std::string>> steps; // is it a parameter; the literal
  const auto segments = split_path(pattern);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto segment = segments[i];
    if (segment.empty() && i + 1 < segments.size())
      malformed(pattern, "has an empty segment");
    if (!segment.empty() && segment.front() == '{' && segment.back() == '}') {
      const auto name = segment.substr(1, segment.size() - 2);
      if (segment.size() < 2 || !is_name(name))
        malformed(pattern, "has a parameter whose name is not letters, digits and underscores");
      if (std::find(names.begin(), names.end(), name) != names.end())
        malformed(pattern, "names a parameter twice");
      names.emplace_back(name);
      steps.emplace_back(true, std::string());
      continue;
    }
    if (segment.find_first_of("{}") != segment.npos)
      malformed(pattern, "has a brace inside a segment: a {parameter} is a whole segment");
    auto literal = percent_decode(segment);
    if (!literal)
      malformed(pattern, "has a malformed percent escape");
    steps.emplace_back(false, std::move(*literal));
  }

  node *at = root_.get();
  for (auto &[is_parameter, literal] : steps) {
    auto &below = is_parameter ? at->parameter : at->literals[std::move(literal)];
    if (!below)
      below = std::make_unique<node>();
    at = below.get();
  }
  if (at->leaf && serves(*at->leaf, kind))
    malformed(pattern,
              ("matches the same paths as \"" + at->leaf->pattern + "\", which is routed already")
                  .c_str());
  if (!at->leaf) {
    at->leaf = std::make_shared<route>();
    at->leaf->pattern = pattern;
    at->leaf->names = std::move(names);
  } else if (at->leaf->names != names) {
    malformed(pattern, ("names its parameters differently than \"" + at->leaf->pattern +
                        "\", which matches the same paths")
                           .c_str());
  }
  return *at->leaf;
}

const router::node *router::descend(const node &at, const std::vector<std::string> &segments,
                                    std::size_t next, route_kind kind,
                                    std::vector<std::string> &values) {
  if (next == segments.size())
    return at.leaf && serves(*at.leaf, kind) ? &at : nullptr;
  if (const auto it = at.literals.find(segments[next]); it != at.literals.end())
    if (const auto *found = descend(*it->second, segments, next + 1, kind, values))
      return found;
  if (at.parameter && !segments[next].empty()) {
    values.push_back(segments[next]);
    if (const auto *found = descend(*at.parameter, segments, next + 1, kind, values))
      return found;
    values.pop_back();
  }
  return nullptr;
}

route_match router::find(std::string_view path, route_kind kind) const {
  route_match match;
  if (path.empty() || path.front() != '/')
    return match;
  std::vector<std::string> segments;
  for (const auto segment : split_path(path)) {
    auto decoded = percent_decode(segment);
    if (!decoded) {
      match.what = route_match::verdict::bad_escape;
      return match;
    }
    segments.push_back(std::move(*decoded));
  }
  if (const auto *found = descend(*root_, segments, 0, kind, match.values)) {
    match.what = route_match::verdict::found;
    match.target = found->leaf;
    return match;
  }
  const auto other = kind == route_kind::session ? route_kind::page : route_kind::session;
  if (const auto *found = descend(*root_, segments, 0, other, match.values)) {
    match.what = route_match::verdict::other_kind;
    match.target = found->leaf;
  }
  return match;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
      if (high < 0 || low < 0)
        return std::nullopt;
      out.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    } else {
      out.push_back(text[i] == '+' && plus_is_space ? ' ' : text[i]);
    }
  }
  return out;
}

target_parts split_target(std::string_view target) noexcept {
  if (!target.empty() && target.front() != '/') {
    const auto scheme = target.find("://");
    if (scheme != target.npos) {
      target.remove_prefix(scheme + 3);
      const auto authority = target.find_first_of("/?");
      target = authority == target.npos ? std::string_view("/") : target.substr(authority);
    }
  }
  target = target.substr(0, target.find('#'));
  const auto mark = target.find('?');
  target_parts parts{target.substr(0, mark), {}};
  if (mark != target.npos)
    parts.query = target.substr(mark + 1);
  if (parts.path.empty())
    parts.path = "/";
  return parts;
}

} // namespace chorus::detail
