// JSON-RPC for a peer of another implementation to try: `rpc_peer serve` prints its port and answers
// until standard input ends; `rpc_peer connect URL` asks, is asked, and ends with 0 if all was as it
// should be.

#include <chorus/chorus.hpp>
#include <chorus/json.hpp>

#include <boost/json/serialize.hpp>

#include <iostream>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace {

using namespace std::chrono_literals;
using chorus::json_array;
using chorus::result;
using chorus::rpc;
using chorus::rpc_call;
using chorus::task;

chorus::rpc_methods methods() {
  chorus::rpc_methods all;
  all.add("subtract", [](int a, int b) -> task<int> { co_return a - b; });
  all.add("echo", [](boost::json::value params) -> task<boost::json::value> { co_return params; });
  all.add("refuse", []() -> task<result<>> {
    co_return chorus::rpc_failure(42, "not today", json_array("data"));
  });
  all.add("throw", []() -> task<> {
    throw std::runtime_error("secret");
    co_return;
  });
  all.add("later", [](int ms) -> task<int> {
    co_await chorus::sleep(std::chrono::milliseconds(ms));
    co_return ms;
  });
  // Asks the other side `n` times at once.
  all.add("ask_back", [](rpc_call call, std::string method, int n) -> task<result<int>> {
    chorus::rpc_batch batch;
    for (int i = 0; i < n; ++i)
      batch.request(method, json_array(i));
    auto peer = call.peer();
    const auto answers = co_await peer.request(std::move(batch), {.timeout = 20s});
    if (answers.has_error())
      co_return answers.error();
    int sum = 0;
    for (const auto &one : *answers)
      sum += one.has_value() ? one->to_number<int>() : 0;
    co_return sum;
  });
  return all;
}

task<> serve(chorus::runtime &rt) {
  const auto known = methods();
  chorus::server server(rt, {.listen = "127.0.0.1:0"});
  server.route("/", [&](chorus::session s, chorus::request) -> task<> {
    rpc peer(s, known);
    co_await peer.ended();
  });
  const auto up = co_await server.start();
  if (!up)
    throw std::runtime_error(up.error().message());
  std::cout << "ws://127.0.0.1:" << server.port() << "/" << std::endl;
  std::thread waits([&] {
    std::string line;
    while (std::getline(std::cin, line)) {
    }
    rt.stop();
  });
  waits.detach();
  co_await chorus::sleep(1h);
}

void expect(bool good, const char *what) {
  if (!good)
    throw std::runtime_error(what);
}

task<> ask(std::string url) {
  auto s = co_await chorus::connect(url);
  rpc peer(s.value(), methods());
  expect((co_await peer.request<int>("subtract", json_array(42, 23))).value() == 19, "subtract");
  const auto missing = co_await peer.request("missing");
  expect(missing.error().code() == chorus::rpc_code::method_not_found, "missing");
  const auto refused = co_await peer.request("refuse");
  const auto why = chorus::rpc_error_of(refused.error());
  expect(why && why->code == 42 && why->message == "not today" && why->data == json_array("data"),
         "refuse");
  chorus::rpc_batch batch;
  batch.request("subtract", json_array(1, 2));
  batch.notify("noted", json_array("x"));
  batch.request("missing");
  const auto both = co_await peer.request(batch);
  expect(both.value().size() == 2 && both->front().value() == -1 && both->back().has_error(),
         "batch");
  expect((co_await peer.request<int>("ask_back", json_array(10))).value() == 45, "ask_back");
  const auto never = co_await peer.request("never", nullptr, {.timeout = 50ms});
  expect(never.error() == chorus::error::timed_out, "never");
  co_await peer.notify("noted", json_array("y"));
  expect((co_await peer.request("noted_so_far")).value() == json_array("x", "y"), "notifications");
  peer.stop();
  co_await s->close();
}

} // namespace

int main(int argc, char **argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  try {
    chorus::runtime rt;
    if (role == "serve")
      rt.run(serve(rt));
    else if (role == "connect" && argc > 2)
      rt.run(ask(argv[2]));
    else
      return 2;
  } catch (const std::exception &x) {
    std::cerr << "rpc_peer: " << x.what() << '\n';
    return 1;
  }
}
