#pragma once
// JSON in plain HTTP: answers from values, bodies as values.
//
//   srv.post("/sum", [](chorus::request r) -> chorus::task<chorus::response> {
//     auto body = chorus::json_body(r);
//     if (!body)
//       co_return chorus::json_refusal(body.error());
//     …
//     co_return chorus::json_response({{"sum", sum}});
//   });

#include <chorus/base/result.hpp>
#include <chorus/json/json.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/response.hpp>

namespace chorus {

// The serialised value as application/json.
response json_response(const boost::json::value &value, unsigned status = 200);

// The body of the request, whatever its Content-Type says. Fails with Boost.JSON's error code; the
// sentence names the position of the fault in bytes. An empty body is malformed, too.
result<boost::json::value> json_body(const request &r, json_limits limits = {});

// {"error": sentence}: what a client is told that sent such a body.
response json_refusal(const failure &why, unsigned status = 400);

} // namespace chorus
