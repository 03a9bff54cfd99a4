#include <chorus/server/json_pages.hpp>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace chorus {

response json_response(const boost::json::value &value, unsigned status) {
  response page(boost::json::serialize(value), "application/json");
  page.status(status);
  return page;
}

result<boost::json::value> json_body(const request &r, json_limits limits) {
  return to_json(message(r.body()), limits);
}

response json_refusal(const failure &why, unsigned status) {
  boost::json::object told;
  told["error"] = why.message();
  return json_response(told, status);
}

} // namespace chorus
