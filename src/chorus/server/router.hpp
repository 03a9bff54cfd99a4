#pragma once
// Which handler serves which path. Patterns are literal segments and {parameters} of one segment
// each; a literal beats a parameter, the leftmost difference decides. Segments are compared after
// percent-decoding (RFC 3986 section 2.1), so "%2F" never separates segments. Paths that differ in
// a final slash are different paths.

#include <chorus/async/task.hpp>
#include <chorus/server/admission.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/response.hpp>
#include <chorus/session/session.hpp>

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

using session_handler = std::function<task<>(session, request)>;
using page_handler = std::function<task<response>(request)>;

// One pattern with what it serves. Constant once the server runs; whoever runs one of its handlers
// shares it.
struct route {
  std::string pattern;
  std::vector<std::string> names; // of the parameters, from the left
  session_handler on_session;
  page_handler on_page;
  route_options options;
};

enum class route_kind : unsigned char { session, page };

struct route_match {
  enum class verdict : unsigned char {
    found,
    not_found,
    other_kind, // the path serves the other kind only
    bad_escape, // a malformed percent escape
  };
  verdict what = verdict::not_found;
  std::shared_ptr<const chorus::detail::route> target;
  std::vector<std::string> values; // of the parameters, decoded, from the left
};

class router {
public:
  router();
  ~router();
  router(const router &) = delete;
  router &operator=(const router &) = delete;

  // Throws std::invalid_argument for a malformed pattern, an empty handler, and a pattern that
  // matches the same paths as an earlier one of its kind.
  void add(std::string_view pattern, session_handler h, route_options options = {});
  void add(std::string_view pattern, page_handler p);
  // `path`: as it stands in the request, without the query.
  route_match find(std::string_view path, route_kind kind) const;

private:
  struct node;
  route &place(std::string_view pattern, route_kind kind);
  static const node *descend(const node &at, const std::vector<std::string> &segments,
                             std::size_t next, route_kind kind, std::vector<std::string> &values);

  std::unique_ptr<node> root_;
};

// Decodes percent escapes; nothing when one is malformed. With `plus_is_space`, '+' becomes a space
// (query fields of HTML forms).
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

// The path and the query of a request target in origin form ("/a?b") or absolute form
// ("http://host/a?b").
struct target_parts {
  std::string_view path;
  std::string_view query;
};
target_parts split_target(std::string_view target) noexcept;

} // namespace chorus::detail
