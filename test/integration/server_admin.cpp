// The admin pages, and JSON in plain HTTP.

#include "server_support.hpp"

#include <chorus/json.hpp>
#include <chorus/server/admin.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <stdexcept>

using namespace server_test;
using chorus::request;
using chorus::response;
using chorus::task;
namespace json = boost::json;

BOOST_AUTO_TEST_SUITE(server_admin)

namespace {

const std::string token = "s3cret-Token~";

struct fixture {
  running loop;
  chorus::server server;

  explicit fixture(unsigned threads = 1) : loop(threads), server(loop.rt(), {}) {
    server.route("/chat/{room}", [this](chorus::session s, request r) {
      return chat(server.room(r.param("room")), std::move(s));
    });
    server.mount_admin("/admin", {.token = token});
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server.stop(5s)); }

  static task<> chat(chorus::room where, chorus::session s) {
    auto seat = co_await where.join(s);
    if (!seat)
      co_return;
    co_await s.send("joined");
    while (auto m = co_await s.receive()) {
    }
  }

  // A member of a room, whose membership is certain.
  wire join(std::string_view room, std::string_view agent = "test/1") const {
    auto w = open_session(server.port(), "/chat/" + std::string(room) + "?token=hush",
                          "User-Agent: " + std::string(agent) + "\r\n");
    BOOST_REQUIRE(w.read_frame().payload == "joined");
    return w;
  }
  std::string ask(std::string_view method, std::string_view target, std::string_view body = {},
                  std::string_view more = {}, const std::string &bearer = token) const {
    wire w(server.port());
    w.send(std::string(method) + " /admin" + std::string(target) +
           " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer " + bearer +
           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + std::string(more) +
           "\r\n" + std::string(body));
    return w.read_all();
  }
  json::value get(std::string_view target) const { return value_of(ask("GET", target)); }

  static json::value value_of(const std::string &answer) {
    BOOST_TEST(has(answer, "\r\nContent-Type: application/json\r\n"));
    return json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
  }
};

bool is(const std::string &answer, unsigned status) {
  return answer.starts_with("HTTP/1.1 " + std::to_string(status) + " ");
}

std::string sent(std::string_view request, std::uint16_t port) {
  wire w(port);
  w.send(request);
  return w.read_all();
}

} // namespace

BOOST_AUTO_TEST_CASE(nobody_without_the_token) {
  fixture f;
  const auto with = [&](std::string_view fields) {
    return sent("GET /admin/rooms HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" +
                    std::string(fields) + "\r\n",
                f.server.port());
  };
  for (const std::string &fields : std::initializer_list<std::string>{
           "", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n",
           "Authorization: " + token + "\r\n", "Authorization: Basic " + token + "\r\n",
           "Authorization: Bearer " + token + "x\r\n", "Authorization: Bearer S3cret-Token~\r\n",
           "Authorization: Bearer s3cret-Token\r\n", "Authorization: Bearerx" + token + "\r\n",
           "Authorization: Bearer " + token + token + "\r\n",
           "Authorization: Bearer x\r\nAuthorization: Bearer " + token + "\r\n",
           "Authorization: Bearer " + token + "\r\nAuthorization: Bearer " + token + "\r\n",
           "X-Authorization: Bearer " + token + "\r\n"}) {
    const auto answer = with(fields);
    BOOST_TEST_CONTEXT(fields << answer) {
      BOOST_TEST(is(answer, 401));
      BOOST_TEST(has(answer, "\r\nWWW-Authenticate: Bearer realm=\"chorus\"\r\n"));
      BOOST_TEST(!has(answer, "\"rooms\""));
    }
  }
  BOOST_TEST(is(with("authorization: bearer  " + token + "\r\n"), 200));
  for (const char *target : {"/connections", "/rooms/x/users"})
    BOOST_TEST(is(f.ask("GET", target, {}, {}, "wrong"), 401));
  auto w = f.join("x");
  BOOST_TEST(is(f.ask("POST", "/rooms/x/broadcast", "boo", {}, "wrong"), 401));
  BOOST_TEST(is(f.ask("DELETE", "/connections/1", {}, {}, "wrong"), 401));
  BOOST_TEST(!w.readable());
}

// The body would be kept for somebody who may not send any.
BOOST_AUTO_TEST_CASE(the_token_is_asked_for_before_the_body) {
  fixture f;
  const auto head = [](std::string_view fields) {
    return "POST /admin/rooms/x/broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n" +
           std::string(fields) + "\r\n";
  };
  for (const std::string fields :
       {"", "Expect: 100-continue\r\n", "Authorization: Bearer wrong\r\n"}) {
    wire w(f.server.port());
    w.send(head(fields));
    const auto answer = w.read_response();
    BOOST_TEST(is(answer, 401), answer);
    BOOST_TEST(has(answer, "\r\nConnection: close\r\n"));
  }
  wire w(f.server.port());
  w.send(head("Expect: 100-continue\r\nAuthorization: Bearer " + token + "\r\n"));
  BOOST_TEST(is(w.read_response(), 100));
  // Without a body the connection goes on.
  wire again(f.server.port());
  for (int i = 0; i < 2; ++i) {
    again.send("GET /admin/rooms HTTP/1.1\r\nHost: a\r\n\r\n");
    BOOST_TEST(is(again.read_response(), 401));
  }
}

BOOST_AUTO_TEST_CASE(secrets_are_compared_whole) {
  using chorus::detail::same_secret;
  BOOST_TEST(same_secret("abc", "abc"));
  for (const char *other : {"", "a", "ab", "abd", "bbc", "abcd", "abcabc", "ABC"})
    BOOST_TEST(!same_secret(other, "abc"), other);
  BOOST_TEST(!same_secret("", ""));
}

BOOST_AUTO_TEST_CASE(a_token_is_required) {
  running loop;
  chorus::server server(loop.rt(), {});
  for (const char *bad : {"", " ", "two words", "tab\t", "caf\xC3\xA9", "line\n"})
    BOOST_CHECK_THROW(server.mount_admin("/admin", {.token = bad}), std::invalid_argument);
  BOOST_CHECK_NO_THROW(server.mount_admin("/admin", {.token = "x"}));
}

BOOST_AUTO_TEST_CASE(rooms_and_their_users) {
  fixture f(2);
  BOOST_TEST(json::serialize(f.get("/rooms")) == R"({"total":0,"rooms":[]})");
  auto a = f.join("blue"), b = f.join("blue"), c = f.join("a%2Fred"), d = f.join("%ff");
  BOOST_TEST(json::serialize(f.get("/rooms")) ==
             R"({"total":3,"rooms":[{"name":"a/red","count":1},{"name":"blue","count":2},)"
             R"({"name":"?","count":1}]})");
  BOOST_TEST(json::serialize(f.get("/rooms?limit=1&after=a/red")) ==
             R"({"total":3,"rooms":[{"name":"blue","count":2}]})");
  BOOST_TEST(json::serialize(f.get("/rooms?limit=0")) == R"({"total":3,"rooms":[]})");

  const auto users = f.get("/rooms/blue/users");
  BOOST_TEST(users.at("room").as_string() == "blue");
  BOOST_TEST(users.at("count").to_number<int>() == 2);
  const auto &list = users.at("users").as_array();
  BOOST_REQUIRE(list.size() == 2u);
  for (const auto &one : list) {
    BOOST_TEST(one.at("id").to_number<std::uint64_t>() > 0u);
    BOOST_TEST(std::string(one.at("address").as_string()).starts_with("127.0.0.1:"));
  }
  const auto first = list[0].at("id").to_number<std::uint64_t>();
  const auto rest = f.get("/rooms/blue/users?after=" + std::to_string(first));
  BOOST_REQUIRE(rest.at("users").as_array().size() == 1u);
  BOOST_TEST((rest.at("users").as_array()[0] == list[1]));
  BOOST_TEST(f.get("/rooms/a%2Fred/users").at("count").to_number<int>() == 1);
  BOOST_TEST(is(f.ask("GET", "/rooms/none/users"), 404));
  BOOST_TEST(f.get("/rooms").at("total").to_number<int>() == 3); // asking makes no room

  a.close();
  b.close();
  BOOST_TEST(comes_true([&] { return f.get("/rooms").at("total").to_number<int>() == 2; }));
}

BOOST_AUTO_TEST_CASE(a_body_is_published) {
  fixture f(2);
  auto a = f.join("blue"), b = f.join("blue"), c = f.join("red");
  const auto told = f.ask("POST", "/rooms/blue/broadcast", "maintenance at noon");
  BOOST_TEST(is(told, 202));
  BOOST_TEST(json::serialize(fixture::value_of(told)) == R"({"room":"blue","count":2})");
  for (auto *w : {&a, &b}) {
    const auto frame = w->read_frame();
    BOOST_TEST(frame.opcode == 1u);
    BOOST_TEST(frame.payload == "maintenance at noon");
  }
  BOOST_TEST(is(f.ask("POST", "/rooms/blue/broadcast", "\xff\x00"), 400));
  f.ask("POST", "/rooms/blue/broadcast", "\xff\x01", "Content-Type: application/octet-stream\r\n");
  const auto frame = a.read_frame();
  BOOST_TEST(frame.opcode == 2u);
  BOOST_TEST(frame.payload == "\xff\x01");
  BOOST_TEST(is(f.ask("POST", "/rooms/none/broadcast", "x"), 404));
  BOOST_TEST(is(f.ask("GET", "/rooms/blue/broadcast"), 405));
  BOOST_TEST(!c.readable());
}

BOOST_AUTO_TEST_CASE(connections_are_listed_and_closed) {
  fixture f(2);
  auto a = f.join("blue", "phone/2"), b = f.join("blue", "caf\xe9");
  a.send(text_frame("hi"));
  BOOST_TEST(comes_true([&] {
    return f.get("/connections").at("connections").as_array()[0].at("messages_received") == 1;
  }));
  const auto all = f.get("/connections");
  BOOST_TEST(all.at("total").to_number<int>() == 2);
  const auto &list = all.at("connections").as_array();
  BOOST_REQUIRE(list.size() == 2u);
  BOOST_TEST(list[0].at("user_agent").as_string() == "phone/2");
  BOOST_TEST(list[1].at("user_agent").as_string() == "caf?");
  BOOST_TEST(list[0].at("path").as_string() == "/chat/blue");
  BOOST_TEST(list[0].at("messages_sent").to_number<int>() == 1);
  BOOST_TEST(list[0].at("uptime_seconds").as_double() > 0);
  BOOST_TEST(!has(json::serialize(all), "hush")); // nor any other part of the query

  const auto id = [&](std::size_t i) { return std::to_string(list[i].at("id").to_number<int>()); };
  BOOST_TEST(is(f.ask("DELETE", "/connections/" + id(0) + "?code=1005"), 400));
  BOOST_TEST(is(f.ask("DELETE", "/connections/" + id(0) + "?code=x"), 400));
  BOOST_TEST(is(f.ask("DELETE", "/connections/" + id(0) + "?code=66536"), 400)); // 1000 in 16 bits
  BOOST_TEST(is(f.ask("DELETE", "/connections/x"), 404));
  BOOST_TEST(is(f.ask("DELETE", "/connections/999999999"), 404));
  BOOST_TEST(f.server.size() == 2u);
  BOOST_TEST(is(f.ask("DELETE", "/connections/" + id(0)), 202));
  BOOST_TEST(a.read_frame().close_code() == 1008u);
  BOOST_TEST(is(f.ask("DELETE", "/connections/" + id(1) + "?code=4001&reason=moved+on"), 202));
  const auto closed = b.read_frame();
  BOOST_TEST(closed.close_code() == 4001u);
  BOOST_TEST(closed.payload.substr(2) == "moved on");
  a.send(close_frame(1008));
  b.send(close_frame(4001));
  BOOST_TEST(comes_true([&] { return f.server.size() == 0; }));
  BOOST_TEST(is(f.ask("DELETE", "/connections/" + id(0)), 404));
}

BOOST_AUTO_TEST_CASE(json_in_and_out) {
  running loop;
  chorus::server server(loop.rt(), {});
  server.post("/sum", [](request r) -> task<response> {
    const auto body = chorus::json_body(r);
    if (!body)
      co_return chorus::json_refusal(body.error());
    const auto *numbers = body->if_array();
    if (!numbers)
      co_return chorus::json_response({{"error", "an array is needed"}}, 422);
    std::int64_t sum = 0;
    for (const auto &one : *numbers)
      sum += one.to_number<std::int64_t>();
    co_return chorus::json_response({{"sum", sum}}, 201);
  });
  BOOST_REQUIRE(loop.wait(server.start()));
  wire w(server.port());
  const auto ask = [&](const std::string &body) {
    w.send("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body);
    return w.read_response();
  };
  const auto good = ask("[1, 2, 39]");
  BOOST_TEST(is(good, 201));
  BOOST_TEST(has(good, "\r\nContent-Type: application/json\r\n"));
  BOOST_TEST(good.ends_with("\r\n\r\n{\"sum\":42}"));
  const auto bad = ask("[1, 2, x]");
  BOOST_TEST(is(bad, 400));
  BOOST_TEST(has(bad, "{\"error\":\"not valid JSON at byte 7 of 9 "));
  BOOST_TEST(has(ask("[1] 2"), "at byte 4 of 5"));
  BOOST_TEST(has(ask(""), "at byte 0 of 0"));
  BOOST_TEST(is(ask(std::string(100, '[')), 400)); // nested too deep
  BOOST_TEST(is(ask("{}"), 422));
  BOOST_TEST(is(ask("[true]"), 500)); // the page's own doing
  loop.wait(server.stop(5s));
}

BOOST_AUTO_TEST_SUITE_END()
