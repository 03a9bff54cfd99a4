#include <chorus/server/proxy_protocol.hpp>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

using chorus::detail::proxy_header_reader;
using progress = proxy_header_reader::progress;
using namespace std::string_literals;

BOOST_AUTO_TEST_SUITE(proxy_protocol)

namespace {

const std::string signature = "\r\n\r\n\0\r\nQUIT\n"s;

std::string binary(unsigned command, unsigned family, std::string_view rest) {
  std::string out = signature;
  out.push_back(static_cast<char>(command));
  out.push_back(static_cast<char>(family));
  out.push_back(static_cast<char>(rest.size() >> 8));
  out.push_back(static_cast<char>(rest.size() & 0xff));
  return out.append(rest);
}

const std::string v4_addresses =
    "\xcb\0\x71\x07\xc0\0\x02\x01\x13\xc4\x01\xbb"s; // 203.0.113.7:5060
const std::string v6_addresses =
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"s + std::string(16, '\x20') + "\x13\xc4\x01\xbb"s;

struct outcome {
  progress how = progress::need_more;
  std::string source;
  std::string why;
  std::size_t taken = 0;
};

// `most` bytes at a time, and never more than are wanted.
outcome read(const std::string &header, std::size_t most) {
  proxy_header_reader reader;
  outcome o;
  while (o.how == progress::need_more && o.taken < header.size()) {
    BOOST_REQUIRE(reader.wanted() > 0);
    const auto n = std::min({reader.wanted(), most, header.size() - o.taken});
    o.how = reader.feed(std::string_view(header).substr(o.taken, n));
    o.taken += n;
  }
  o.source = reader.source();
  o.why = reader.why();
  return o;
}

struct accepted {
  std::string header;
  std::string source;
};
const std::vector<accepted> good = {
    {"PROXY TCP4 203.0.113.7 192.0.2.1 5060 443\r\n", "203.0.113.7:5060"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1"},
    {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"},
    {"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", "1.2.3.4:0"},
    {"PROXY TCP6 2001:db8::1 ::1 5060 443\r\n", "[2001:db8::1]:5060"},
    {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
     "65535 65535\r\n",
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    {"PROXY TCP6 ::ffff:1.2.3.4 ::1 5060 443\r\n", "1.2.3.4:5060"},
    {"PROXY UNKNOWN\r\n", ""},
    {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
     "65535 65535\r\n",
     ""}, // 107 bytes
    {"PROXY UNKNOWN whatever there may be\r\n", ""},
    {binary(0x21, 0x11, v4_addresses), "203.0.113.7:5060"},
    {binary(0x21, 0x21, v6_addresses), "[2001:db8::1]:5060"},
    {binary(0x21, 0x11,
            v4_addresses + "\x04\0\x03"
                           "abc"s),
     "203.0.113.7:5060"}, // with a TLV
    {binary(0x21, 0x11, v4_addresses + std::string(65000, 'x')), "203.0.113.7:5060"},
    {binary(0x21, 0x21, v6_addresses + "\x01\0\x02h2"s), "[2001:db8::1]:5060"},
    {binary(0x20, 0x00, ""), ""},           // LOCAL
    {binary(0x20, 0x11, v4_addresses), ""}, // LOCAL: the addresses are to be ignored
    {binary(0x20, 0x11, "xy"), ""},         // and so is their length
    {binary(0x21, 0x00, ""), ""},           // UNSPEC
    {binary(0x21, 0x00, "some TLVs"), ""},
    {binary(0x21, 0x31, std::string(216, 'p')), ""}, // unix sockets
    {binary(0x21, 0x12, v4_addresses), ""},          // datagrams
};

struct refused {
  std::string header;
  std::string why;
};
const std::vector<refused> bad = {
    {"GET / HTTP/1.1\r\n", "does not begin with"},
    {"PROXX", "does not begin with"},
    {"\x16\x03\x01", "does not begin with"},
    {"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "does not begin with"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", "CR LF"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rx", "CR LF"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "fewer"},
    {"PROXY TCP4\r\n     ", "fewer"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", "more"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "more"},
    {"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "more"},
    {"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "other than TCP4"},
    {"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", "other than TCP4"},
    {"PROXY TCP4 ::1 ::1 1 1\r\n             ", "malformed address"},
    {"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "malformed address"},
    {"PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n", "malformed address"},
    {"PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n", "malformed address"},
    {"PROXY TCP6 ::1 ::1%eth0 1 1\r\n     ", "malformed address"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "malformed port"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 1 01\r\n", "malformed port"},
    {"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "malformed port"},
    {"PROXY UNKNOWN " + std::string(100, 'x') + "\r\n", "longer than 107"},
    {"PROXY TCP4 " + std::string(200, '1'), "longer than 107"},
    {signature.substr(0, 11) + "x", "does not begin with"},
    {binary(0x11, 0x11, v4_addresses), "version"},
    {binary(0x22, 0x11, v4_addresses), "command"},
    {binary(0x21, 0x41, v4_addresses), "family"},
    {binary(0x21, 0x13, v4_addresses), "family"},
    {binary(0x20, 0x41, ""), "family"},
    {binary(0x21, 0x11, v4_addresses.substr(1)), "too short"},
    {binary(0x21, 0x21, v4_addresses), "too short"},
    {binary(0x21, 0x31, std::string(215, 'p')), "too short"},
};

} // namespace

BOOST_AUTO_TEST_CASE(reads_good_headers_and_no_further) {
  for (const auto &[header, source] : good)
    for (const std::size_t most : {std::size_t{1}, std::size_t{2}, std::size_t{7}, header.size()}) {
      // Were more wanted than is left, what follows would be taken.
      const auto o = read(header + "GET / HTTP/1.1\r\n", most);
      BOOST_TEST((o.how == progress::complete), header << ": " << o.why);
      BOOST_TEST(o.taken == header.size(), header);
      BOOST_TEST(o.source == source);
    }
}

BOOST_AUTO_TEST_CASE(a_header_cut_anywhere_needs_more) {
  for (const auto &[header, source] : good)
    for (std::size_t cut = 0; cut < std::min<std::size_t>(header.size(), 300); ++cut) {
      const auto o = read(header.substr(0, cut), cut == 0 ? 1 : cut);
      BOOST_REQUIRE((o.how == progress::need_more));
      // And goes on from there.
      proxy_header_reader reader;
      std::size_t at = 0;
      auto how = progress::need_more;
      for (const auto end : {cut, header.size()})
        while (at < end) {
          const auto n = std::min(reader.wanted(), end - at);
          how = reader.feed(std::string_view(header).substr(at, n));
          at += n;
        }
      BOOST_REQUIRE((how == progress::complete));
      BOOST_REQUIRE(reader.source() == source);
    }
}

BOOST_AUTO_TEST_CASE(refuses_bad_ones_with_a_sentence) {
  for (const auto &[header, why] : bad)
    for (const std::size_t most : {std::size_t{1}, header.size()}) {
      const auto o = read(header, most);
      BOOST_TEST((o.how == progress::failed), header);
      BOOST_TEST(o.why.find(why) != std::string::npos, header << ": " << o.why);
    }
}

BOOST_AUTO_TEST_SUITE_END()
