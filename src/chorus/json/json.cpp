#include <chorus/json/json.hpp>

#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>

namespace chorus {

namespace json = boost::json;

message to_message(const json::value &value) { return message(json::serialize(value)); }

result<json::value> to_json(const message &m, json_limits limits) {
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::stream_parser parser({}, options);
  json::error_code ec;
  const auto text = m.text();
  const auto used = parser.write_some(text.data(), text.size(), ec);
  if (!ec && used < text.size())
    ec = json::error::extra_data;
  if (!ec)
    parser.finish(ec);
  if (!ec)
    return parser.release();
  failure_detail detail;
  detail.where = stage::open;
  detail.sentence = "not valid JSON at byte " + std::to_string(used) + " of " +
                    std::to_string(text.size()) + ": " + ec.message();
  return failure(ec, std::move(detail));
}

task<result<>> send_json(session s, const json::value &value, send_options options) {
  return s.send(to_message(value), options);
}

namespace {
task<result<json::value>> receive_and_parse(session s, json_limits limits) {
  auto m = co_await s.receive();
  if (m.has_error())
    co_return m.error();
  co_return to_json(*m, limits);
}
} // namespace

task<result<json::value>> receive_json(session s, json_limits limits) {
  return receive_and_parse(std::move(s), limits);
}

} // namespace chorus
