// Any message is a header that can be acted upon, or refused with a reason. The first byte says who
// sent it.
#include <chorus/protocol/resume.hpp>
#include <chorus/protocol/utf8.hpp>

#include <cstdlib>
#include <string>

namespace {

namespace protocol = chorus::protocol;
using protocol::resume_error;
using protocol::resume_type;

void require(bool holds) {
  if (!holds)
    std::abort();
}

void check_text(std::string_view text) {
  require(protocol::is_valid_utf8(std::as_bytes(std::span(text))));
}

// What was understood is understood the same when it is written again.
void check_again(protocol::role from, const protocol::resume_header &h) {
  std::string text;
  switch (h.type) {
  case resume_type::hello:
    text = protocol::write_hello(h.client, h.rooms);
    break;
  case resume_type::ack:
    text = protocol::write_ack(*h.room, h.offset);
    break;
  case resume_type::left:
    text = protocol::write_left(*h.room);
    break;
  case resume_type::joined:
    text = protocol::write_joined({*h.room, h.epoch, h.offset, h.recovered, h.missed, h.why});
    break;
  case resume_type::msg:
    text = !h.room           ? std::string(protocol::plain_msg_header)
           : h.epoch.empty() ? protocol::write_msg_header(*h.room)
                             : protocol::write_msg_header(*h.room, h.epoch, h.offset);
    break;
  case resume_type::other:
    return;
  }
  protocol::resume_header again;
  std::size_t size = 0;
  const auto e = protocol::read_resume(from, std::as_bytes(std::span(text)), again, size);
  if (e == resume_error::too_long)
    return; // escapes differ in length
  require(e == resume_error::none && size == text.size());
  require(again.type == h.type && again.room == h.room && again.epoch == h.epoch);
  require(again.offset == h.offset && again.client == h.client && again.recovered == h.recovered);
  require(again.rooms == h.rooms || text.size() + 200 > protocol::max_client_header);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  if (size == 0)
    return 0;
  const auto from = data[0] % 2 == 0 ? protocol::role::client : protocol::role::server;
  const std::span<const std::byte> message(reinterpret_cast<const std::byte *>(data + 1), size - 1);
  protocol::resume_header h;
  std::size_t head = 0;
  const auto e = protocol::read_resume(from, message, h, head);
  if (e != resume_error::none) {
    require(!to_string(e).empty());
    return 0;
  }
  require(head <= message.size());
  require(h.offset <= protocol::max_offset && h.rooms.size() <= protocol::max_positions);
  require(h.client.empty() || protocol::is_resume_token(h.client, 16));
  if (h.room)
    check_text(*h.room);
  for (const auto &p : h.rooms) {
    check_text(p.room);
    require(protocol::is_resume_token(p.epoch) && p.offset <= protocol::max_offset);
  }
  check_again(from, h);
  return 0;
}
