#pragma once
// Which handler serves which path and method.
//
// Patterns are segments: literals, or parameters of one whole segment each, of which the last may
// take all that is left:
//
//   {name}                     any segment that is not empty
//   {name:int}, {name:uint}    decimal digits, with or without a leading '-': 64 bits; what does not fit
//                              does not match
//   {name...} or {name:path}   last only: every segment from here on, joined by slashes; may be empty
//
// Segment by segment from the left a literal beats int beats uint beats plain beats the rest. Segments
// are compared after percent-decoding (RFC 3986 section 2.1), so "%2F" never separates segments; a
// rest with such a slash inside a segment does not match, since its segments could not be told apart
// any more. Paths that differ in a final slash are different paths.

#include <chorus/async/task.hpp>
#include <chorus/server/admission.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/response.hpp>
#include <chorus/session/session.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

using session_handler = std::function<task<>(session, request)>;
using page_handler = std::function<task<response>(request)>;
// Asked before the body of a request is read; what it answers is said instead of the page.
class http_head;
using page_guard = std::function<std::optional<response>(const http_head &)>;

// One pattern with what it serves. Constant once the server runs; whoever runs one of its handlers
// shares it.
struct route {
  struct page {
    std::string method;
    page_handler make;
    page_guard guard{}; // empty: everybody gets the page
  };
  std::string pattern;
  std::vector<std::string> names; // of the parameters, from the left
  session_handler on_session;
  std::vector<page> pages;
  route_options options;
};

enum class route_kind : unsigned char { session, page };

struct route_match {
  enum class verdict : unsigned char {
    found,
    not_found,
    other_kind,   // the path serves the other kind only
    other_method, // the path has pages, but not for this method; `allow` lists its methods
    options,      // OPTIONS, which nobody has a page for: `allow` is the answer
    bad_escape,   // a malformed percent escape
  };
  verdict what = verdict::not_found;
  std::shared_ptr<const chorus::detail::route> target;
  std::vector<std::string> values;    // of the parameters, decoded, from the left
  const page_handler *page = nullptr; // of `target`, for a page
  const page_guard *guard = nullptr;  // the same; null: none
  std::string allow;                  // as the Allow header has it
};

class router {
public:
  router();
  ~router();
  router(const router &) = delete;
  router &operator=(const router &) = delete;

  // Throws std::invalid_argument for a malformed pattern, an empty handler, and a pattern that
  // matches the same paths as an earlier one of its kind and method.
  void add(std::string_view pattern, session_handler h, route_options options = {});
  void add(std::string_view pattern, page_handler p) { add(pattern, "GET", std::move(p)); }
  void add(std::string_view pattern, std::string_view method, page_handler p,
           page_guard guard = {});
  // Takes over all of `other`, each pattern behind `prefix` ("/api", or "" or "/" for none); throws
  // as `add` does, and may have taken a part by then.
  void absorb(std::string_view prefix, router &&other);

  // `path`: as it stands in the request, without the query. Sessions begin with GET. HEAD is served
  // by a page for GET.
  route_match find(std::string_view path, route_kind kind, std::string_view method = "GET") const;

private:
  struct node;
  struct search;
  route &place(std::string_view pattern);
  static void each_leaf(node &at, const std::function<void(route &)> &f);

  std::unique_ptr<node> root_;
};

// Decodes percent escapes; nothing when one is malformed. With `plus_is_space`, '+' becomes a space
// (query fields of HTML forms).
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

// Decimal digits and nothing else, for the signed one after at most one '-'.
std::optional<std::int64_t> parse_int(std::string_view text) noexcept;
std::optional<std::uint64_t> parse_uint(std::string_view text) noexcept;

// The parts of a request target in origin form ("/a?b") or absolute form ("http://host/a?b"); the
// authority is empty in origin form.
struct target_parts {
  std::string_view path;
  std::string_view query;
  std::string_view authority{};
};
target_parts split_target(std::string_view target) noexcept;

} // namespace chorus::detail
