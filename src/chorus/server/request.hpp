#pragma once
// `request`: the HTTP request that began a session or asks for a page. Constant, shared and cheap to
// copy; safe to hand to another thread.

#include <chorus/transport/tls_info.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

namespace chorus {

class session;

namespace detail {
struct request_data;
}

class request {
public:
  request() noexcept = default;
  explicit request(std::shared_ptr<const detail::request_data> data) noexcept
      : data_(std::move(data)) {}

  // All views are valid as long as this request or a copy of it.
  std::string_view method() const noexcept;
  std::string_view target() const noexcept; // as sent: path and query
  std::string_view path() const noexcept;   // percent-decoded, without the query
  std::string_view query() const noexcept;  // raw, without the question mark
  // A {parameter} of the route's pattern, percent-decoded; empty when there is none.
  std::string_view param(std::string_view name) const noexcept;
  // The first such field of the query, decoded; empty when there is none.
  std::string_view query_param(std::string_view name) const noexcept;
  // The first header of that name (case-insensitive); empty when there is none.
  std::string_view header(std::string_view name) const noexcept;
  // The same as numbers: nothing when there is no such field, and when it is anything but decimal
  // digits (after at most one '-' for the signed ones) that fit into 64 bits. A {parameter:int} or
  // {parameter:uint} of the pattern is always there.
  std::optional<std::int64_t> param_int(std::string_view name) const noexcept;
  std::optional<std::uint64_t> param_uint(std::string_view name) const noexcept;
  std::optional<std::int64_t> query_int(std::string_view name) const noexcept;
  std::optional<std::uint64_t> query_uint(std::string_view name) const noexcept;
  std::optional<std::int64_t> header_int(std::string_view name) const noexcept;
  std::optional<std::uint64_t> header_uint(std::string_view name) const noexcept;
  // Whether the query has such a field, be it empty.
  bool has_query(std::string_view name) const noexcept;
  // Of a page: at most server_options::max_body_bytes. A session's request has none.
  std::string_view body() const noexcept;
  std::vector<std::pair<std::string_view, std::string_view>> headers() const;
  // Who is behind a trusted proxy: the client's own, as the proxy told it.
  std::string_view remote_address() const noexcept;
  // Whom the authorisation hook has named; empty when nobody, and for the hook itself.
  std::string_view user() const noexcept;
  // What the hook has attached. Throws std::logic_error with a sentence when that is nothing, or of
  // another type.
  template <class T> const T &data() const {
    const auto *found = find_data<T>();
    if (!found)
      complain_about_data(typeid(T));
    return *found;
  }
  // The same; null instead of a complaint.
  template <class T> const T *find_data() const noexcept {
    return static_cast<const T *>(attached(typeid(T)));
  }

  const std::shared_ptr<const detail::request_data> &core() const noexcept { return data_; }
  // Null for a connection without TLS, or when something in between has ended it.
  const tls_info *tls() const noexcept;

private:
  const void *attached(const std::type_info &wanted) const noexcept;
  [[noreturn]] void complain_about_data(const std::type_info &wanted) const;

  std::shared_ptr<const detail::request_data> data_;
};

// The request that began a server's session; an empty one for any other. From any thread.
request request_of(const session &s);

} // namespace chorus
