#include <chorus/server/http.hpp>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(server_http_bodies)

namespace {

struct taken {
  http_progress how = http_progress::need_more;
  unsigned status = 0;
  std::vector<std::string> targets, bodies;
  std::size_t fields = 0; // of the first head
};

// Reads requests until there are no bytes left or one fails; bytes arrive up to each of `cuts`.
taken take(std::string_view text, std::vector<std::size_t> cuts, bool keep = true,
           http_limits limits = {}) {
  taken all;
  http_reader reader(limits);
  cuts.push_back(text.size());
  std::size_t at = 0;
  for (const auto cut : cuts) {
    auto progress = reader.feed(text.substr(at, cut - at));
    at = cut;
    while (progress == http_progress::head || progress == http_progress::complete) {
      if (progress == http_progress::head) {
        progress = reader.read_body(keep);
        continue;
      }
      if (all.targets.empty())
        all.fields = reader.head().size();
      all.targets.emplace_back(reader.take_head().target());
      all.bodies.push_back(reader.take_body());
      progress = reader.next();
    }
    all.how = progress;
    if (progress == http_progress::failed) {
      all.status = reader.status();
      BOOST_TEST(!reader.reason().empty());
      break;
    }
  }
  return all;
}

std::string post(const std::string &fields, const std::string &body) {
  return "POST /1 HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body;
}
const std::string next_request = "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";

const std::string framed[] = {
    post("Content-Length: 11\r\n", "hello world"),
    post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    post("transfer-encoding: Chunked\r\n",
         "B;name=\"va;lue\";flag\r\nhello world\r\n000\r\nX-Trailer: 1\r\nHost: evil\r\n\r\n"),
};

} // namespace

BOOST_AUTO_TEST_CASE(a_body_may_be_cut_anywhere) {
  for (const auto &one : framed) {
    const auto text = one + next_request;
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const auto all = take(text, {cut});
      BOOST_TEST_CONTEXT(one << cut) {
        BOOST_REQUIRE(all.targets.size() == 2u);
        BOOST_TEST(all.bodies[0] == "hello world");
        BOOST_TEST(all.bodies[1] == "");
        BOOST_TEST(all.targets[1] == "/2");
        BOOST_TEST(all.fields == 2u); // what a trailer says is not in the head
      }
    }
    std::vector<std::size_t> each(text.size() - 1);
    for (std::size_t i = 0; i < each.size(); ++i)
      each[i] = i + 1;
    BOOST_TEST(take(text, each).bodies.at(0) == "hello world");
    const auto dropped = take(text, each, false);
    BOOST_REQUIRE(dropped.targets.size() == 2u);
    BOOST_TEST(dropped.bodies[0] == "");
  }
}

// What another reader might end elsewhere is refused, however it is cut.
BOOST_AUTO_TEST_CASE(no_two_ends_of_one_request) {
  const struct {
    std::string text;
    unsigned status;
  } cases[] = {
      {post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400},
      {post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400},
      {post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400},
      {post("Content-Length: 5, 5\r\n", "hello"), 400},
      {post("Content-Length: 5,6\r\n", "hello"), 400},
      {post("Content-Length: +5\r\n", "hello"), 400},
      {post("Content-Length: -5\r\n", "hello"), 400},
      {post("Content-Length: 0x5\r\n", "hello"), 400},
      {post("Content-Length: 5 5\r\n", "hello"), 400},
      {post("Content-Length:\r\n", "hello"), 400},
      {post("Content-Length: 18446744073709551621\r\n", "hello"), 400},
      {post("Content-Length : 5\r\n", "hello"), 400},
      {post("Transfer-Encoding: identity\r\n", "hello"), 501},
      {post("Transfer-Encoding: gzip\r\n", "hello"), 501},
      {post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
      {post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501},
      {post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501},
      {post("Transfer-Encoding:\r\n", "0\r\n\r\n"), 501},
      {post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), 501},
      {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\x0b\r\n", "0\r\n\r\n"), 400},
      {"POST /1 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {post("X: a\r\n b\r\n", ""), 400},
      {post("X: a\r\n\tb\r\n", ""), 400},
      {post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), 400},
      {"POST /1 HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"POST /1 HTTP/1.1\nHost: a\n\n", 505}, // the version does not end there
      {"POST /1 HTTP/1.1\r\nHost: a\nContent-Length: 5\r\n\r\nhello", 400},
      {"POST /1 HTTP/1.1\r\nHost: a\r\n\nhello", 400},
      {"POST /1 HTTP/1.1\r\nHost: a\r\rX: b\r\n\r\n", 400},
      {"POST /1 HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400},
      {"POST /1 HTTP/1.1\r\n: a\r\n\r\n", 400},
      {"POST  /1 HTTP/1.1\r\n\r\n", 400},
      {"POST /1\r\n\r\n", 400},
      {post("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "5\r\nhelloX\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", " 5\r\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
      {post("Transfer-Encoding: chunked\r\n", "fffffffffffffff\r\nhello\r\n0\r\n\r\n"), 413},
  };
  for (const auto &c : cases) {
    const auto smuggled = c.text + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    std::vector<std::vector<std::size_t>> ways{{}};
    for (std::size_t cut = 1; cut < smuggled.size(); ++cut)
      ways.push_back({cut});
    for (const auto &cuts : ways) {
      const auto all = take(smuggled, cuts);
      BOOST_TEST_CONTEXT(c.text << " cut at " << (cuts.empty() ? 0 : cuts[0])) {
        BOOST_TEST((all.how == http_progress::failed));
        BOOST_TEST(all.status == c.status);
        BOOST_TEST(all.targets.empty());
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(bodies_are_bounded) {
  http_limits limits;
  limits.max_body = 8;
  for (const bool keep : {true, false}) {
    BOOST_TEST(take(post("Content-Length: 8\r\n", "12345678"), {}, keep, limits).status == 0u);
    BOOST_TEST(take(post("Content-Length: 9\r\n", ""), {}, keep, limits).status == 413u);
    const std::string chunked = "Transfer-Encoding: chunked\r\n";
    BOOST_TEST(
        take(post(chunked, "4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n"), {}, keep, limits).status == 0u);
    BOOST_TEST(take(post(chunked, "4\r\n1234\r\n5\r\n"), {}, keep, limits).status == 413u);
  }
  limits.max_body = 0;
  BOOST_TEST(take(post("Content-Length: 0\r\n", ""), {}, true, limits).targets.size() == 1u);
  BOOST_TEST(take(post("Content-Length: 1\r\n", "x"), {}, true, limits).status == 413u);
}

// Neither the head of a chunk nor a trailer that never ends costs more than a head.
BOOST_AUTO_TEST_CASE(what_surrounds_chunks_is_bounded) {
  http_limits limits;
  limits.max_header_bytes = 512;
  for (const char *begin : {"5;ext=", "0\r\nX: ", "0\r\nX: 1\r\nY: "}) {
    http_reader reader(limits);
    BOOST_REQUIRE((reader.feed(post("Transfer-Encoding: chunked\r\n", "")) == http_progress::head));
    BOOST_REQUIRE((reader.read_body(true) == http_progress::need_more));
    auto progress = reader.feed(begin);
    std::size_t fed = 0;
    for (; fed < 4096 && progress == http_progress::need_more; fed += 8)
      progress = reader.feed("xxxxxxxx");
    BOOST_TEST((progress == http_progress::failed));
    BOOST_TEST(fed <= 520u);
    BOOST_TEST(reader.status() == 400u);
  }
}

// Bytes changed, lost and doubled at random: every outcome is one of the four, and a request that is
// taken has a body within its bound.
BOOST_AUTO_TEST_CASE(mutilated_requests) {
  std::mt19937 random(7);
  const auto any = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n)(random);
  };
  constexpr std::string_view spice = "\r\n\t \0;:,0159afAF\x7f\xff+-x";
  http_limits limits;
  limits.max_body = 64;
  for (int round = 0; round < 20'000; ++round) {
    auto text = framed[any(2)] + next_request;
    for (auto changes = any(3); changes-- > 0;) {
      const auto at = any(text.size() - 1);
      switch (any(3)) {
      case 0:
        text[at] = spice[any(spice.size() - 1)];
        break;
      case 1:
        text.insert(at, 1, spice[any(spice.size() - 1)]);
        break;
      case 2:
        text.erase(at, 1 + any(2));
        break;
      default:
        text.insert(at, text.substr(at, any(12)));
      }
    }
    std::vector<std::size_t> cuts{any(text.size()), any(text.size())};
    std::sort(cuts.begin(), cuts.end());
    std::erase(cuts, std::size_t{0});
    const auto cut = take(text, cuts, true, limits);
    const auto whole = take(text, {}, true, limits);
    // The fault of a head that has no end may be seen now or later.
    if (cut.how != http_progress::need_more && whole.how != http_progress::need_more)
      BOOST_REQUIRE(cut.status == whole.status);
    BOOST_REQUIRE(cut.targets == whole.targets);
    BOOST_REQUIRE(cut.bodies == whole.bodies);
    for (const auto &body : cut.bodies)
      BOOST_REQUIRE(body.size() <= limits.max_body);
  }
}

BOOST_AUTO_TEST_SUITE_END()
