#pragma once
// Handing the listening sockets of a running server to another process, so that no connection attempt
// is lost while one version of a program replaces another:
//
//   old                                            new
//   handover_offer offer{srv, "/run/chat.sock"};
//   co_await offer.open();
//   co_await offer.handed_over();                  auto heir = co_await take_over("/run/chat.sock");
//     …sends its listening descriptors…              options.listen, also_listen = heir->listen()
//                                                    co_await srv.start();  // both accept now
//     …stops accepting…                              co_await heir->ready();
//   co_await srv.drain();
//
// Until the new process has said that it is ready the old one serves as if nothing happened: one that
// dies or dawdles before that costs nothing. What waits in a backlog stays there for the new one.
// Both ends must belong to the same user; the socket file has mode 0600, and a stale one is replaced.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chorus {

class server;

namespace detail {
struct handover_state;
struct inheritance_state;
} // namespace detail

class handover_offer {
public:
  // `server` must be started, and must outlive this. A successor has `patience` to say that it is
  // ready; who asks for the sockets and does not even take them has three seconds. One is served at a
  // time.
  handover_offer(server &srv, std::string path,
                 std::chrono::milliseconds patience = std::chrono::seconds(30));
  // Withdraws the offer: removes the socket file, and `handed_over` fails with not_open.
  ~handover_offer();
  handover_offer(const handover_offer &) = delete;
  handover_offer &operator=(const handover_offer &) = delete;

  // Fails with listen_failed when the path can't be used, or another process offers there.
  task<result<>> open();
  // Completes when a successor accepts connections in this server's place: the server accepts none
  // any more, and the path is free for the successor's own offer. `drain` comes next. Successors that
  // fail are forgotten. Cancelling stops waiting; a handover under way is broken off.
  task<result<>> handed_over();

private:
  std::shared_ptr<detail::handover_state> state_;
};

class inheritance {
public:
  inheritance() noexcept = default; // of nothing
  explicit inheritance(std::shared_ptr<detail::inheritance_state> state) noexcept
      : state_(std::move(state)) {}

  // "fd:7", … for server_options::listen and also_listen, "fd:8:file" where a socket file goes along
  // that the old process would have removed: whoever has the socket last does so. From here on who
  // starts the server owns the descriptors; before the first call they are closed with the last copy of
  // this.
  std::vector<std::string> listen();
  // To be called once this process accepts. Completes when the old one has stopped doing so; fails
  // with lost when that has died, with timed_out when it says nothing for ten seconds. The sockets are
  // this process's all the same, and it may go on serving.
  task<result<>> ready();

private:
  std::shared_ptr<detail::inheritance_state> state_;
};

// Asks the process that offers a handover at `path` for its listening sockets. Fails with
// connect_failed when nobody offers one there, with lost when that process refuses or dies, with
// timed_out after `patience`, with bad_option for a path that is none. To be awaited on a
// thread of a runtime (no_runtime).
task<result<inheritance>> take_over(std::string_view path,
                                    std::chrono::milliseconds patience = std::chrono::seconds(10));

} // namespace chorus
