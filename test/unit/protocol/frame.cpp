#include <chorus/protocol/close_code.hpp>
#include <chorus/protocol/frame.hpp>
#include <chorus/protocol/violation.hpp>

#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using namespace protocol_test;
using protocol::opcode;

namespace {

std::string unmasked(std::string frame) {
  const auto form = static_cast<unsigned char>(frame[1]) & 0x7f;
  const std::size_t at = form == 126 ? 4 : form == 127 ? 10 : 2;
  const std::string key = frame.substr(at, 4);
  frame.erase(at, 4);
  frame[1] = static_cast<char>(frame[1] & 0x7f);
  for (std::size_t i = at; i < frame.size(); ++i)
    frame[i] = static_cast<char>(frame[i] ^ key[(i - at) % 4]);
  return frame;
}

} // namespace

BOOST_AUTO_TEST_SUITE(frame)

BOOST_AUTO_TEST_CASE(every_length_form_in_both_roles) {
  for (const std::size_t size : {0U, 1U, 125U, 126U, 127U, 65535U, 65536U, 70000U}) {
    const std::string payload = random_bytes(size, static_cast<unsigned>(size));
    const std::string expected = build(role::server, 0x82, payload);
    chorus::byte_buffer out;
    protocol::append_frame(out, role::server, opcode::binary, true, false, bytes_of(payload));
    BOOST_TEST(text_of(out) == expected);
    out.clear();
    protocol::append_frame(out, role::client, opcode::binary, true, false, bytes_of(payload));
    BOOST_TEST((static_cast<unsigned>(out.data()[1]) & 0x80U) == 0x80U);
    BOOST_TEST(unmasked(text_of(out)) == expected);
  }
}

BOOST_AUTO_TEST_CASE(bits_of_the_first_byte) {
  const auto first = [](opcode op, bool fin, bool rsv1) {
    std::byte out[protocol::max_header_size];
    protocol::encode_header(out, op, fin, rsv1, 0);
    return static_cast<unsigned>(out[0]);
  };
  BOOST_TEST(first(opcode::text, true, false) == 0x81U);
  BOOST_TEST(first(opcode::text, false, true) == 0x41U);
  BOOST_TEST(first(opcode::continuation, false, false) == 0x00U);
  BOOST_TEST(first(opcode::pong, true, false) == 0x8aU);
}

BOOST_AUTO_TEST_CASE(lengths_past_32_bits) {
  std::byte out[protocol::max_header_size];
  BOOST_TEST(protocol::encode_masked_header(out, opcode::binary, true, false, 0x0123456789abcdefU,
                                            0) == 14U);
  BOOST_TEST(text_of(std::span(out).subspan(2, 8)) == "\x01\x23\x45\x67\x89\xab\xcd\xef");
}

BOOST_AUTO_TEST_CASE(two_frames_of_a_client_have_different_keys) {
  chorus::byte_buffer a, b;
  const std::string payload(64, 'x');
  int same = 0;
  for (int i = 0; i < 100; ++i) {
    a.clear();
    b.clear();
    protocol::append_frame(a, role::client, opcode::text, true, false, bytes_of(payload));
    protocol::append_frame(b, role::client, opcode::text, true, false, bytes_of(payload));
    same += text_of(a) == text_of(b);
  }
  BOOST_TEST(same <= 1);
}

BOOST_AUTO_TEST_CASE(close_frames) {
  const auto close = [](unsigned code, std::string_view reason) {
    chorus::byte_buffer out;
    protocol::append_close(out, role::server, static_cast<std::uint16_t>(code), reason);
    return text_of(out);
  };
  BOOST_TEST(close(1000, "") == std::string("\x88\x02\x03\xe8", 4));
  BOOST_TEST(close(4999, "bye") == build(role::server, 0x88,
                                         "\x13\x87"
                                         "bye"));
  for (const unsigned code : {0U, 999U, 1004U, 1005U, 1006U, 1015U, 1016U, 2999U, 5000U})
    BOOST_TEST(close(code, "never sent") == std::string("\x88\x00", 2));

  // 123 bytes at most, and never half a character.
  BOOST_TEST(close(1001, std::string(200, 'r')).size() == 2U + 125U);
  std::string euros;
  for (int i = 0; i < 60; ++i)
    euros += "\xe2\x82\xac";
  BOOST_TEST(close(1001, euros).size() == 2U + 2U + 123U);
  BOOST_TEST(close(1001, "x" + euros).size() == 2U + 2U + 121U);
  BOOST_TEST(close(1001, "ok\xff no") == build(role::server, 0x88, "\x03\xe9ok"));
}

BOOST_AUTO_TEST_CASE(codes_on_the_wire) {
  for (unsigned code = 0; code < 65536; ++code) {
    const bool expected = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                          (code >= 3000 && code <= 4999);
    BOOST_REQUIRE_EQUAL(protocol::valid_on_wire(static_cast<std::uint16_t>(code)), expected);
  }
}

BOOST_AUTO_TEST_CASE(every_violation_has_a_sentence_and_a_close_code) {
  std::vector<std::string> sentences;
  for (int v = 1; v <= static_cast<int>(violation::framed_is_tls); ++v) {
    const boost::system::error_code ec = static_cast<violation>(v);
    BOOST_TEST(ec.failed());
    BOOST_TEST(std::string(ec.category().name()) == "chorus.protocol");
    BOOST_TEST(ec.message().size() > 15U);
    BOOST_TEST(ec.message().find("unknown") == std::string::npos);
    BOOST_TEST(std::count(sentences.begin(), sentences.end(), ec.message()) == 0);
    sentences.push_back(ec.message());
    const auto code = static_cast<unsigned>(protocol::close_code_for(static_cast<violation>(v)));
    BOOST_TEST((code == 1002 || code == 1007 || code == 1009));
  }
  BOOST_TEST(
      (protocol::close_code_for(violation::invalid_utf8) == chorus::close_code::invalid_payload));
  BOOST_TEST((protocol::close_code_for(violation::inflated_too_big) ==
              chorus::close_code::message_too_big));
  BOOST_TEST(
      (protocol::close_code_for(violation::masked_frame) == chorus::close_code::protocol_error));
}

BOOST_AUTO_TEST_SUITE_END()
