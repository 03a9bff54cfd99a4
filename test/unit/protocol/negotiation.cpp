#include <chorus/protocol/deflate.hpp>

#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using protocol_test::protocol::accept_offer;
using protocol_test::protocol::deflate_params;
using protocol_test::protocol::make_offer;
using protocol_test::protocol::response_verdict;
using protocol_test::protocol::verify_response;

namespace {

chorus::deflate_options options(bool server_plain = false, bool client_plain = false,
                                int server_bits = 15, int client_bits = 15) {
  chorus::deflate_options o;
  o.enabled = true;
  o.server_no_context_takeover = server_plain;
  o.client_no_context_takeover = client_plain;
  o.server_max_window_bits = server_bits;
  o.client_max_window_bits = client_bits;
  return o;
}

// The answer's header; "declined" when the server goes without.
std::string answer(std::string_view offer, const chorus::deflate_options &o = options()) {
  std::string response = "left over";
  const auto params = accept_offer(offer, o, response);
  if (!params)
    return response.empty() ? "declined" : "declined, but answers " + response;
  return response;
}

deflate_params agreed(std::string_view offer, const chorus::deflate_options &o = options()) {
  std::string response;
  return accept_offer(offer, o, response).value();
}

int verdict(std::string_view response, const chorus::deflate_options &o = options()) {
  return static_cast<int>(verify_response(response, o).verdict);
}
constexpr int accepted = static_cast<int>(response_verdict::accepted);
constexpr int declined = static_cast<int>(response_verdict::declined);
constexpr int not_offered = static_cast<int>(response_verdict::not_offered);
constexpr int bad_params = static_cast<int>(response_verdict::bad_parameters);

} // namespace

BOOST_AUTO_TEST_SUITE(negotiation)

BOOST_AUTO_TEST_CASE(off_by_default) {
  BOOST_TEST(make_offer({}) == "");
  BOOST_TEST(answer("permessage-deflate", {}) == "declined");
  BOOST_TEST(verdict("permessage-deflate", {}) == not_offered);
  BOOST_TEST(verdict("", {}) == declined);
}

BOOST_AUTO_TEST_CASE(offers) {
  BOOST_TEST(make_offer(options()) == "permessage-deflate; client_max_window_bits");
  BOOST_TEST(make_offer(options(true, true)) ==
             "permessage-deflate; server_no_context_takeover; "
             "client_no_context_takeover; client_max_window_bits");
  BOOST_TEST(make_offer(options(false, false, 10, 9)) ==
             "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9");
  BOOST_TEST(make_offer(options(false, false, 3, 99)) ==
             "permessage-deflate; server_max_window_bits=8; client_max_window_bits");
}

BOOST_AUTO_TEST_CASE(a_server_accepts_each_parameter) {
  BOOST_TEST(answer("permessage-deflate") == "permessage-deflate");
  BOOST_TEST(answer("permessage-deflate; server_no_context_takeover") ==
             "permessage-deflate; server_no_context_takeover");
  BOOST_TEST(answer("permessage-deflate; client_no_context_takeover") ==
             "permessage-deflate; client_no_context_takeover");
  BOOST_TEST(answer("permessage-deflate; server_max_window_bits=10") ==
             "permessage-deflate; server_max_window_bits=10");
  BOOST_TEST(answer("permessage-deflate; server_max_window_bits=\"10\"") ==
             "permessage-deflate; server_max_window_bits=10");
  BOOST_TEST(answer("permessage-deflate; client_max_window_bits") == "permessage-deflate");
  BOOST_TEST(answer("permessage-deflate; client_max_window_bits=12") ==
             "permessage-deflate; client_max_window_bits=12");
  BOOST_TEST((agreed("permessage-deflate; server_max_window_bits=8; client_max_window_bits=9") ==
              deflate_params{false, false, 8, 9}));
}

BOOST_AUTO_TEST_CASE(a_server_adds_its_own_wishes) {
  BOOST_TEST(answer("permessage-deflate; client_max_window_bits", options(true, true, 12, 11)) ==
             "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
             "server_max_window_bits=12; client_max_window_bits=11");
  BOOST_TEST(answer("permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
                    options(false, false, 12, 11)) ==
             "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9");
  // A client that did not mention its window can't be told to limit it (RFC 7692 section 7.1.2.2).
  BOOST_TEST(answer("permessage-deflate", options(false, false, 15, 10)) == "permessage-deflate");
  BOOST_TEST(agreed("permessage-deflate", options(false, false, 15, 10)).client_max_window_bits ==
             15);
}

BOOST_AUTO_TEST_CASE(a_server_declines_bad_offers) {
  for (const std::string_view parameters :
       {"server_no_context_takeover=1", "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover", "server_max_window_bits",
        "server_max_window_bits=7", "server_max_window_bits=16", "server_max_window_bits=08",
        "server_max_window_bits=x", "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7", "client_max_window_bits=16", "client_max_window_bits=",
        "client_max_window_bits=\"\"", "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits=+9", "Server_No_Context_Takeover", "unknown", "unknown=1", ""}) {
    BOOST_TEST_CONTEXT(parameters)
    BOOST_TEST(answer("permessage-deflate; " + std::string(parameters)) == "declined");
  }
  for (const std::string_view header :
       {"", ",", "x-webkit-deflate-frame", "permessage-bzip2", "permessage-deflate;",
        "; permessage-deflate", "permessage-deflate client_max_window_bits",
        "permessage-deflate; a=\"unfinished", "permessage-deflate; a=\"b\\"}) {
    BOOST_TEST_CONTEXT(header)
    BOOST_TEST(answer(header) == "declined");
  }
}

BOOST_AUTO_TEST_CASE(a_server_takes_the_first_offer_that_it_can) {
  BOOST_TEST(answer("permessage-deflate; unknown, x-other; a=b, , "
                    "permessage-deflate; server_max_window_bits=9, permessage-deflate") ==
             "permessage-deflate; server_max_window_bits=9");
}

BOOST_AUTO_TEST_CASE(a_client_verifies_each_parameter) {
  BOOST_TEST(verdict("permessage-deflate") == accepted);
  BOOST_TEST(verdict("permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                     "server_max_window_bits=8; client_max_window_bits=9") == accepted);
  const auto all =
      verify_response("permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                      "server_max_window_bits=8; client_max_window_bits=9",
                      options());
  BOOST_TEST((all.params == deflate_params{true, true, 8, 9}));
  // This side gives up its own window when it said so, whatever the server answers.
  BOOST_TEST((verify_response("permessage-deflate", options(false, true, 15, 10)).params ==
              deflate_params{false, true, 15, 10}));
}

BOOST_AUTO_TEST_CASE(a_client_refuses_bad_answers) {
  BOOST_TEST(verdict("x-other") == not_offered);
  BOOST_TEST(verdict("permessage-deflate, x-other") == not_offered);
  BOOST_TEST(verdict("permessage-deflate, permessage-deflate") == not_offered);
  for (const std::string_view parameters :
       {"unknown", "server_no_context_takeover=1",
        "client_no_context_takeover; client_no_context_takeover", "server_max_window_bits",
        "server_max_window_bits=16", "client_max_window_bits", "client_max_window_bits=7",
        "client_max_window_bits=8; client_max_window_bits=8"})
    BOOST_TEST(verdict("permessage-deflate; " + std::string(parameters)) == bad_params);
  BOOST_TEST(verdict("permessage-deflate;") == bad_params);
  // What was demanded and is not confirmed.
  BOOST_TEST(verdict("permessage-deflate", options(true)) == bad_params);
  BOOST_TEST(verdict("permessage-deflate", options(false, false, 10)) == bad_params);
  BOOST_TEST(verdict("permessage-deflate; server_max_window_bits=11", options(false, false, 10)) ==
             bad_params);
  BOOST_TEST(verdict("permessage-deflate; server_max_window_bits=9", options(false, false, 10)) ==
             accepted);
}

// Whatever two sides want, they end with the same parameters.
BOOST_AUTO_TEST_CASE(both_sides_agree) {
  for (int c = 0; c < 64; ++c)
    for (int s = 0; s < 64; ++s) {
      const auto bits = [](int n) { return n == 0 ? 15 : n == 1 ? 8 : n == 2 ? 11 : 14; };
      const auto client = options(c & 1, c & 2, bits(c >> 2 & 3), bits(c >> 4 & 3));
      const auto server = options(s & 1, s & 2, bits(s >> 2 & 3), bits(s >> 4 & 3));
      std::string response;
      const auto theirs = accept_offer(make_offer(client), server, response);
      BOOST_REQUIRE(theirs);
      const auto ours = verify_response(response, client);
      BOOST_REQUIRE_EQUAL(static_cast<int>(ours.verdict), accepted);
      BOOST_REQUIRE(ours.params == *theirs);
    }
}

BOOST_AUTO_TEST_SUITE_END()
