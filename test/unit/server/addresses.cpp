#include <chorus/server/addresses.hpp>

#include <boost/test/unit_test.hpp>

using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(addresses)

BOOST_AUTO_TEST_CASE(of_peers) {
  BOOST_TEST(ip_of("192.0.2.1:80")->str() == "192.0.2.1");
  BOOST_TEST(ip_of("192.0.2.1")->str() == "192.0.2.1");
  BOOST_TEST(ip_of("[2001:db8::1]:80")->str() == "2001:db8::1");
  BOOST_TEST(ip_of("[2001:db8::1]")->str() == "2001:db8::1");
  BOOST_TEST(ip_of("2001:DB8:0::1")->str() == "2001:db8::1");
  BOOST_TEST(ip_of("[fe80::1%eth0]:80")->str() == "fe80::1");
  BOOST_TEST(ip_of("[::ffff:192.0.2.1]:80")->str() == "192.0.2.1");
  for (const char *none : {"", "unix:/x", "unknown", "memory", "192.0.2", "192.0.2.1.5",
                           "192.0.2.256", "[::1", "[::1]80", "::g", "192.0.02.1"})
    BOOST_TEST(!ip_of(none), none);
  BOOST_TEST(!ip_of(std::string_view("1.2.3.4\0x", 9)));
  BOOST_TEST(ip_of("::1")->with_port(5) == "[::1]:5");
  BOOST_TEST(ip_of("192.0.2.1")->with_port(65535) == "192.0.2.1:65535");
}

BOOST_AUTO_TEST_CASE(keys) {
  BOOST_TEST(address_key("192.0.2.1:1") == address_key("192.0.2.1:2"));
  BOOST_TEST(address_key("192.0.2.1:1") != address_key("192.0.2.2:1"));
  BOOST_TEST(address_key("[::ffff:192.0.2.1]:1") == address_key("192.0.2.1:1"));
  BOOST_TEST(address_key("[2001:db8:0:1::5]:1") == address_key("2001:db8:0:1:ffff::6"));
  BOOST_TEST(address_key("2001:db8:0:1::5") != address_key("2001:db8:0:2::5"));
  BOOST_TEST(address_key("unix:/run/x") == "");
}

BOOST_AUTO_TEST_CASE(networks) {
  proxy_list list;
  BOOST_TEST(!list.trusts("192.0.2.1:1"));
  for (const char *good : {"192.0.2.0/24", "10.1.2.3", "2001:db8::/33", "172.16.0.0/12", "::1"})
    BOOST_TEST(list.add(good) == "");
  BOOST_TEST(list.trusts("192.0.2.255:9"));
  BOOST_TEST(!list.trusts("192.0.3.0:9"));
  BOOST_TEST(list.trusts("10.1.2.3"));
  BOOST_TEST(!list.trusts("10.1.2.4"));
  BOOST_TEST(list.trusts("172.31.255.255"));
  BOOST_TEST(!list.trusts("172.32.0.0"));
  BOOST_TEST(list.trusts("[2001:db8:7fff::1]:4"));
  BOOST_TEST(!list.trusts("[2001:db8:8000::1]:4"));
  BOOST_TEST(list.trusts("[::1]:4"));
  BOOST_TEST(list.trusts("[::ffff:10.1.2.3]:4"));
  BOOST_TEST(!list.trusts("unix:/run/x"));
  BOOST_TEST(list.add("unix:") == "");
  BOOST_TEST(list.trusts("unix:/run/x"));
  BOOST_TEST(!list.trusts("unknown"));
  for (const char *bad : {"", "example.org", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/8x",
                          "/8", "10.0.0.0/-1", "fe80::1%eth0"})
    BOOST_TEST(list.add(bad) != "", bad);
  proxy_list everybody;
  BOOST_TEST(everybody.add("0.0.0.0/0") == "");
  BOOST_TEST(everybody.trusts("203.0.113.9:1"));
  BOOST_TEST(!everybody.trusts("[::1]:1"));
}

BOOST_AUTO_TEST_CASE(clients_behind_proxies) {
  proxy_list list;
  list.add("10.0.0.0/8");
  const auto behind = [&](std::string peer, std::vector<chorus::protocol::header_field> fields) {
    return client_behind(std::move(peer), fields, list);
  };
  // Whoever is no proxy may claim what it likes.
  BOOST_TEST(behind("192.0.2.1:5", {{"X-Forwarded-For", "203.0.113.7"}}) == "192.0.2.1:5");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "203.0.113.7"}}) == "203.0.113.7");
  BOOST_TEST(behind("10.0.0.1:5", {{"x-forwarded-for", "203.0.113.7"}}) == "203.0.113.7");
  BOOST_TEST(behind("10.0.0.1:5", {}) == "10.0.0.1:5");
  // The client has sent the header itself, with somebody else's address.
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "198.51.100.1, 203.0.113.7"}}) ==
             "203.0.113.7");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "198.51.100.1"},
                                   {"Host", "x"},
                                   {"X-Forwarded-For", "203.0.113.7"}}) == "203.0.113.7");
  // A chain of proxies.
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For",
                                    "1.1.1.1, 203.0.113.7 ,10.9.9.9, 10.0.0.2"}}) == "203.0.113.7");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "10.0.0.3,10.0.0.2"}}) == "10.0.0.3");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "203.0.113.7, unknown, 10.0.0.2"}}) ==
             "10.0.0.2");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "203.0.113.7, nonsense"}}) == "10.0.0.1:5");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "203.0.113.7:80,, "}}) == "203.0.113.7");
  BOOST_TEST(behind("10.0.0.1:5", {{"X-Forwarded-For", "[2001:db8::1]:80"}}) == "2001:db8::1");
  BOOST_TEST(behind("unix:/x", {{"X-Forwarded-For", "203.0.113.7"}}) == "unix:/x");
}

BOOST_AUTO_TEST_SUITE_END()
