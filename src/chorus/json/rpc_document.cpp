#include <chorus/json/rpc_document.hpp>

#include <chorus/json/json.hpp>

#include <boost/json/serialize.hpp>

#include <cmath>
#include <limits>

namespace chorus::detail {

namespace json = boost::json;

namespace {

bool is_version_2(const json::object &o) noexcept {
  const auto *version = o.if_contains("jsonrpc");
  const auto *text = version ? version->if_string() : nullptr;
  return text && *text == "2.0";
}

bool can_be_id(const json::value &v) noexcept {
  const auto *d = v.if_double();
  return v.is_null() || v.is_string() || (v.is_number() && (!d || std::isfinite(*d)));
}

failure invalid_answer(std::string_view what) {
  return rpc_failure(rpc_code::invalid_answer,
                     "the peer's answer is no JSON-RPC 2.0 response: " + std::string(what));
}

result<json::value> outcome_of(json::object &o) {
  if (!is_version_2(o))
    return invalid_answer("its jsonrpc is not \"2.0\"");
  auto *value = o.if_contains("result");
  const auto *error = o.if_contains("error");
  if (value && error)
    return invalid_answer("it has both result and error");
  if (value)
    return std::move(*value);
  const auto *e = error->if_object();
  const auto *code = e ? e->if_contains("code") : nullptr;
  const auto *message = e ? e->if_contains("message") : nullptr;
  const auto *number = code ? code->if_int64() : nullptr;
  const auto *text = message ? message->if_string() : nullptr;
  if (!number || !text || *number < std::numeric_limits<int>::min() ||
      *number > std::numeric_limits<int>::max())
    return invalid_answer("its error has no code or no message");
  const auto *data = e->if_contains("data");
  return rpc_failure(static_cast<int>(*number), std::string_view(text->data(), text->size()),
                     data ? *data : json::value());
}

void append_head(std::string &out, std::string_view method, const json::value &params) {
  out += R"({"jsonrpc":"2.0","method":)";
  out += json::serialize(json::string_view(method.data(), method.size()));
  if (!params.is_null())
    out.append(R"(,"params":)").append(json_text(params));
}

std::string error_document(int code, std::string_view message, std::string_view data,
                           const json::value &id) {
  std::string out = R"({"jsonrpc":"2.0","error":{"code":)" + std::to_string(code) +
                    R"(,"message":)" +
                    json::serialize(json::string_view(message.data(), message.size()));
  if (!data.empty())
    out.append(R"(,"data":)").append(data);
  return out.append(R"(},"id":)").append(json_text(id)) += '}';
}

} // namespace

rpc_entry classify(json::value &&entry) {
  rpc_entry out;
  auto *o = entry.if_object();
  if (!o)
    return out;
  auto *id = o->if_contains("id");
  if (id && can_be_id(*id))
    out.id = *id;
  const auto *method = o->if_contains("method");
  if (!method && (o->contains("result") || o->contains("error"))) {
    out.kind = rpc_kind::answer;
    out.outcome = outcome_of(*o);
    return out;
  }
  const auto *name = method ? method->if_string() : nullptr;
  if (!name || !is_version_2(*o) || (id && !can_be_id(*id)))
    return out;
  if (auto *params = o->if_contains("params")) {
    if (!params->is_structured())
      return out;
    out.params = std::move(*params);
  }
  out.method.assign(name->data(), name->size());
  out.kind = id ? rpc_kind::request : rpc_kind::notification;
  return out;
}

bool is_rpc(const json::value &document) noexcept {
  const auto *o = document.if_object();
  if (const auto *batch = document.if_array(); batch && !batch->empty())
    o = batch->front().if_object();
  return o && o->contains("jsonrpc");
}

std::uint64_t own_id(const json::value &id) noexcept {
  if (const auto *n = id.if_int64())
    return *n > 0 ? static_cast<std::uint64_t>(*n) : 0;
  if (const auto *n = id.if_uint64())
    return *n;
  // Some write whole numbers as 7.0.
  if (const auto *d = id.if_double();
      d && *d > 0 && *d < 9007199254740992.0 && *d == std::floor(*d))
    return static_cast<std::uint64_t>(*d);
  return 0;
}

bool is_answer_text(std::string_view text) noexcept {
  if (text.starts_with('['))
    text.remove_prefix(1);
  return text.starts_with(R"({"jsonrpc":"2.0","result":)") ||
         text.starts_with(R"({"jsonrpc":"2.0","error":)");
}

std::string request_text(std::string_view method, const json::value &params, std::uint64_t id) {
  std::string out;
  append_head(out, method, params);
  return out.append(R"(,"id":)").append(std::to_string(id)) += '}';
}

std::string notification_text(std::string_view method, const json::value &params) {
  std::string out;
  append_head(out, method, params);
  return out += '}';
}

std::string result_text(const json::value &value, const json::value &id) {
  return R"({"jsonrpc":"2.0","result":)" + json_text(value) + R"(,"id":)" + json_text(id) + '}';
}

std::string error_text(rpc_code code, const json::value &id, std::string_view data) {
  const auto quoted =
      data.empty() ? std::string() : json::serialize(json::string_view(data.data(), data.size()));
  return error_document(static_cast<int>(code), make_error_code(code).message(), quoted, id);
}

std::string error_text(const failure &why, const json::value &id) {
  if (why.code().category() != rpc_category())
    return error_text(rpc_code::internal_error, id);
  return error_document(why.code().value(), why.message(), why.detail().body, id);
}

} // namespace chorus::detail
