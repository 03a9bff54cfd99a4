#include <chorus/json/rpc_error.hpp>

#include <chorus/json/json.hpp>

#include <boost/json/parse.hpp>

namespace chorus {

namespace json = boost::json;

namespace {

class category final : public boost::system::error_category {
public:
  const char *name() const noexcept override { return "chorus.rpc"; }
  bool failed(int) const noexcept override { return true; } // 0 is a code like any other
  std::string message(int value) const override {
    switch (static_cast<rpc_code>(value)) {
    case rpc_code::parse_error:
      return "Parse error";
    case rpc_code::invalid_request:
      return "Invalid Request";
    case rpc_code::method_not_found:
      return "Method not found";
    case rpc_code::invalid_params:
      return "Invalid params";
    case rpc_code::internal_error:
      return "Internal error";
    case rpc_code::busy:
      return "Too many requests at once";
    case rpc_code::invalid_answer:
      return "the answer is no JSON-RPC 2.0 response";
    }
    return "JSON-RPC error " + std::to_string(value);
  }
};

} // namespace

const boost::system::error_category &rpc_category() noexcept {
  static const category one;
  return one;
}

failure rpc_failure(int code, std::string_view message, const json::value &data) {
  failure_detail detail;
  detail.where = stage::open;
  detail.sentence = message;
  if (!data.is_null())
    detail.body = json_text(data);
  return failure(error_code(code, rpc_category()), std::move(detail));
}

failure rpc_failure(rpc_code code, std::string_view message, const json::value &data) {
  return rpc_failure(static_cast<int>(code), message, data);
}

std::optional<rpc_error> rpc_error_of(const failure &f) {
  if (f.code().category() != rpc_category())
    return std::nullopt;
  rpc_error e;
  e.code = f.code().value();
  e.message = f.message();
  if (!f.detail().body.empty()) {
    error_code ec;
    // It was serialised by this library, and parsed under the limits before.
    json::parse_options options;
    options.max_depth = static_cast<std::size_t>(-1);
    auto data = json::parse(f.detail().body, ec, {}, options);
    if (!ec)
      e.data = std::move(data);
  }
  return e;
}

} // namespace chorus
