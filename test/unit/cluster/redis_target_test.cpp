// URLs of Redis, good and bad.

#include <chorus/cluster/redis_target.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using chorus::detail::parse_redis_url;
using chorus::detail::redis_target;

namespace {

BOOST_AUTO_TEST_SUITE(redis_targets)

std::string shown(const redis_target &t) {
  std::string all = t.is == redis_target::kind::single     ? "single"
                    : t.is == redis_target::kind::sentinel ? "sentinel"
                                                           : "cluster";
  if (t.tls)
    all += " tls";
  for (const auto &where : t.addresses)
    all += " " + to_string(where);
  if (!t.user.empty())
    all += " user=" + t.user;
  if (!t.password.empty())
    all += " password=" + t.password;
  all += " db=" + std::to_string(t.database);
  if (!t.master.empty())
    all += " master=" + t.master;
  return all;
}

BOOST_AUTO_TEST_CASE(each_form_is_read) {
  const std::vector<std::pair<std::string, std::string>> good{
      {"redis://localhost", "single localhost:6379 db=0"},
      {"redis://127.0.0.1:6380/3", "single 127.0.0.1:6380 db=3"},
      {"REDIS://Host.Example/", "single host.example:6379 db=0"},
      {"rediss://h", "single tls h:6379 db=0"},
      {"redis://:p%40ss%2F%3A@h/1", "single h:6379 password=p@ss/: db=1"},
      {"redis://user:pass:word@h", "single h:6379 user=user password=pass:word db=0"},
      {"redis://[::1]:7000/2", "single [::1]:7000 db=2"},
      {"redis://[fe80::1%eth0]", "single [fe80::1%eth0]:6379 db=0"},
      {"redis+unix:///run/redis.sock", "single unix:/run/redis.sock db=0"},
      {"redis+unix:///run/a%20b?database=4", "single unix:/run/a b db=4"},
      {"redis+unix://:secret@/run/x", "single unix:/run/x password=secret db=0"},
      {"unix:/run/x", "single unix:/run/x db=0"},
      {"unix:///run/x", "single unix:/run/x db=0"},
      {"redis+sentinel://a,b:1,[::1]/5?master=m%20y",
       "sentinel a:26379 b:1 [::1]:26379 db=5 master=m y"},
      {"rediss+sentinel://u:p@a?master=m", "sentinel tls a:26379 user=u password=p db=0 master=m"},
      {"redis+cluster://a,b:7001", "cluster a:6379 b:7001 db=0"},
      {"rediss+cluster://a/0", "cluster tls a:6379 db=0"},
  };
  for (const auto &[text, expected] : good) {
    const auto read = parse_redis_url(text);
    BOOST_REQUIRE_MESSAGE(read.has_value(), text << ": " << read.error().message());
    BOOST_TEST(shown(*read) == expected);
  }
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said_without_the_password) {
  const std::vector<std::pair<std::string, std::string>> bad{
      {"", "no scheme"},
      {"localhost:6379", "no scheme"},
      {"http://h", "no scheme"},
      {"redis:h", "//"},
      {"redis://", "names no host"},
      {"redis:///0", "names no host"},
      {"redis://h:0", "port"},
      {"redis://h:65536", "port"},
      {"redis://h:", "port"},
      {"redis://h:63x", "port"},
      {"redis://h/x", "database"},
      {"redis://h/-1", "database"},
      {"redis://h/1/2", "database"},
      {"redis://h/99999999999999999999", "database"},
      {"redis://h?database=1", "query"},
      {"redis://a,b", "several hosts"},
      {"redis://[::1", "brackets"},
      {"redis://[x]", "brackets"},
      {"redis://[::1]6379", "between"},
      {"redis://::1", "more than one colon"},
      {"redis://h_ost!/", "character"},
      {"redis://h/0#x", "#"},
      {"redis://h o", "blank"},
      {"redis://hunter2@h", "no password"},
      {"redis://u:@h", "empty password"},
      {"redis://u:hunter2%zz@h", "hexadecimal"},
      {"redis://u:hunter2@x@h", "%40"},
      {"redis://u:hunter2/x@h", "%2F"},
      {"redis://u:hunter2?x@h", "%2F"},
      {"redis://u:hunter2#x@h", "%23"},
      {"redis://u:hunter2@h:x", "port"},
      {"redis+cluster://h/1", "Cluster has only number 0"},
      {"redis+cluster://h?master=m", "query"},
      {"redis+cluster://h,", "names no host"},
      {"redis+sentinel://h", "?master=name"},
      {"redis+sentinel://h?master=", "?master=name"},
      {"redis+sentinel://h?name=m", "?master=name"},
      {"redis+sentinel://h?master=%", "hexadecimal"},
      {"redis+unix://host/run/x", "unix socket is a path"},
      {"redis+unix://u:hunter2@host/run/x", "unix socket is a path"},
      {"redis+unix://", "whole path"},
      {"redis+unix:///run/%00x", "whole path"},
      {"redis+unix:///run/x?master=m", "?database=0"},
      {"unix:relative", "whole path"},
      {"unix:/" + std::string(107, 'x'), "whole path"},
      {"redis://" + std::string(9000, 'x'), "8 KiB"},
  };
  for (const auto &[text, part] : bad) {
    const auto read = parse_redis_url(text);
    BOOST_REQUIRE_MESSAGE(!read.has_value(), text);
    BOOST_TEST((read.error() == chorus::error::bad_url));
    const auto said = read.error().message();
    BOOST_TEST(said.find(part) != said.npos, text << ": " << said);
    BOOST_TEST(said.find("hunter2") == said.npos, said);
  }
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
