#include <chorus/client/upgrade.hpp>

#include <chorus/base/text.hpp>
#include <chorus/client/http_response.hpp>
#include <chorus/protocol/handshake.hpp>
#include <chorus/transport/waiting.hpp>

#include <array>

namespace chorus::detail {

namespace {

failure failed(error code, const transport::stream &s, std::string sentence,
               std::string hint = {}) {
  failure_detail detail;
  detail.where = stage::upgrade;
  detail.address = s.remote_address();
  detail.sentence = std::move(sentence);
  detail.hint = std::move(hint);
  return failure(make_error_code(code), std::move(detail));
}

// Any failure of the stream itself, told as one of this stage.
failure broken(const failure &why, const transport::stream &s, const connect_plan &plan) {
  if (why == error::upgrade_timeout)
    return failed(error::upgrade_timeout, s,
                  "the server did not answer the upgrade within " + in_ms(plan.upgrade_timeout),
                  "is it a WebSocket server?");
  // Under TLS 1.3 a server refuses the certificate of a client, or the lack of one, only now.
  if (why == condition::tls)
    return why;
  return failed(error::lost, s, "the connection broke during the upgrade: " + why.code().message());
}

std::string hint(const http_response_reader &answer, const connect_plan &plan) {
  const unsigned status = answer.status();
  switch (status) {
  case 400:
    return "it did not understand the request; does something between rewrite the headers?";
  case 401:
    return "it wants credentials; give them as a header, as in {\"Authorization\", \"Bearer …\"}";
  case 403:
    return "it does not allow this; check the credentials, and the Origin header if it compares "
           "origins";
  case 404:
    return "there is nothing at this path; check the path of the URL";
  case 405:
    return "there is no WebSocket at this path; check the path of the URL";
  case 407:
    return "a proxy wants credentials; ask its operator";
  case 408:
    return "it waited too long for the request; try again";
  case 410:
    return "what was at this path has gone; check the path of the URL";
  case 426:
    return "it wants another protocol or WebSocket version than 13";
  case 429:
    return "too many attempts; wait before the next one";
  case 505:
    return "a proxy before it has to pass the request on as HTTP/1.1";
  default:
    break;
  }
  if (status >= 200 && status < 300)
    return "it took the request for plain HTTP: there is no WebSocket at this path, or a proxy "
           "removed the Upgrade header";
  if (status >= 300 && status < 400) {
    // The query of a location may hold a token.
    const auto location = answer.header("Location");
    std::string to(location.substr(0, location.find_first_of("?#")));
    return to.empty() ? "it redirects, which is not followed; connect to the final URL"
                      : "it redirects to " + to + ", which is not followed; connect there, with " +
                            (plan.where.is_secure() ? "wss" : "ws") + "://";
  }
  if (status >= 500)
    return "it, or a proxy before it, can't serve now; try again later";
  return "check the URL and the headers";
}

failure refused(const http_response_reader &answer, const transport::stream &s,
                const connect_plan &plan) {
  failure_detail detail;
  detail.where = stage::upgrade;
  detail.address = s.remote_address();
  detail.status = answer.status();
  detail.headers = answer.headers();
  detail.body = answer.body();
  detail.sentence = "the server answered the upgrade with " + std::to_string(answer.status());
  if (!answer.reason().empty())
    detail.sentence += " " + answer.reason().substr(0, 80);
  detail.hint = hint(answer, plan);
  return failure(make_error_code(error::upgrade_refused), std::move(detail));
}

failure invalid(const transport::stream &s, const std::string &why) {
  return failed(error::upgrade_invalid, s, "the server's answer is no WebSocket handshake: " + why);
}

failure ended_early(const transport::stream &s, std::size_t received) {
  if (received == 0)
    return failed(error::lost, s, "the server closed the connection without answering the upgrade",
                  "does this port speak WebSocket, or TLS (wss://)?");
  return failed(error::lost, s,
                "the server closed the connection in the middle of its answer to the upgrade");
}

} // namespace

std::string upgrade_request(const connect_plan &plan, std::string_view key) {
  std::string out;
  out.reserve(256 + plan.where.target().size() + plan.extra_headers.size());
  out.append("GET ").append(plan.where.target()).append(" HTTP/1.1\r\nHost: ");
  out.append(plan.where.authority()).append("\r\n");
  out.append("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ").append(key);
  out.append("\r\nSec-WebSocket-Version: 13\r\n");
  if (!plan.subprotocols.empty()) {
    out.append("Sec-WebSocket-Protocol: ");
    for (const auto &name : plan.subprotocols)
      out.append(&name == plan.subprotocols.data() ? "" : ", ").append(name);
    out.append("\r\n");
  }
  if (const auto offer = protocol::make_offer(plan.session.compression); !offer.empty())
    out.append("Sec-WebSocket-Extensions: ").append(offer).append("\r\n");
  out.append(plan.authorization).append(plan.extra_headers).append("\r\n");
  return out;
}

task<result<upgrade_answer>> upgrade(transport::stream &s, const connect_plan &plan) {
  const auto deadline = s.home().now() + plan.upgrade_timeout;
  const auto key = protocol::make_key();
  const auto request = upgrade_request(plan, key);
  auto written = co_await transport::write_all(s, request, deadline, error::upgrade_timeout);
  // A server that refuses may do so before it has read everything, and close: its answer counts.
  if (!written && written.error() == error::upgrade_timeout)
    co_return broken(written.error(), s, plan);

  http_response_reader answer(plan.max_response_bytes);
  using progress = http_response_reader::progress;
  auto so_far = progress::need_more;
  std::size_t received = 0;
  std::array<std::byte, 2048> chunk;
  while (so_far == progress::need_more) {
    auto got = co_await transport::read_some(s, chunk, deadline, error::upgrade_timeout);
    if (!got || *got == 0) {
      if (answer.has_head()) // the refusal is known; only its body is cut short
        break;
      if (!got)
        co_return broken(got.error(), s, plan);
      co_return ended_early(s, received);
    }
    received += *got;
    so_far = answer.feed({reinterpret_cast<const char *>(chunk.data()), *got});
  }
  if (so_far == progress::malformed)
    co_return invalid(s, answer.why());

  if (answer.status() >= 200)
    co_return refused(answer, s, plan);
  if (answer.version() < 11)
    co_return invalid(s, "it is in HTTP/1.0; WebSocket needs HTTP/1.1");
  std::vector<protocol::header_field> fields;
  fields.reserve(answer.headers().size());
  for (const auto &[name, value] : answer.headers())
    fields.push_back({name, value});
  const std::vector<std::string_view> offered(plan.subprotocols.begin(), plan.subprotocols.end());
  protocol::handshake_limits limits;
  limits.max_header_bytes = plan.max_response_bytes;
  auto check = protocol::check_upgrade_response(answer.status(), fields, key, offered,
                                                plan.session.compression, limits);
  if (!check)
    co_return invalid(s, make_error_code(check.why).message());
  if (plan.dial.observer)
    plan.dial.observer->on_upgraded(answer.status(), answer.headers());
  upgrade_answer agreed;
  agreed.subprotocol = std::move(check.subprotocol);
  agreed.compression = check.deflate;
  agreed.rest = std::string(answer.rest());
  co_return agreed;
}

} // namespace chorus::detail
