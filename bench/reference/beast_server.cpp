// The reference that the bench compares with: Boost.Beast's websocket::stream as fast as its interface
// allows on one thread. It keeps the contract of `chorus serve` for /echo and /broadcast.
//
// What was tuned: completion handlers instead of coroutines, a concrete executor type, concurrency hint 1,
// TCP_NODELAY, no timers, no permessage-deflate, one frame per message, one payload shared by all members.
// What can't be: a stream has one write at a time, so each message and each delivery is a send of its own.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

using executor = asio::io_context::executor_type;
using socket_type = asio::basic_stream_socket<tcp, executor>;
using acceptor_type = asio::basic_socket_acceptor<tcp, executor>;
using stream_type = websocket::stream<socket_type>;

struct payload {
  std::string bytes;
  bool binary;
};

class connection;

struct settings {
  std::size_t max_message = 64u << 20;
  std::size_t queue_bytes = 64u << 20; // a member owed more is cut off
};

struct shared_state {
  settings limits;
  std::unordered_set<connection *> members;
};

class connection : public std::enable_shared_from_this<connection> {
public:
  connection(socket_type socket, shared_state &state) : stream_{std::move(socket)}, state_{state} {}
  ~connection() { state_.members.erase(this); }
  connection(const connection &) = delete;
  connection &operator=(const connection &) = delete;

  void start() {
    error_code ignored;
    stream_.next_layer().set_option(tcp::no_delay(true), ignored);
    http::async_read(stream_.next_layer(), input_, request_,
                     [self = shared_from_this()](error_code ec, std::size_t) {
                       if (!ec)
                         self->on_request();
                     });
  }

private:
  void on_request() {
    const bool echo = request_.target() == "/echo";
    if (!websocket::is_upgrade(request_) || (!echo && request_.target() != "/broadcast")) {
      refuse();
      return;
    }
    websocket::permessage_deflate deflate;
    deflate.server_enable = false;
    stream_.set_option(deflate);
    stream_.set_option(websocket::stream_base::timeout{websocket::stream_base::none(),
                                                       websocket::stream_base::none(), false});
    stream_.auto_fragment(false);
    stream_.write_buffer_bytes(256 * 1024);
    stream_.read_message_max(state_.limits.max_message);
    stream_.async_accept(request_, [self = shared_from_this(), echo](error_code ec) {
      if (ec)
        return;
      self->request_ = {};
      self->input_.clear();
      if (echo) {
        self->read_echo();
        return;
      }
      self->state_.members.insert(self.get());
      self->read_broadcast();
    });
  }

  void refuse() {
    refusal_.emplace(http::status::not_found, request_.version());
    refusal_->set(http::field::content_type, "text/plain");
    refusal_->body() = "WebSocket only, at /echo and /broadcast.\n";
    refusal_->prepare_payload();
    refusal_->keep_alive(false);
    http::async_write(stream_.next_layer(), *refusal_,
                      [self = shared_from_this()](error_code, std::size_t) {
                        error_code ignored;
                        self->stream_.next_layer().shutdown(tcp::socket::shutdown_send, ignored);
                      });
  }

  void read_echo() {
    stream_.async_read(input_, [self = shared_from_this()](error_code ec, std::size_t) {
      if (ec)
        return;
      self->stream_.binary(self->stream_.got_binary());
      self->write_echo();
    });
  }

  void write_echo() {
    stream_.async_write(input_.cdata(), [self = shared_from_this()](error_code ec, std::size_t) {
      if (ec)
        return;
      self->input_.clear();
      self->read_echo();
    });
  }

  void read_broadcast() {
    stream_.async_read(input_, [self = shared_from_this()](error_code ec, std::size_t) {
      if (ec) {
        self->leave();
        return;
      }
      const auto data = self->input_.cdata();
      auto shared = std::make_shared<const payload>(
          payload{std::string(static_cast<const char *>(data.data()), data.size()),
                  self->stream_.got_binary()});
      self->input_.clear();
      for (connection *member : self->state_.members)
        member->enqueue(shared);
      self->read_broadcast();
    });
  }

  // The set of members is being walked when this is called, so it must not change it.
  void enqueue(const std::shared_ptr<const payload> &message) {
    if (cut_)
      return;
    if (queued_ + message->bytes.size() > state_.limits.queue_bytes) {
      cut_ = true;
      error_code ignored;
      stream_.next_layer().close(ignored);
      return;
    }
    queued_ += message->bytes.size();
    queue_.push_back(message);
    if (queue_.size() == 1)
      write_next();
  }

  void write_next() {
    stream_.binary(queue_.front()->binary);
    stream_.async_write(asio::buffer(queue_.front()->bytes),
                        [self = shared_from_this()](error_code ec, std::size_t) {
                          if (ec) {
                            self->leave();
                            return;
                          }
                          self->queued_ -= self->queue_.front()->bytes.size();
                          self->queue_.pop_front();
                          if (!self->queue_.empty())
                            self->write_next();
                        });
  }

  void leave() {
    cut_ = true;
    state_.members.erase(this);
  }

  stream_type stream_;
  shared_state &state_;
  beast::flat_buffer input_;
  http::request<http::empty_body> request_;
  std::optional<http::response<http::string_body>> refusal_;
  std::deque<std::shared_ptr<const payload>> queue_;
  std::size_t queued_ = 0;
  bool cut_ = false;
};

class listener {
public:
  listener(asio::io_context &io, const tcp::endpoint &where, shared_state &state)
      : acceptor_{io.get_executor(), where}, retry_{io}, state_{state} {
    acceptor_.listen(4096);
  }

  tcp::endpoint local_endpoint() const { return acceptor_.local_endpoint(); }

  void accept() {
    acceptor_.async_accept([this](error_code ec, socket_type socket) {
      if (ec == asio::error::operation_aborted)
        return;
      if (ec) { // out of descriptors, most likely: wait for some to come back
        retry_.expires_after(std::chrono::milliseconds(20));
        retry_.async_wait([this](error_code stopped) {
          if (!stopped)
            accept();
        });
        return;
      }
      std::make_shared<connection>(std::move(socket), state_)->start();
      accept();
    });
  }

private:
  acceptor_type acceptor_;
  asio::steady_timer retry_;
  shared_state &state_;
};

[[noreturn]] void usage(const char *complaint) {
  std::fprintf(
      stderr,
      "%s\nusage: beast_server [--listen ADDRESS:PORT] [--max-message B] [--queue-bytes B]\n",
      complaint);
  std::exit(2);
}

std::size_t number(const std::string &text) {
  std::size_t used = 0;
  const auto value = std::stoull(text, &used);
  if (used != text.size())
    usage(("not a number: " + text).c_str());
  return value;
}

} // namespace

int main(int argc, char **argv) try {
  shared_state state;
  std::string listen = "127.0.0.1:0";
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 == argc)
      usage("the last option has no value");
    const std::string value = argv[i + 1];
    if (name == "--listen")
      listen = value;
    else if (name == "--max-message")
      state.limits.max_message = number(value);
    else if (name == "--queue-bytes")
      state.limits.queue_bytes = number(value);
    else
      usage("unknown option");
  }
  const auto colon = listen.rfind(':');
  if (colon == std::string::npos)
    usage("--listen wants ADDRESS:PORT");
  const auto port = number(listen.substr(colon + 1));
  if (port > 65535)
    usage("a port is at most 65535");

  asio::io_context io{1};
  const tcp::endpoint where{asio::ip::make_address(listen.substr(0, colon)),
                            static_cast<unsigned short>(port)};
  listener server{io, where, state};
  server.accept();
  asio::signal_set signals{io, SIGINT, SIGTERM};
  signals.async_wait([&](error_code, int) { io.stop(); });
  std::printf("listening on ws://%s:%u\n", listen.substr(0, colon).c_str(),
              static_cast<unsigned>(server.local_endpoint().port()));
  std::fflush(stdout);
  io.run();
  // Connections still open own themselves through their handlers, and refer to `state`: skip destructors.
  std::_Exit(0);
} catch (const std::exception &e) {
  std::fprintf(stderr, "beast_server: %s\n", e.what());
  return 1;
}
