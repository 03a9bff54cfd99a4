// Decompression of anything stays within its limit and gives the same in parts; compression of
// anything comes back; parameters of any header are negotiated to something in range, or not at all.
// The first byte chooses.
#include <chorus/protocol/deflate.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

namespace protocol = chorus::protocol;
using protocol::role;
using protocol::violation;

void require(bool holds) {
  if (!holds)
    std::abort();
}

void in_range(const protocol::deflate_params &p) {
  require(p.server_max_window_bits >= 8 && p.server_max_window_bits <= 15);
  require(p.client_max_window_bits >= 8 && p.client_max_window_bits <= 15);
}

void decompress(std::span<const std::byte> bytes, bool takeover, std::size_t limit) {
  // With the largest window only is a reference too far back found out with certainty.
  const protocol::deflate_params params{!takeover, !takeover, 15, 15};
  protocol::inflater i(role::server, params), parts(role::server, params);
  // Several messages, so that a window is carried over.
  for (std::size_t piece = bytes.size() / 3 + 1; !bytes.empty();) {
    const auto message = bytes.first(std::min(piece, bytes.size()));
    bytes = bytes.subspan(message.size());
    chorus::byte_buffer out;
    protocol::utf8_validator text;
    const auto why = i.inflate(message, limit, limit % 2 ? &text : nullptr, out);
    require(out.size() <= limit);
    chorus::byte_buffer joined;
    protocol::utf8_validator joined_text;
    auto *const check = limit % 2 ? &joined_text : nullptr;
    const std::size_t step = 1 + message.size() % 37;
    auto why_joined = violation::none;
    for (auto rest = message; why_joined == violation::none && !rest.empty();) {
      const auto part = rest.first(std::min(step, rest.size()));
      rest = rest.subspan(part.size());
      why_joined = parts.part(part, limit, check, joined);
    }
    if (why_joined == violation::none)
      why_joined = parts.finish(limit, check, joined);
    require(why_joined == why);
    if (why == violation::none)
      require(std::equal(out.span().begin(), out.span().end(), joined.span().begin(),
                         joined.span().end()));
    if (why == violation::none)
      continue;
    require(why == violation::bad_compressed_data || why == violation::inflated_too_big ||
            why == violation::invalid_utf8);
    return;
  }
}

void round_trip(std::span<const std::byte> bytes, bool takeover, int bits) {
  const protocol::deflate_params params{!takeover, !takeover, bits, bits};
  chorus::deflate_options options;
  options.level = 1 + static_cast<int>(bytes.size() % 9);
  options.mem_level = bits - 6;
  protocol::deflater d(role::client, params, options);
  protocol::inflater i(role::server, params);
  for (int repeat = 0; repeat < 3; ++repeat) {
    chorus::byte_buffer packed, out;
    d.compress(bytes, packed);
    require(i.inflate(packed.span(), bytes.size(), nullptr, out) == violation::none);
    require(std::equal(bytes.begin(), bytes.end(), out.span().begin(), out.span().end()));
  }
}

void negotiate(std::string_view header, unsigned choice) {
  chorus::deflate_options server, client;
  server.enabled = client.enabled = true;
  server.server_no_context_takeover = (choice & 8U) != 0;
  server.client_no_context_takeover = (choice & 16U) != 0;
  client.server_no_context_takeover = client.client_no_context_takeover = false;
  std::string response;
  if (const auto agreed = protocol::accept_offer(header, server, response)) {
    in_range(*agreed);
    // A client that offered this takes what it is answered.
    require(protocol::verify_response(response, client).verdict ==
            protocol::response_verdict::accepted);
  } else {
    require(response.empty());
  }
  in_range(protocol::verify_response(header, client).params);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size < 1)
    return 0;
  const unsigned choice = data[0];
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  switch (choice % 3) {
  case 0:
    decompress(bytes, (choice & 4U) != 0, choice & 8U ? 1001 : 1 << 20);
    break;
  case 1:
    round_trip(bytes, (choice & 4U) != 0, 8 + static_cast<int>(choice >> 3) % 8);
    break;
  default:
    negotiate({reinterpret_cast<const char *>(bytes.data()), bytes.size()}, choice);
  }
  return 0;
}
