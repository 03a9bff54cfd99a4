#include <chorus/client/http_response.hpp>

#include <boost/test/unit_test.hpp>

#include <string>

using reader = chorus::detail::http_response_reader;
using progress = reader::progress;

namespace {

const std::string agreed = "HTTP/1.1 101 Switching Protocols\r\n"
                           "Upgrade: websocket\r\n"
                           "X-Twice: a\r\n"
                           "x-twice: b\r\n"
                           "\r\n";

} // namespace

BOOST_AUTO_TEST_SUITE(http_responses)

BOOST_AUTO_TEST_CASE(a_head_cut_anywhere_reads_the_same) {
  const std::string rest = "\x81\x02hi";
  const auto all = agreed + rest;
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    BOOST_TEST_CONTEXT(cut) {
      reader r(1024);
      auto so_far = r.feed(all.substr(0, cut));
      BOOST_CHECK(so_far == (cut < agreed.size() ? progress::need_more : progress::complete));
      std::string tail;
      if (so_far == progress::need_more)
        so_far = r.feed(all.substr(cut));
      else
        tail = all.substr(cut);
      BOOST_CHECK(so_far == progress::complete);
      BOOST_TEST(r.status() == 101U);
      BOOST_TEST(r.version() == 11U);
      BOOST_TEST(r.reason() == "Switching Protocols");
      BOOST_TEST(r.headers().size() == 3U);
      BOOST_TEST(r.header("UPGRADE") == "websocket");
      BOOST_TEST(r.header("none") == "");
      BOOST_TEST(std::string(r.rest()) + tail == rest);
    }
  }
}

BOOST_AUTO_TEST_CASE(byte_by_byte) {
  reader r(1024);
  for (std::size_t i = 0; i < agreed.size(); ++i) {
    const auto so_far = r.feed(agreed.substr(i, 1));
    BOOST_REQUIRE(so_far == (i + 1 < agreed.size() ? progress::need_more : progress::complete));
  }
  BOOST_TEST(r.rest().empty());
}

BOOST_AUTO_TEST_CASE(bodies_by_length_by_end_and_in_chunks) {
  const std::string by_length = "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhelloMORE";
  const std::string by_end = "HTTP/1.1 403 Forbidden\r\n\r\nhello";
  const std::string chunked = "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: "
                              "chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
  for (const auto &text : {by_length, by_end, chunked})
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      BOOST_TEST_CONTEXT(text << " at " << cut) {
        reader r(1024);
        auto so_far = r.feed(text.substr(0, cut));
        if (so_far == progress::need_more)
          so_far = r.feed(text.substr(cut));
        if (so_far == progress::need_more)
          so_far = r.finish();
        BOOST_CHECK(so_far == progress::complete);
        BOOST_TEST(r.status() == 403U);
        BOOST_TEST(r.body() == "hello");
      }
    }
}

BOOST_AUTO_TEST_CASE(only_the_beginning_of_a_body_is_kept) {
  for (const auto *framing : {"Content-Length: 99999999999\r\n", "X: y\r\n"}) {
    reader r(1024);
    auto so_far = r.feed(std::string("HTTP/1.1 500 Oh\r\n") + framing + "\r\n");
    std::size_t fed = 0;
    while (so_far == progress::need_more && fed < 100'000) {
      so_far = r.feed(std::string(300, 'b'));
      fed += 300;
    }
    BOOST_CHECK(so_far == progress::complete);
    BOOST_TEST(r.body() == std::string(1024, 'b'));
    BOOST_TEST(fed <= 1500U);
  }
}

BOOST_AUTO_TEST_CASE(a_cut_body_leaves_the_head) {
  reader r(1024);
  BOOST_CHECK(r.feed("HTTP/1.1 401 No\r\nContent-Length: 50\r\n\r\nhalf") == progress::need_more);
  BOOST_CHECK(r.finish() == progress::complete);
  BOOST_TEST(r.body() == "half");
}

BOOST_AUTO_TEST_CASE(a_head_that_ends_early_is_not_complete) {
  reader r(1024);
  BOOST_CHECK(r.feed("HTTP/1.1 401 No\r\nConte") == progress::need_more);
  BOOST_CHECK(r.finish() == progress::need_more);
  BOOST_TEST(!r.has_head());
}

BOOST_AUTO_TEST_CASE(heads_beyond_the_limit_are_refused) {
  const std::string long_value = "HTTP/1.1 101 X\r\nA: " + std::string(2000, 'v') + "\r\n\r\n";
  reader at_once(1024);
  BOOST_CHECK(at_once.feed(long_value) == progress::malformed);
  BOOST_TEST(at_once.why().find("limit of 1024") != std::string::npos);

  reader endless(1024); // a line that never ends
  auto so_far = endless.feed("HTTP/1.1 101 X\r\nA: ");
  std::size_t fed = 0;
  while (so_far == progress::need_more && fed < 100'000) {
    so_far = endless.feed(std::string(100, 'v'));
    fed += 100;
  }
  BOOST_CHECK(so_far == progress::malformed);
  BOOST_TEST(fed <= 1200U);

  std::string many = "HTTP/1.1 101 X\r\n";
  for (int i = 0; i < 200; ++i)
    many += "A: b\r\n";
  reader fields(1024);
  BOOST_CHECK(fields.feed(many) == progress::malformed);
}

BOOST_AUTO_TEST_CASE(what_is_no_body_does_not_pile_up) {
  const std::string head = "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const auto &[begun, more] : {std::pair{"5;", "aaaaaa"},
                                    {"2\r\nhe\r\n5;", "aaaaaa"},
                                    {"0\r\n", "a: b\r\n"},
                                    {"0\r\na: ", "bbbbbb"}})
    BOOST_TEST_CONTEXT(begun << more) {
      reader r(1024);
      auto so_far = r.feed(head + begun);
      std::size_t fed = 0;
      while (so_far == progress::need_more && fed < 100'000) {
        so_far = r.feed(more);
        fed += 6;
      }
      BOOST_CHECK(so_far == progress::complete);
      BOOST_TEST(fed <= 1100U);
      BOOST_TEST(r.status() == 503U);
      BOOST_TEST(r.headers().size() == 1U);
    }
}

BOOST_AUTO_TEST_CASE(a_status_of_zero_is_refused) {
  reader r(1024);
  BOOST_CHECK(r.feed("HTTP/1.1 000 No\r\nA: b\r\n\r\n") == progress::malformed);
  BOOST_TEST(!r.why().empty());
}

BOOST_AUTO_TEST_CASE(interim_answers_are_read_past) {
  const std::string all = "HTTP/1.1 100 Continue\r\n\r\n"
                          "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\n\r\n" +
                          agreed + "rest";
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    BOOST_TEST_CONTEXT(cut) {
      reader r(1024);
      auto so_far = r.feed(all.substr(0, cut));
      std::string tail;
      if (so_far == progress::need_more)
        so_far = r.feed(all.substr(cut));
      else
        tail = all.substr(cut);
      BOOST_CHECK(so_far == progress::complete);
      BOOST_TEST(r.status() == 101U);
      BOOST_TEST(r.reason() == "Switching Protocols");
      BOOST_TEST(r.headers().size() == 3U);
      BOOST_TEST(std::string(r.rest()) + tail == "rest");
    }
  }
}

BOOST_AUTO_TEST_CASE(interim_answers_share_the_limit) {
  const std::string hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
  reader endless(1024);
  auto so_far = progress::need_more;
  std::size_t fed = 0;
  while (so_far == progress::need_more && fed < 100'000) {
    so_far = endless.feed(hints);
    fed += hints.size();
  }
  BOOST_CHECK(so_far == progress::malformed);
  BOOST_TEST(fed <= 1024U + 2 * hints.size());
  BOOST_TEST(endless.why().find("limit of 1024") != std::string::npos);

  std::string many; // at once
  for (int i = 0; i < 1000; ++i)
    many += hints;
  reader at_once(1024);
  BOOST_CHECK(at_once.feed(many) == progress::malformed);

  reader enough(agreed.size() + hints.size());
  BOOST_CHECK(enough.feed(hints + agreed) == progress::complete);
  reader too_few(agreed.size() + hints.size() - 1);
  BOOST_CHECK(too_few.feed(hints + agreed) == progress::malformed);
}

BOOST_AUTO_TEST_CASE(what_is_no_http_is_told) {
  for (const auto *text : {"SSH-2.0-OpenSSH_9.2\r\n", "\x15\x03\x03\x02\x02\x28\r\n\r\n",
                           "HTTP/2.0\r\n\r\n", "HTTP/1.1 abc No\r\n\r\n",
                           "HTTP/1.1 101 X\r\nno colon\r\n\r\n", "\x81\x02hi....\r\n\r\n"}) {
    reader r(1024);
    BOOST_CHECK(r.feed(text) == progress::malformed);
    BOOST_TEST(!r.why().empty());
  }
}

BOOST_AUTO_TEST_SUITE_END()
