#include <chorus/server/router.hpp>

#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string>

using namespace chorus;
using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(server_router)

namespace {

task<> serve(session, request) { co_return; }
task<response> show(request) { co_return response("x"); }
const session_handler handler = serve;
const page_handler page = show;
using verdict = route_match::verdict;

std::string found(const router &r, std::string_view path) {
  const auto match = r.find(path, route_kind::session);
  if (match.what != verdict::found)
    return "-";
  std::string text = match.target->pattern;
  for (const auto &value : match.values)
    text += " " + value;
  return text;
}

} // namespace

BOOST_AUTO_TEST_CASE(literals_and_parameters) {
  router r;
  for (const char *pattern :
       {"/", "/chat", "/chat/{room}", "/chat/lobby", "/{a}/{b}/c", "/x/", "/x"})
    r.add(pattern, handler);
  BOOST_TEST(found(r, "/") == "/");
  BOOST_TEST(found(r, "/chat") == "/chat");
  BOOST_TEST(found(r, "/chat/") == "-"); // a parameter is never empty
  BOOST_TEST(found(r, "/chat/blue") == "/chat/{room} blue");
  BOOST_TEST(found(r, "/chat/lobby") == "/chat/lobby");
  BOOST_TEST(found(r, "/chat/lobby/c") == "/{a}/{b}/c chat lobby"); // the literal leads nowhere
  BOOST_TEST(found(r, "/x/") == "/x/");
  BOOST_TEST(found(r, "/x") == "/x");
  BOOST_TEST(found(r, "/nothing") == "-");
  BOOST_TEST(found(r, "nothing") == "-");
  BOOST_TEST(found(r, "") == "-");
  BOOST_TEST(found(r, "//chat") == "-");
}

BOOST_AUTO_TEST_CASE(segments_are_decoded_one_by_one) {
  router r;
  r.add("/files/{name}", handler);
  r.add("/caf%C3%A9", handler);
  BOOST_TEST(found(r, "/files/a%2Fb%20c") == "/files/{name} a/b c");
  BOOST_TEST(found(r, "/f%69les/x") == "/files/{name} x");
  BOOST_TEST(found(r, "/caf\xC3\xA9") == "/caf%C3%A9");
  for (const char *bad : {"/files/%", "/files/%4", "/files/%zz", "/%/x"})
    BOOST_TEST((r.find(bad, route_kind::session).what == verdict::bad_escape));
}

BOOST_AUTO_TEST_CASE(one_path_may_serve_both_kinds) {
  router r;
  r.add("/both/{x}", handler);
  r.add("/both/{x}", page);
  r.add("/session", handler);
  r.add("/page", page);
  BOOST_TEST((r.find("/both/1", route_kind::session).what == verdict::found));
  BOOST_TEST((r.find("/both/1", route_kind::page).what == verdict::found));
  BOOST_TEST((r.find("/session", route_kind::page).what == verdict::other_kind));
  BOOST_TEST((r.find("/page", route_kind::session).what == verdict::other_kind));
  BOOST_TEST((r.find("/none", route_kind::page).what == verdict::not_found));
}

BOOST_AUTO_TEST_CASE(bad_patterns_throw_a_sentence) {
  router r;
  r.add("/a/{x}", handler);
  for (const char *bad : {"",
                          "a",
                          "/a/{x}",
                          "/a/{y}",
                          "/a//b",
                          "/{}",
                          "/{a b}",
                          "/{a}/{a}",
                          "/a{b}",
                          "/{a}b",
                          "/}",
                          "/a?b",
                          "/a#b",
                          "/%zz",
                          "/{",
                          "/{a:}",
                          "/{a:text}",
                          "/{:int}",
                          "/{a:int:int}",
                          "/{...}",
                          "/{a...}/b",
                          "/{a:path}/{b}",
                          "/{a:int}/{a}",
                          "/{a..}"})
    BOOST_CHECK_EXCEPTION(r.add(bad, handler), std::invalid_argument, [](const auto &e) {
      return std::string(e.what()).find("route pattern") != std::string::npos;
    });
  BOOST_CHECK_THROW(r.add("/a/{y}", page), std::invalid_argument); // other names for the same paths
  BOOST_CHECK_THROW(r.add("/b", session_handler()), std::invalid_argument);
  BOOST_CHECK_NO_THROW(r.add("/a/{x}", page));
  BOOST_TEST(found(r, "/a/1") == "/a/{x} 1");
}

BOOST_AUTO_TEST_CASE(parameters_have_types) {
  router r;
  for (const char *pattern : {"/n/{id:int}", "/u/{id:uint}", "/a/{file...}", "/b/{file:path}"})
    r.add(pattern, handler);
  BOOST_TEST(found(r, "/n/42") == "/n/{id:int} 42");
  BOOST_TEST(found(r, "/n/-42") == "/n/{id:int} -42");
  BOOST_TEST(found(r, "/n/%34%32") == "/n/{id:int} 42");
  BOOST_TEST(found(r, "/n/9223372036854775807") == "/n/{id:int} 9223372036854775807");
  BOOST_TEST(found(r, "/n/-9223372036854775808") == "/n/{id:int} -9223372036854775808");
  BOOST_TEST(found(r, "/u/18446744073709551615") == "/u/{id:uint} 18446744073709551615");
  for (const char *other : {"/n/", "/n/-", "/n/+1", "/n/1x", "/n/x", "/n/0x1", "/n/%201", "/n/1%20",
                            "/n/1.0", "/n/9223372036854775808", "/n/-9223372036854775809", "/n/1/",
                            "/u/-1", "/u/+1", "/u/18446744073709551616", "/u/"})
    BOOST_TEST(found(r, other) == "-", other);

  BOOST_TEST(found(r, "/a/x/y/z") == "/a/{file...} x/y/z");
  BOOST_TEST(found(r, "/a/x/") == "/a/{file...} x/");
  BOOST_TEST(found(r, "/a//x") == "/a/{file...} /x");
  BOOST_TEST(found(r, "/a/") == "/a/{file...} ");
  BOOST_TEST(found(r, "/a") == "-");
  BOOST_TEST(found(r, "/a/%2e%2e/b") == "/a/{file...} ../b");
  BOOST_TEST(found(r, "/a/x%2Fy") == "-"); // its segments could not be told apart
  BOOST_TEST(found(r, "/b/x/y") == "/b/{file:path} x/y");
}

BOOST_AUTO_TEST_CASE(the_choosiest_comes_first) {
  router r;
  for (const char *pattern :
       {"/{rest...}", "/{name}", "/{u:uint}", "/{i:int}", "/7", "/{i:int}/x", "/{name}/y", "/7/z"})
    r.add(pattern, handler);
  BOOST_TEST(found(r, "/7") == "/7");
  BOOST_TEST(found(r, "/8") == "/{i:int} 8");
  BOOST_TEST(found(r, "/9223372036854775808") == "/{u:uint} 9223372036854775808");
  BOOST_TEST(found(r, "/eight") == "/{name} eight");
  BOOST_TEST(found(r, "/eight/nine") == "/{rest...} eight/nine");
  BOOST_TEST(found(r, "/7/z") == "/7/z");
  BOOST_TEST(found(r, "/7/x") == "/{i:int}/x 7"); // each way that leads nowhere is left again
  BOOST_TEST(found(r, "/7/y") == "/{name}/y 7");
  BOOST_TEST(found(r, "/7/none") == "/{rest...} 7/none");
  BOOST_TEST(found(r, "/") == "/{rest...} ");
}

BOOST_AUTO_TEST_CASE(methods_of_a_path) {
  router r;
  r.add("/a", "GET", page);
  r.add("/a", "POST", page);
  r.add("/{x}", "DELETE", page);
  r.add("/s", handler);
  r.add("/both", handler);
  r.add("/both", "PUT", page);
  BOOST_CHECK_THROW(r.add("/a", "POST", page), std::invalid_argument);
  BOOST_CHECK_THROW(r.add("/{y}", "PUT", page), std::invalid_argument);
  const auto find = [&](std::string_view path, std::string_view method) {
    return r.find(path, route_kind::page, method);
  };
  for (const char *method : {"GET", "HEAD", "POST"}) {
    const auto match = find("/a", method);
    BOOST_REQUIRE((match.what == verdict::found));
    BOOST_TEST(match.page);
    BOOST_TEST(match.target->pattern == "/a");
  }
  BOOST_TEST(find("/a", "DELETE").target->pattern == "/{x}"); // the literal has no such method
  const auto wrong = find("/a", "PUT");
  BOOST_TEST((wrong.what == verdict::other_method));
  BOOST_TEST(wrong.allow == "GET, HEAD, POST, DELETE, OPTIONS");
  BOOST_TEST((find("/a", "get").what == verdict::other_method)); // methods have case
  BOOST_TEST((find("/b", "OPTIONS").what == verdict::options));
  BOOST_TEST(find("/b", "OPTIONS").allow == "DELETE, OPTIONS");
  BOOST_TEST((find("/b/c", "OPTIONS").what == verdict::not_found));
  BOOST_TEST((find("/s", "GET").what == verdict::other_kind));
  BOOST_TEST((find("/both", "HEAD").what == verdict::other_kind));
  BOOST_TEST((find("/both", "PATCH").what == verdict::other_method));
  BOOST_TEST(find("/both", "PATCH").allow == "GET, PUT, DELETE, OPTIONS");
  BOOST_TEST((r.find("/a", route_kind::session).what == verdict::other_kind));
  r.add("/a", "OPTIONS", page); // one's own
  BOOST_TEST((find("/a", "OPTIONS").what == verdict::found));
}

BOOST_AUTO_TEST_CASE(targets_are_split) {
  const auto check = [](std::string_view target, std::string_view path, std::string_view query) {
    const auto parts = split_target(target);
    BOOST_TEST(parts.path == path);
    BOOST_TEST(parts.query == query);
  };
  check("/a", "/a", "");
  check("/a?", "/a", "");
  check("/a?b=c?d", "/a", "b=c?d");
  check("?b", "/", "b");
  check("http://example.org", "/", "");
  check("http://example.org/a?b", "/a", "b");
  check("ws://example.org?b", "/", "b");
  check("/a://b", "/a://b", "");
  check("*", "*", "");
}

BOOST_AUTO_TEST_SUITE_END()
