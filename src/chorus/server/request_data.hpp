#pragma once
// What a `request` shares. Filled in place once, then constant. An idle session keeps one, so it
// holds the head as it came and decodes into one more string only when something was escaped.

#include <chorus/server/admission.hpp>
#include <chorus/server/http.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/router.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::detail {

struct request_data {
  using field = std::pair<std::string_view, std::string_view>;

  request_data() = default;
  request_data(const request_data &) = delete;
  request_data &operator=(const request_data &) = delete;

  http_head head;
  std::shared_ptr<const chorus::detail::route> target; // its parameters' names
  std::vector<std::string> values;                     // of the parameters
  std::string remote;
  std::unique_ptr<const identity> who;     // null: nobody in particular
  std::unique_ptr<const std::string> body; // null when there is none
  std::shared_ptr<const tls_info> tls;     // null: plain

  struct decoding {
    std::string_view path;
    std::vector<field> query_fields;
    std::string text; // what `path` and the fields may point into
  };
  std::unique_ptr<decoding> decoded; // when there is a query or something was escaped
};

// `match` must be a found one.
request make_request(http_head head, route_match match, std::string remote,
                     std::shared_ptr<const tls_info> tls = nullptr,
                     std::unique_ptr<const identity> who = nullptr, std::string body = {});

} // namespace chorus::detail
