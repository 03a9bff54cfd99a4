// Routes of several parts behind one listener, by path, method, type and host.

#include "server_support.hpp"

#include <stdexcept>

using namespace server_test;
using chorus::request;
using chorus::response;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_routes)

namespace {

std::string ask_for(std::string_view method, std::string_view target, std::string_view more = {}) {
  return std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: a.test:80\r\n" +
         std::string(more) + "\r\n";
}

std::string shown(const std::optional<std::int64_t> &value) {
  return value ? std::to_string(*value) : "none";
}

task<response> show_user(request r) {
  co_return response("user " + shown(r.param_int("id")) + " limit " + shown(r.query_int("limit")) +
                     " depth " + shown(r.header_int("Depth")) + (r.has_query("all") ? " all" : ""));
}
task<response> say_method(request r) { co_return response(std::string(r.method())); }
task<response> say_rest(request r) { co_return response("rest " + std::string(r.param("path"))); }

task<> say_number(chorus::session s, request r) {
  co_await s.send("number " + shown(r.param_int("id")));
}

struct fixture {
  running loop;
  chorus::server server;
  std::optional<wire> peer;

  fixture() : server(loop.rt(), {}) {
    chorus::routes users;
    users.get("/{id:int}", show_user);
    users.del("/{id:int}", say_method);
    users.put("/{id:int}", say_method);
    users.patch("/{id:int}", say_method);
    users.post("/", say_method);
    users.route("/{id:int}/live", say_number);
    chorus::routes api;
    api.mount("/users", std::move(users));
    api.get("/{path...}", say_rest);
    server.mount("/api", std::move(api));
    chorus::routes admin;
    admin.get("/", [](request) -> task<response> { co_return response("for admin.test"); });
    server.mount("", std::move(admin), {.host = "admin.test"});
    server.get("/", [](request) -> task<response> { co_return response("for all"); });
    server.route("/live", say_number);
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
    peer.emplace(server.port());
  }
  ~fixture() { loop.wait(server.stop(5s)); }

  std::string ask(std::string_view method, std::string_view target, std::string_view more = {}) {
    peer->send(ask_for(method, target, more));
    return peer->read_response(method == "HEAD");
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(parameters_query_and_headers_are_typed) {
  fixture f;
  BOOST_TEST(f.ask("GET", "/api/users/-7?limit=20&all", "Depth: 3\r\n")
                 .ends_with("\r\n\r\nuser -7 limit 20 depth 3 all"));
  BOOST_TEST(f.ask("GET", "/api/users/7?limit=2x", "Depth: 1, 2\r\n")
                 .ends_with("\r\n\r\nuser 7 limit none depth none"));
  // What is no number is not on that path; here a wider one takes it.
  BOOST_TEST(f.ask("GET", "/api/users/x").ends_with("\r\n\r\nrest users/x"));
  BOOST_TEST(f.ask("GET", "/api/users/9223372036854775808")
                 .ends_with("\r\n\r\nrest users/9223372036854775808"));
  BOOST_TEST(f.ask("DELETE", "/api/users/9223372036854775808").starts_with("HTTP/1.1 405 "));
  BOOST_TEST(f.ask("GET", "/api/").ends_with("\r\n\r\nrest "));
  BOOST_TEST(f.ask("GET", "/api").starts_with("HTTP/1.1 404 "));
}

BOOST_AUTO_TEST_CASE(methods_and_what_is_allowed) {
  fixture f;
  for (const char *method : {"DELETE", "PUT", "PATCH"})
    BOOST_TEST(f.ask(method, "/api/users/1").ends_with("\r\n\r\n" + std::string(method)));
  BOOST_TEST(f.ask("POST", "/api/users/").ends_with("\r\n\r\nPOST"));
  const auto wrong = f.ask("POST", "/api/users/1");
  BOOST_TEST(wrong.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
  BOOST_TEST(has(wrong, "\r\nAllow: GET, HEAD, DELETE, PUT, PATCH, OPTIONS\r\n"));
  BOOST_TEST(has(wrong, "it takes GET, HEAD, DELETE"));
  const auto options = f.ask("OPTIONS", "/api/users/1");
  BOOST_TEST(options.starts_with("HTTP/1.1 204 No Content\r\n"));
  BOOST_TEST(has(options, "\r\nAllow: GET, HEAD, DELETE, PUT, PATCH, OPTIONS\r\n"));
  BOOST_TEST(f.ask("OPTIONS", "*").starts_with("HTTP/1.1 204 "));
  BOOST_TEST(f.ask("OPTIONS", "/none").starts_with("HTTP/1.1 404 "));
  const auto head = f.ask("HEAD", "/api/users/1");
  BOOST_TEST(head.starts_with("HTTP/1.1 200 OK\r\n"));
  BOOST_TEST(has(head, "\r\nContent-Length: 28\r\n"));
  BOOST_TEST(head.ends_with("\r\n\r\n"));
  BOOST_TEST(has(head, "\r\nDate: "));
  BOOST_TEST(f.ask("BREW", "/").starts_with("HTTP/1.1 405 "));
  BOOST_TEST(f.ask("CONNECT", "a.test:80").starts_with("HTTP/1.1 404 "));
  BOOST_TEST(f.server.stats().accepted == 1u); // no refusal ended the connection
}

BOOST_AUTO_TEST_CASE(sessions_of_mounted_routes) {
  fixture f;
  auto w = open_session(f.server.port(), "/api/users/42/live");
  BOOST_TEST(w.read_frame().payload == "number 42");
  for (const char *nowhere :
       {"/api/users/x/live", "/api/users/9223372036854775808/live", "/none"}) {
    wire other(f.server.port());
    other.send(upgrade_request(nowhere));
    const auto answer = other.read_response();
    BOOST_TEST(answer.starts_with("HTTP/1.1 404 "), nowhere);
    BOOST_TEST(!answer.ends_with("\r\n\r\n")); // it says why
  }
  const auto plain = f.ask("GET", "/live");
  BOOST_TEST(plain.starts_with("HTTP/1.1 426 "));
  BOOST_TEST(has(plain, "Upgrade: websocket\r\n"));
}

BOOST_AUTO_TEST_CASE(a_host_of_its_own) {
  fixture f;
  const auto at = [&](std::string_view host) {
    f.peer->send("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n");
    return f.peer->read_response();
  };
  BOOST_TEST(at("admin.test").ends_with("for admin.test"));
  BOOST_TEST(at("ADMIN.test:8080").ends_with("for admin.test"));
  BOOST_TEST(at("other.test").ends_with("for all"));
  f.peer->send("GET /none HTTP/1.1\r\nHost: admin.test\r\n\r\n");
  BOOST_TEST(f.peer->read_response().starts_with("HTTP/1.1 404 "));
}

BOOST_AUTO_TEST_CASE(mounting_ends_with_the_start) {
  fixture f;
  BOOST_CHECK_THROW(f.server.mount("/x", chorus::routes()), std::logic_error);
  BOOST_CHECK_THROW(f.server.post("/x", say_method), std::logic_error);
  chorus::server other(f.loop.rt(), {});
  chorus::routes part;
  part.get("/", say_method);
  BOOST_CHECK_THROW(other.mount("no-slash", std::move(part)), std::invalid_argument);
  BOOST_CHECK_THROW(other.mount("/x", chorus::routes(), {.host = "a:80"}), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()
