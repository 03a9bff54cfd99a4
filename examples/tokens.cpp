// A token may come in a header, in the query or in the first message: three routes, one check.
//
//   chorus_tokens           lets a client of its own try all three, right and wrong, and ends
//   chorus_tokens --serve   says its address and serves until its standard input ends
//
// The token is "open-sesame"; nothing that is printed repeats it.

#include <chorus/base/redact.hpp>
#include <chorus/client/connect.hpp>
#include <chorus/server/server.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>
#include <variant>

namespace {

using chorus::admission;
using chorus::task;
using namespace std::chrono_literals;

// Who has this token; a service would ask its database here, and may take its time.
task<std::string> user_of(std::string token) {
  co_await chorus::sleep(1ms);
  co_return token == "open-sesame" ? "ali" : "";
}

// Programs can send headers, and see the answer to a refused upgrade.
task<admission> by_header(chorus::request r) {
  const auto given = r.header("Authorization");
  constexpr std::string_view scheme = "Bearer ";
  if (given.starts_with(scheme)) {
    const auto user = co_await user_of(std::string(given.substr(scheme.size())));
    if (!user.empty())
      co_return admission::accept(user);
  }
  chorus::response answer(401, "send an Authorization header with your token\n");
  answer.set("WWW-Authenticate", "Bearer");
  co_return admission::refuse(answer);
}

// Browsers can't send headers, and scripts there see nothing of a refused upgrade but that it failed:
// so the session is opened, and closed with a reason.
task<admission> by_query(chorus::request r) {
  const auto user = co_await user_of(std::string(r.query_param("token")));
  if (user.empty())
    co_return admission::accept_then_close("this token is not known; sign in again");
  co_return admission::accept(user);
}

task<> greet(chorus::session s, chorus::request) {
  co_await s.send("hello " + s.user());
  while (auto m = co_await s.receive())
    co_await s.send(*m);
}

// The query may end up in the logs of proxies; a first message does not. Who says nothing for two
// seconds is sent away: a heartbeat would keep a silent peer for ever.
task<> by_first_message(chorus::session s, chorus::request) {
  using namespace boost::asio::experimental::awaitable_operators;
  auto first = co_await (s.receive() || chorus::sleep(2s));
  std::string user;
  if (auto *m = std::get_if<0>(&first); m && *m)
    user = co_await user_of(std::string((*m)->text()));
  if (user.empty()) {
    s.start_close(chorus::close_code::policy_violation, "send your token first");
    co_return;
  }
  co_await s.send("hello " + user);
  while (auto m = co_await s.receive())
    co_await s.send(*m);
}

// What a client sees: the greeting, or how it was refused.
task<std::string> outcome(std::string url, std::string header, std::string first) {
  const chorus::header authorization{"Authorization", header};
  chorus::connect_options options;
  if (!header.empty())
    options.headers = {&authorization, 1};
  auto s = co_await chorus::connect(url, options);
  if (!s)
    co_return "refused with " + std::to_string(s.error().detail().status);
  if (!first.empty())
    co_await s->send(first);
  const auto m = co_await s->receive();
  if (!m)
    co_return "closed with " + std::to_string(m.error().detail().close_code) + ", " +
        m.error().detail().close_reason;
  const std::string text(m->text());
  co_await s->close();
  co_return text;
}

struct attempt {
  const char *target;
  const char *header;
  const char *first;
  const char *expected;
};
constexpr attempt attempts[] = {
    {"/header", "Bearer open-sesame", "", "hello ali"},
    {"/header", "Bearer open-says-me", "", "refused with 401"},
    {"/header", "", "", "refused with 401"},
    {"/query?token=open-sesame", "", "", "hello ali"},
    {"/query?token=mellon", "", "", "closed with 1008, this token is not known; sign in again"},
    {"/message", "", "open-sesame", "hello ali"},
    {"/message", "", "mellon", "closed with 1008, send your token first"},
};

task<> try_all(chorus::server &srv, bool &good) {
  for (const auto &a : attempts) {
    const auto seen = co_await outcome(srv.url() + a.target, a.header, a.first);
    std::printf("%-24s %-14s %s\n", chorus::redact(a.target).c_str(),
                chorus::redact_header("Authorization", a.header).c_str(), seen.c_str());
    good = good && seen == a.expected;
  }
}

task<> run(chorus::server &srv, bool serve, bool &good) {
  const auto up = co_await srv.start();
  if (!up) {
    std::fprintf(stderr, "%s\n", up.error().message().c_str());
    good = false;
    co_return;
  }
  if (serve) {
    std::printf("listening on %s\n", srv.url().c_str());
    std::fflush(stdout);
    boost::asio::posix::stream_descriptor input(co_await boost::asio::this_coro::executor,
                                                ::dup(STDIN_FILENO));
    co_await input.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                              boost::asio::use_awaitable);
  } else {
    co_await try_all(srv, good);
  }
  co_await srv.stop(std::chrono::seconds(1));
}

} // namespace

int main(int argc, char **argv) {
  chorus::runtime rt;
  chorus::server_options options;
  options.on_error = [](std::string_view what, const chorus::session *) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
  };
  // Of one peer, ten messages at once and a hundred a second; who sends more is sent away.
  options.rate.messages_per_second = 100;
  options.rate.burst_messages = 10;
  options.rate.policy = chorus::over_rate::close;
  options.max_connections_per_user = 2;
  options.allow_origin = [](std::string_view origin) { return origin.ends_with(".example.org"); };
  chorus::server srv{rt, std::move(options)};
  chorus::route_options with_header, with_query;
  with_header.authorize = by_header;
  with_query.authorize = by_query;
  srv.route("/header", greet, with_header);
  srv.route("/query", greet, with_query);
  srv.route("/message", by_first_message);

  bool good = true;
  rt.run(run(srv, argc > 1 && std::strcmp(argv[1], "--serve") == 0, good));
  return good ? 0 : 1;
}
