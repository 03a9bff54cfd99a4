// Any header fields are accepted or refused with a reason. Lines of "name: value"; the first line is
// the method and the target, or the status.
#include <chorus/protocol/handshake.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace protocol = chorus::protocol;
using protocol::handshake_error;

void require(bool holds) {
  if (!holds)
    std::abort();
}

std::string_view take_line(std::string_view &rest) {
  const auto end = std::min(rest.find('\n'), rest.size());
  const auto line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return line;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char *>(data), size);
  const auto first = take_line(rest);
  std::vector<protocol::header_field> headers;
  while (!rest.empty()) {
    const auto line = take_line(rest);
    const auto colon = std::min(line.find(':'), line.size());
    headers.push_back({line.substr(0, colon), line.substr(std::min(colon + 1, line.size()))});
  }

  const auto blank = std::min(first.find(' '), first.size());
  const auto request = protocol::check_upgrade_request(
      first.substr(0, blank), 11, first.substr(std::min(blank + 1, first.size())), headers);
  require((request.why == handshake_error::none) == (request.status == 101));
  if (request) {
    require(protocol::is_upgrade(headers));
    require(request.key.size() == 24);
    for (const auto name : request.subprotocols)
      require(protocol::is_token(name));
  } else {
    require(request.status >= 400 && request.status < 600);
    require(!make_error_code(request.why).message().empty());
  }

  // What is written back can't break out of its line.
  for (const auto &h : headers) {
    std::string line;
    if (protocol::append_header(line, h.name, h.value))
      require(line.find('\n') == line.size() - 1 && line.find('\r') == line.size() - 2);
    else
      require(line.empty());
  }

  constexpr std::string_view key = "dGhlIHNhbXBsZSBub25jZQ==";
  const std::vector<std::string_view> offered = {"chat", "v2"};
  chorus::deflate_options deflate;
  deflate.enabled = size % 2 == 0;
  const auto response = protocol::check_upgrade_response(first.starts_with("101") ? 101 : 200,
                                                         headers, key, offered, deflate);
  if (response) {
    require(response.subprotocol.empty() || response.subprotocol == "chat" ||
            response.subprotocol == "v2");
    require(!response.deflate || deflate.enabled);
  }
  return 0;
}
