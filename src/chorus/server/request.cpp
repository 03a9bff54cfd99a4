#include <chorus/server/member.hpp>
#include <chorus/server/request_data.hpp>
#include <chorus/session/session_core.hpp>

#include <algorithm>

namespace chorus {

namespace detail {

namespace {

// Decodes `text` to the end of `arena`, which has the room, and gives the decoded view; `text` itself
// when there is nothing to decode, or when it is malformed.
std::string_view decode_into(std::string &arena, std::string_view text, bool plus_is_space) {
  if (text.find(plus_is_space ? '+' : '%') == text.npos && text.find('%') == text.npos)
    return text;
  const auto plain = percent_decode(text, plus_is_space);
  if (!plain)
    return text;
  const auto begin = arena.size();
  arena.append(*plain);
  return std::string_view(arena).substr(begin);
}

// Of a query; what stands between two '&' that follow each other is none.
std::size_t count_fields(std::string_view query) noexcept {
  std::size_t count = 0;
  char before = '&';
  for (const char c : query) {
    count += c != '&' && before == '&';
    before = c;
  }
  return count;
}

} // namespace

request make_request(http_head head, route_match match, std::string remote,
                     std::shared_ptr<const tls_info> tls, std::unique_ptr<const identity> who,
                     std::string body) {
  auto data = std::make_shared<request_data>();
  data->head = std::move(head);
  data->target = std::move(match.target);
  data->values = std::move(match.values);
  data->remote = std::move(remote);
  data->who = std::move(who);
  if (!body.empty())
    data->body = std::make_unique<const std::string>(std::move(body));
  data->tls = std::move(tls);

  const auto whole = data->head.target();
  const auto parts = split_target(whole);
  if (parts.query.empty() && whole.find('%') == whole.npos)
    return request(std::move(data));

  auto &decoded = *(data->decoded = std::make_unique<request_data::decoding>());
  decoded.text.reserve(whole.size()); // views into it must not move
  decoded.path = decode_into(decoded.text, parts.path, false);
  if (!parts.query.empty())
    decoded.query_fields.reserve(count_fields(parts.query)); // it stays as long as the session
  for (auto rest = parts.query; !rest.empty();) {
    const auto end = rest.find('&');
    const auto one = rest.substr(0, end);
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    if (one.empty())
      continue;
    const auto equals = one.find('=');
    const auto name = one.substr(0, equals);
    const auto value = equals == one.npos ? std::string_view() : one.substr(equals + 1);
    decoded.query_fields.emplace_back(decode_into(decoded.text, name, true),
                                      decode_into(decoded.text, value, true));
  }
  return request(std::move(data));
}

} // namespace detail

std::string_view request::method() const noexcept {
  return data_ ? data_->head.method() : std::string_view();
}

std::string_view request::target() const noexcept {
  return data_ ? data_->head.target() : std::string_view();
}

std::string_view request::path() const noexcept {
  if (!data_)
    return {};
  return data_->decoded ? data_->decoded->path : detail::split_target(data_->head.target()).path;
}

std::string_view request::query() const noexcept {
  return data_ ? detail::split_target(data_->head.target()).query : std::string_view();
}

std::string_view request::param(std::string_view name) const noexcept {
  if (!data_ || !data_->target)
    return {};
  const auto &names = data_->target->names;
  for (std::size_t i = 0; i < names.size() && i < data_->values.size(); ++i)
    if (names[i] == name)
      return data_->values[i];
  return {};
}

std::string_view request::query_param(std::string_view name) const noexcept {
  if (data_ && data_->decoded)
    for (const auto &[n, value] : data_->decoded->query_fields)
      if (n == name)
        return value;
  return {};
}

std::string_view request::header(std::string_view name) const noexcept {
  return data_ ? data_->head.find(name) : std::string_view();
}

std::optional<std::int64_t> request::param_int(std::string_view name) const noexcept {
  return detail::parse_int(param(name));
}

std::optional<std::uint64_t> request::param_uint(std::string_view name) const noexcept {
  return detail::parse_uint(param(name));
}

std::optional<std::int64_t> request::query_int(std::string_view name) const noexcept {
  return detail::parse_int(query_param(name));
}

std::optional<std::uint64_t> request::query_uint(std::string_view name) const noexcept {
  return detail::parse_uint(query_param(name));
}

std::optional<std::int64_t> request::header_int(std::string_view name) const noexcept {
  return detail::parse_int(header(name));
}

std::optional<std::uint64_t> request::header_uint(std::string_view name) const noexcept {
  return detail::parse_uint(header(name));
}

bool request::has_query(std::string_view name) const noexcept {
  return data_ && data_->decoded &&
         std::any_of(data_->decoded->query_fields.begin(), data_->decoded->query_fields.end(),
                     [&](const auto &field) { return field.first == name; });
}

std::string_view request::body() const noexcept {
  return data_ && data_->body ? std::string_view(*data_->body) : std::string_view();
}

std::vector<std::pair<std::string_view, std::string_view>> request::headers() const {
  std::vector<std::pair<std::string_view, std::string_view>> all;
  if (data_)
    for (const auto &field : data_->head.fields())
      all.emplace_back(field.name, field.value);
  return all;
}

const tls_info *request::tls() const noexcept { return data_ ? data_->tls.get() : nullptr; }

std::string_view request::remote_address() const noexcept {
  return data_ ? std::string_view(data_->remote) : std::string_view();
}

request request_of(const session &s) {
  if (!s)
    return {};
  return request(std::static_pointer_cast<const detail::request_data>(s.core()->origin()));
}

std::string_view member::header(std::string_view name) const {
  return request_of(*session_).header(name); // the session holds it
}

} // namespace chorus
