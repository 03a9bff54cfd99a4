// What engines carry is read as it was written, or refused.

#include <chorus/cluster/wire.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace std::chrono_literals;
namespace detail = chorus::detail;

namespace {

chorus::broker_message carried(std::size_t size) {
  chorus::broker_message m;
  m.content = chorus::binary(std::string(size, '\0') + "\xff end");
  m.origin = "node:17";
  m.key = std::string("a\0b", 3);
  m.command = "send";
  m.time_to_live = 1500ms;
  m.except_clients = {"one", "", "three"};
  m.published = 1'790'000'000'123'456us;
  return m;
}

void same(const chorus::broker_message &a, const chorus::broker_message &b) {
  BOOST_CHECK(a.content == b.content);
  BOOST_CHECK_EQUAL(a.origin, b.origin);
  BOOST_CHECK_EQUAL(a.key, b.key);
  BOOST_CHECK_EQUAL(a.command, b.command);
  BOOST_CHECK(a.time_to_live == b.time_to_live);
  BOOST_CHECK(a.except_clients == b.except_clients);
  BOOST_CHECK(a.published == b.published);
}

} // namespace

BOOST_AUTO_TEST_SUITE(wire)

BOOST_AUTO_TEST_CASE(a_message_comes_as_it_went) {
  for (const std::size_t size : {0U, 1U, 120U, 127U, 128U, 20'000U, 3'000'000U}) {
    const auto m = carried(size);
    const auto read = detail::read_broker_message(detail::write_broker_message(m));
    BOOST_REQUIRE(read);
    same(*read, m);
  }
  const chorus::broker_message plain;
  const auto read = detail::read_broker_message(detail::write_broker_message(plain));
  BOOST_REQUIRE(read);
  same(*read, plain);
  BOOST_CHECK(read->content.is_text());
}

// To a version that knows nothing of it, the time is one more client that nobody is.
BOOST_AUTO_TEST_CASE(the_time_of_a_publish_is_optional) {
  using namespace std::string_literals;
  const auto old = "1t\x06node:1\0\0\0\x01\x03"
                   "ann\x02hi"s;
  auto read = detail::read_broker_message(old);
  BOOST_REQUIRE(read);
  BOOST_CHECK_EQUAL(read->published.count(), 0);
  BOOST_CHECK_EQUAL(detail::write_broker_message(*read), old);
  read->published = 300us;
  const auto dated = "1t\x06node:1\0\0\0\x02\x03"
                     "ann\x04\0p\xac\x02\x02hi"s;
  BOOST_CHECK_EQUAL(detail::write_broker_message(*read), dated);
  const auto again = detail::read_broker_message(dated);
  BOOST_REQUIRE(again);
  same(*again, *read);
  // Whatever else is there is carried as it is.
  for (const auto &other : {"\0"s, "\0\xff"s, "\0p"s, "\0p\xac"s, "\0p\1\1"s, "\0q\1"s,
                            "\0p\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"s}) {
    auto m = *read;
    m.published = {};
    m.except_clients = {other};
    const auto one = detail::read_broker_message(detail::write_broker_message(m));
    BOOST_REQUIRE(one);
    same(*one, m);
  }
}

BOOST_AUTO_TEST_CASE(a_member_comes_as_it_went) {
  const chorus::broker_member who{"node", std::string("node:=a\0n", 9), "{\"x\":1}", 7};
  const auto read = detail::read_broker_member(detail::write_broker_member(who));
  BOOST_REQUIRE(read);
  BOOST_CHECK_EQUAL(read->node, who.node);
  BOOST_CHECK_EQUAL(read->id, who.id);
  BOOST_CHECK_EQUAL(read->data, who.data);
  BOOST_CHECK_EQUAL(read->at, 0u); // which the engine gives
}

BOOST_AUTO_TEST_CASE(what_is_cut_is_refused) {
  const auto message = detail::write_broker_message(carried(300));
  for (std::size_t size = 0; size < message.size(); ++size) {
    const auto read = detail::read_broker_message(message.substr(0, size));
    BOOST_REQUIRE(!read);
    BOOST_CHECK(read.error() == chorus::error::protocol);
  }
  BOOST_CHECK(!detail::read_broker_message(message + "x"));
  const auto member = detail::write_broker_member({"node", "id", "data", 0});
  for (std::size_t size = 0; size < member.size(); ++size)
    BOOST_REQUIRE(!detail::read_broker_member(member.substr(0, size)));
  BOOST_CHECK(!detail::read_broker_member(member + "x"));
}

// Whatever the bytes are: no crash, and memory by what is there, not by what is announced.
BOOST_AUTO_TEST_CASE(what_is_damaged_does_no_harm) {
  const auto good = detail::write_broker_message(carried(40));
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      if (const auto read = detail::read_broker_message(bad))
        BOOST_CHECK_LE(read->content.size() + read->except_clients.size(), bad.size());
    }
  const std::string endless = "1t" + std::string(12, '\xff');
  BOOST_CHECK(!detail::read_broker_message(endless));
  const std::string many =
      std::string("1t") + std::string(3, '\0') + std::string(1, '\0') + "\xff\xff\x7f";
  BOOST_CHECK(!detail::read_broker_message(many));
}

BOOST_AUTO_TEST_SUITE_END()
