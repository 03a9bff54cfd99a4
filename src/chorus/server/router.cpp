#include <chorus/server/router.hpp>

#include <chorus/base/text.hpp>

#include <algorithm>
#include <charconv>
#include <map>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace chorus::detail {

struct router::node {
  std::map<std::string, std::unique_ptr<node>, std::less<>> literals;
  // By what a parameter takes, the choosiest first.
  enum { whole, natural, plain, rest };
  std::unique_ptr<node> parameters[4];
  std::shared_ptr<route> leaf;
};

namespace {

template <class T> std::optional<T> whole_number(std::string_view text) noexcept {
  T value{};
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (wrong != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
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

[[noreturn]] void malformed(std::string_view pattern, std::string_view what) {
  throw std::invalid_argument("chorus: the route pattern \"" + std::string(pattern) + "\" " +
                              std::string(what));
}

const route::page *page_for(const route &r, std::string_view method) noexcept {
  for (const auto &one : r.pages)
    if (one.method == method)
      return &one;
  return nullptr;
}

const route::page *page_or_head(const route &r, std::string_view method) noexcept {
  const auto *page = page_for(r, method);
  return page || method != "HEAD" ? page : page_for(r, "GET");
}

bool is_name(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

// Names a parameter and its kind; -1 for one that is none.
int parameter_kind(std::string_view inside, std::string_view &name) noexcept {
  name = inside;
  if (inside.ends_with("...")) {
    name.remove_suffix(3);
    return 3;
  }
  const auto colon = inside.find(':');
  if (colon == inside.npos)
    return 2;
  name = inside.substr(0, colon);
  const auto type = inside.substr(colon + 1);
  return type == "int" ? 0 : type == "uint" ? 1 : type == "path" ? 3 : -1;
}

} // namespace

// The walk of one request's segments down the tree, which visits no node twice.
struct router::search {
  const std::vector<std::string> &segments;
  std::vector<std::string> values{};

  // The first leaf, in order of preference, that `accept` takes; `values` are its parameters' then.
  template <class Accept>
  std::shared_ptr<const route> walk(const node &at, std::size_t next, Accept &accept) {
    if (next == segments.size())
      return at.leaf && accept(*at.leaf) ? at.leaf : nullptr;
    const auto &segment = segments[next];
    if (const auto it = at.literals.find(segment); it != at.literals.end())
      if (auto found = walk(*it->second, next + 1, accept))
        return found;
    for (int kind = node::whole; kind < node::rest; ++kind) {
      if (!at.parameters[kind] || !takes(kind, segment))
        continue;
      values.push_back(segment);
      if (auto found = walk(*at.parameters[kind], next + 1, accept))
        return found;
      values.pop_back();
    }
    const auto &rest = at.parameters[node::rest];
    if (!rest || !rest->leaf || !joinable(next))
      return nullptr;
    values.push_back(joined(next));
    if (accept(*rest->leaf))
      return rest->leaf;
    values.pop_back();
    return nullptr;
  }

private:
  static bool takes(int kind, std::string_view segment) noexcept {
    return kind == node::whole     ? parse_int(segment).has_value()
           : kind == node::natural ? parse_uint(segment).has_value()
                                   : !segment.empty();
  }
  bool joinable(std::size_t next) const noexcept {
    return std::none_of(segments.begin() + static_cast<std::ptrdiff_t>(next), segments.end(),
                        [](const auto &one) { return one.find('/') != one.npos; });
  }
  std::string joined(std::size_t next) const {
    std::string text = segments[next];
    for (auto i = next + 1; i < segments.size(); ++i)
      text.append(1, '/').append(segments[i]);
    return text;
  }
};

router::router() : root_(std::make_unique<node>()) {}
router::~router() = default;

void router::add(std::string_view pattern, session_handler h, route_options options) {
  if (!h)
    malformed(pattern, "has an empty handler");
  auto &leaf = place(pattern);
  if (leaf.on_session)
    malformed(pattern, "matches the same paths as \"" + leaf.pattern +
                           "\", which is routed to a session already");
  leaf.on_session = std::move(h);
  leaf.options = std::move(options);
}

void router::add(std::string_view pattern, std::string_view method, page_handler p,
                 page_guard guard) {
  if (!p)
    malformed(pattern, "has an empty handler");
  auto &leaf = place(pattern);
  if (page_for(leaf, method))
    malformed(pattern, "matches the same paths as \"" + leaf.pattern + "\", which has a page for " +
                           std::string(method) + " already");
  leaf.pages.push_back({std::string(method), std::move(p), std::move(guard)});
}

route &router::place(std::string_view pattern) {
  if (pattern.empty() || pattern.front() != '/')
    malformed(pattern, "must begin with a slash");
  if (pattern.find_first_of("?#") != pattern.npos)
    malformed(pattern, "must be a path, without a query or a fragment");

  constexpr int literal_step = -1;
  std::vector<std::string> names;
  std::vector<std::pair<int, std::string>> steps; // the kind of parameter; the literal
  const auto segments = split_path(pattern);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto segment = segments[i];
    if (segment.empty() && i + 1 < segments.size())
      malformed(pattern, "has an empty segment");
    if (segment.size() >= 2 && segment.front() == '{' && segment.back() == '}') {
      std::string_view name;
      const int kind = parameter_kind(segment.substr(1, segment.size() - 2), name);
      if (!is_name(name))
        malformed(pattern, "has a parameter whose name is not letters, digits and underscores");
      if (kind < 0)
        malformed(pattern, "has a parameter of an unknown type; there are int, uint and path");
      if (kind == node::rest && i + 1 < segments.size())
        malformed(pattern, "goes on after a parameter that takes the rest of the path");
      if (std::find(names.begin(), names.end(), name) != names.end())
        malformed(pattern, "names a parameter twice");
      names.emplace_back(name);
      steps.emplace_back(kind, std::string());
      continue;
    }
    if (segment.find_first_of("{}") != segment.npos)
      malformed(pattern, "has a brace inside a segment: a {parameter} is a whole segment");
    auto literal = percent_decode(segment);
    if (!literal)
      malformed(pattern, "has a malformed percent escape");
    steps.emplace_back(literal_step, std::move(*literal));
  }

  node *at = root_.get();
  for (auto &[kind, literal] : steps) {
    auto &below = kind == literal_step ? at->literals[std::move(literal)] : at->parameters[kind];
    if (!below)
      below = std::make_unique<node>();
    at = below.get();
  }
  if (!at->leaf) {
    at->leaf = std::make_shared<route>();
    at->leaf->pattern = pattern;
    at->leaf->names = std::move(names);
  } else if (at->leaf->names != names) {
    malformed(pattern, "names its parameters differently than \"" + at->leaf->pattern +
                           "\", which matches the same paths");
  }
  return *at->leaf;
}

void router::each_leaf(node &at, const std::function<void(route &)> &f) {
  if (at.leaf)
    f(*at.leaf);
  for (auto &[text, below] : at.literals)
    each_leaf(*below, f);
  for (auto &below : at.parameters)
    if (below)
      each_leaf(*below, f);
}

void router::absorb(std::string_view prefix, router &&other) {
  if (prefix.ends_with('/'))
    prefix.remove_suffix(1);
  each_leaf(*other.root_, [&](route &r) {
    const std::string pattern = std::string(prefix) + r.pattern;
    if (r.on_session)
      add(pattern, std::move(r.on_session), std::move(r.options));
    for (auto &one : r.pages)
      add(pattern, one.method, std::move(one.make), std::move(one.guard));
  });
  other.root_ = std::make_unique<node>();
}

route_match router::find(std::string_view path, route_kind kind, std::string_view method) const {
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

  search down{segments};
  auto serves = [&](const route &r) {
    return kind == route_kind::session ? static_cast<bool>(r.on_session)
                                       : page_or_head(r, method) != nullptr;
  };
  if (auto found = down.walk(*root_, 0, serves)) {
    match.what = route_match::verdict::found;
    match.values = std::move(down.values);
    if (const auto *page = kind == route_kind::page ? page_or_head(*found, method) : nullptr) {
      match.page = &page->make;
      match.guard = page->guard ? &page->guard : nullptr;
    }
    match.target = std::move(found);
    return match;
  }

  // What else is there: everything that matches the path takes part.
  bool pages = false, sessions = false;
  std::vector<std::string> methods;
  auto note = [&](const route &r) {
    pages = pages || !r.pages.empty();
    sessions = sessions || r.on_session;
    for (const auto &one : r.pages)
      if (std::find(methods.begin(), methods.end(), one.method) == methods.end())
        methods.push_back(one.method);
    return false;
  };
  down.walk(*root_, 0, note);
  if (!pages && !sessions)
    return match;
  if (kind == route_kind::session) {
    match.what = route_match::verdict::other_kind;
    return match;
  }
  const bool readable = method == "GET" || method == "HEAD";
  match.what = method == "OPTIONS"                ? route_match::verdict::options
               : sessions && (readable || !pages) ? route_match::verdict::other_kind
                                                  : route_match::verdict::other_method;
  const auto is_get = [](const auto &m) { return m == "GET"; };
  if (std::any_of(methods.begin(), methods.end(), is_get))
    match.allow = "GET, HEAD, ";
  else if (sessions)
    match.allow = "GET, ";
  for (const auto &one : methods)
    if (!is_get(one))
      match.allow.append(one).append(", ");
  match.allow.append("OPTIONS");
  return match;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
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

std::optional<std::int64_t> parse_int(std::string_view text) noexcept {
  return whole_number<std::int64_t>(text);
}

std::optional<std::uint64_t> parse_uint(std::string_view text) noexcept {
  return whole_number<std::uint64_t>(text);
}

target_parts split_target(std::string_view target) noexcept {
  std::string_view authority;
  if (!target.empty() && target.front() != '/') {
    const auto scheme = target.find("://");
    if (scheme != target.npos) {
      target.remove_prefix(scheme + 3);
      const auto end = target.find_first_of("/?#");
      authority = target.substr(0, end);
      target = end == target.npos ? std::string_view("/") : target.substr(end);
    }
  }
  target = target.substr(0, target.find('#'));
  const auto mark = target.find('?');
  target_parts parts{target.substr(0, mark), {}, authority};
  if (mark != target.npos)
    parts.query = target.substr(mark + 1);
  if (parts.path.empty())
    parts.path = "/";
  return parts;
}

} // namespace chorus::detail
