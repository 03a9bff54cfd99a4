#include <chorus/server/route_table.hpp>
#include <chorus/server/routes.hpp>

#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string>

using namespace chorus;
using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(server_route_table)

namespace {

task<> serve(session, request) { co_return; }
task<response> show(request) { co_return response("x"); }

std::string found(const route_table &t, std::string_view target, std::string_view host,
                  std::string_view method = "GET") {
  http_head head;
  head.start(method, target, 11);
  if (!host.empty())
    head.add("Host", host);
  const auto match = t.find(head, route_kind::page);
  if (match.what != route_match::verdict::found)
    return match.allow.empty() ? "-" : "- " + match.allow;
  std::string text = match.target->pattern;
  for (const auto &value : match.values)
    text += " " + value;
  return text;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_part_is_mounted_behind_a_prefix) {
  routes inner;
  inner.get("/{id:int}", show);
  inner.get("/", show);
  routes part;
  part.mount("/users/{team}", std::move(inner));
  part.post("/users", show);
  part.route("/live", serve);
  inner.get("/again", show); // what was moved from is empty, and may be filled again
  route_table t;
  t.everywhere().absorb("/api/", std::move(part.table()));
  t.everywhere().absorb("", std::move(inner.table()));
  BOOST_TEST(found(t, "/api/users/red/7", "a") == "/api/users/{team}/{id:int} red 7");
  BOOST_TEST(found(t, "/api/users/red/x", "a") == "-");
  BOOST_TEST(found(t, "/api/users/red/", "a") == "/api/users/{team}/ red");
  BOOST_TEST(found(t, "/api/users/red", "a") == "-");
  BOOST_TEST(found(t, "/api/users", "a", "POST") == "/api/users");
  BOOST_TEST(found(t, "/again", "a") == "/again");
  http_head head;
  head.start("GET", "/api/live", 11);
  BOOST_TEST((t.find(head, route_kind::session).what == route_match::verdict::found));

  routes clash;
  clash.post("/", show);
  clash.post("/users", show);
  BOOST_CHECK_THROW(t.everywhere().absorb("/api", std::move(clash.table())), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(moved_routes_go_on) {
  routes a;
  a.get("/x", show);
  routes b(std::move(a));
  a.get("/x", show); // empty again
  a = std::move(b);
  route_table t;
  t.everywhere().absorb("", std::move(a.table()));
  BOOST_TEST(found(t, "/x", "a") == "/x");
}

BOOST_AUTO_TEST_CASE(a_host_may_have_routes_of_its_own) {
  route_table t;
  t.everywhere().add("/", page_handler(show));
  t.everywhere().add("/shared", "POST", page_handler(show));
  t.on("API.example.org").add("/own", page_handler(show));
  t.on("api.example.org").add("/", "PUT", page_handler(show));
  t.on("[::1]").add("/six", page_handler(show));
  for (const char *host : {"api.example.org", "API.Example.ORG", "api.example.org:8080",
                           "api.example.org.", "api.example.org.:80"})
    BOOST_TEST(found(t, "/own", host) == "/own", host);
  for (const char *host : {"example.org", "", "xapi.example.org", "api.example.org.evil", ":80"})
    BOOST_TEST(found(t, "/own", host) == "-", host);
  BOOST_TEST(found(t, "/six", "[::1]:80") == "/six");
  BOOST_TEST(found(t, "/six", "[::1]") == "/six");
  // In absolute form the target's authority counts (RFC 9112 section 3.2.2).
  BOOST_TEST(found(t, "http://api.example.org/own", "example.org") == "/own");
  BOOST_TEST(found(t, "http://example.org/own", "api.example.org") == "-");
  // What the host does not have is looked up for any host.
  BOOST_TEST(found(t, "/", "api.example.org", "GET") == "/");
  BOOST_TEST(found(t, "/", "api.example.org", "PUT") == "/");
  BOOST_TEST(found(t, "/", "example.org", "PUT") == "- GET, HEAD, OPTIONS");
  BOOST_TEST(found(t, "/shared", "api.example.org", "POST") == "/shared");
  BOOST_TEST(found(t, "/own", "api.example.org", "POST") == "- GET, HEAD, OPTIONS");
  for (const char *bad : {"a:80", "a/b", "*", ":", "", "user@a", "*.a"})
    BOOST_CHECK_THROW(t.on(bad), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()
