// A program that has an io_context of its own: the runtime wraps it, and connections live on the loop
// that the program runs anyway, beside its timers and sockets. Ends by itself after one exchange.

#include <chorus/chorus.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstdio>

namespace asio = boost::asio;

namespace {

using namespace std::chrono_literals;

chorus::task<> shout(chorus::session s, chorus::request) {
  while (const auto m = co_await s.receive())
    if (!co_await s.send(m->str() + "!"))
      break;
}

chorus::task<> exchange(chorus::server &srv) {
  (co_await srv.start()).value();
  auto s = co_await chorus::connect(srv.url() + "/shout");
  (co_await s->send("hello")).value();
  const auto reply = co_await s->receive();
  std::printf("%s\n", reply.value().str().c_str());
  co_await s->close();
  co_await srv.stop(1s);
}

} // namespace

int main() {
  asio::io_context io;
  asio::steady_timer own(io, 1ms); // something of the program's own on the same loop
  own.async_wait([](boost::system::error_code) { std::printf("tick\n"); });

  chorus::runtime rt{io};
  chorus::server srv{rt, {.listen = "127.0.0.1:0"}};
  srv.route("/shout", shout);

  int status = 0;
  asio::co_spawn(io, exchange(srv), [&](std::exception_ptr failed) {
    try {
      if (failed)
        std::rethrow_exception(failed);
    } catch (const std::exception &e) {
      std::fprintf(stderr, "%s\n", e.what());
      status = 1;
    }
    io.stop();
  });
  io.run();
  return status;
}
