#pragma once
// `listener`: accepts connections for one shard. Descriptors are handed on raw (non-blocking,
// close-on-exec); what is made of them is the server's business.
//
// Several shards share a tcp address: the first listener binds it exclusively, so that a second
// server gets "address in use", and only then lets siblings join (`share` and `join`). When the
// process runs out of descriptors a reserve one is given up for a moment, so that a waiting peer can
// be refused politely instead of being left in the backlog.
//
// `open` may be called on any thread; everything after `start` belongs to the shard's thread.

#include <chorus/async/shard.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/descriptor.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace chorus::transport {

class accept_handler {
public:
  // Takes over a connected descriptor. May close or destroy the listener.
  virtual void on_accept(int fd) noexcept = 0;
  // Like `on_accept`, for a connection that can't be served for want of descriptors. It should be
  // answered without waiting and closed before this returns; kept open, it costs the reserve.
  virtual void on_refused(int fd) noexcept = 0;

protected:
  ~accept_handler() = default;
};

struct listen_options {
  int backlog = 4096; // bounded by the kernel's net.core.somaxconn
  bool share = false; // tcp: siblings may join afterwards
  bool join = false;  // tcp: join the address of a listener that shares; give its `local_address()`
  bool reuse_port =
      false; // tcp: any listener of this user that says so, too, may join (SO_REUSEPORT)
  unsigned file_mode = 0; // of a socket file, as for chmod; 0: what the umask leaves
};

struct listener_stats {
  std::uint64_t accepted = 0; // handed to `on_accept`
  std::uint64_t refused = 0;  // handed to `on_refused`
  std::uint64_t errors = 0;   // accept calls that failed for want of descriptors or memory
  std::uint64_t pauses = 0;   // times accepting paused (100 ms, doubling up to 1 s)
};

class listener final : detail::ready_listener {
public:
  // `address` is "host:port" (port 0: any free one), "[::1]:port", ":port" for every address of the
  // machine, "unix:/path", "unix:@name" in the abstract namespace, or "fd:3" to `adopt` that one,
  // "fd:3:file" with its socket file. An IPv6 address means IPv6 alone: "[::]:80" and "0.0.0.0:80" stand beside each other, ":80" is
  // both. A socket file that nobody listens on any more is replaced. A host name is looked up,
  // blocking.
  // Fails with error::listen_failed and a sentence, or error::bad_option for a malformed address.
  static result<std::unique_ptr<listener>> open(detail::shard &home, std::string_view address,
                                                listen_options options = {});
  // Around a listening stream socket that was inherited; takes `fd` over. Fails with listen_failed when
  // it is none: another kind of socket is closed then, and what is no socket stays as it is.
  // `with_file`: the socket file was its maker's own, and goes with whoever closes the socket last.
  static result<std::unique_ptr<listener>> adopt(detail::shard &home, int fd,
                                                 bool with_file = false);
  ~listener();
  listener(const listener &) = delete;
  listener &operator=(const listener &) = delete;

  detail::shard &home() const noexcept { return home_; }
  // Begins to accept. Fails with error::listen_failed when the kernel refuses to watch the socket.
  result<> start(accept_handler &handler);
  // Stops accepting and gives the address free; removes the socket file that `open` made, and one that
  // was adopted if nobody else listens there any more.
  // Idempotent.
  void close() noexcept;
  // The socket file stays when this closes: somebody else listens on the socket as well.
  void leave_file() noexcept { file_.clear(); }
  // There is a socket file that goes when this closes.
  bool has_file() const noexcept { return !file_.empty(); }
  // Another descriptor for the same socket; empty when closed or out of descriptors.
  descriptor duplicate() const noexcept;

  // With the real port: "127.0.0.1:8080", "[::1]:80", "unix:/run/x". Stays after `close`.
  const std::string &local_address() const noexcept { return address_; }
  const listener_stats &stats() const noexcept { return stats_; }

private:
  struct retry : detail::timer {
    explicit retry(listener &l) noexcept;
    listener &owner;
  };

  listener(detail::shard &home, descriptor socket);
  void own_file(const std::string &path);
  void on_ready(unsigned what) noexcept override;
  bool refuse_one() noexcept;
  void pause() noexcept;
  void resume() noexcept;

  detail::shard &home_;
  descriptor socket_;
  descriptor reserve_;
  std::string address_;
  std::string file_; // of a unix socket made by us, or adopted with it
  bool adopted_ = false;
  std::uint64_t file_device_ = 0;
  std::uint64_t file_inode_ = 0;
  accept_handler *handler_ = nullptr;
  detail::poll_entry *entry_ = nullptr;
  std::shared_ptr<bool> destroyed_ = std::make_shared<bool>(false); // outlives this in `on_ready`
  retry retry_;
  detail::duration delay_{};
  listener_stats stats_;
};

} // namespace chorus::transport
