#include "support/fault_proxy.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <utility>
#include <vector>

namespace test_support {

namespace asio = boost::asio;
using asio::ip::tcp;
using chorus::task;

namespace {

// Coroutines wait for it to change, and look again.
class change {
public:
  explicit change(const asio::any_io_executor &executor)
      : never_(executor, asio::steady_timer::time_point::max()) {}
  void tell() { never_.cancel(); }
  task<> wait() {
    boost::system::error_code ec;
    co_await never_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }

private:
  asio::steady_timer never_;
};

constexpr std::size_t chunk = 4096;
// Throttled bytes pass in portions of about so much time.
constexpr std::size_t portions_per_second = 100;

} // namespace

class fault_proxy::core : public std::enable_shared_from_this<core> {
public:
  core(const asio::any_io_executor &executor, std::uint16_t to)
      : executor_(executor), to_(to), port_keeper_(executor), acceptor_(executor),
        changed_(executor) {
    // Holds the port while nobody listens: a connecting socket must not happen to get it.
    port_keeper_.open(tcp::v4());
    port_keeper_.set_option(asio::socket_base::reuse_address(true));
    port_keeper_.bind({asio::ip::address_v4::loopback(), 0});
    listen();
  }

  std::uint16_t port() const { return port_keeper_.local_endpoint().port(); }

  void listen() {
    acceptor_.open(tcp::v4());
    acceptor_.set_option(asio::socket_base::reuse_address(true));
    acceptor_.bind({asio::ip::address_v4::loopback(), port()});
    acceptor_.listen();
  }
  void begin() {
    asio::co_spawn(executor_, accept(shared_from_this(), ++listening_), asio::detached);
  }
  void refuse() {
    ++listening_;
    acceptor_.close();
  }
  void end() {
    refuse();
    for (const auto &l : links_)
      l->close();
  }

  void next(const faults &f) { next_.push_back(f); }
  void always(const faults &f) { always_ = f; }

  void cut_all(ending how) {
    for (const auto &l : links_)
      cut(*l, how);
  }
  void stall_all() {
    for (const auto &l : links_)
      stall(*l);
  }
  void stall_all(way only) {
    for (const auto &l : links_)
      if (!std::exchange(l->stalled_of(only), true))
        tell(event::stalled);
  }
  void resume_all() {
    for (const auto &l : links_) {
      l->stalled = {};
      l->plan.stall_up = l->plan.stall_down = never;
      l->changed.tell();
    }
  }
  void throttle_all(std::size_t bytes_per_second) {
    for (const auto &l : links_)
      l->plan.bytes_per_second = bytes_per_second;
  }

  std::size_t count(event e) const { return counts_[static_cast<std::size_t>(e)]; }
  std::uint64_t bytes(way w) const { return bytes_[static_cast<std::size_t>(w)]; }

  static task<> seen(std::shared_ptr<core> self, event e, std::size_t times) {
    while (self->count(e) < times)
      co_await self->changed_.wait();
  }
  static task<> passed(std::shared_ptr<core> self, way w, std::uint64_t bytes) {
    while (self->bytes(w) < bytes)
      co_await self->changed_.wait();
  }

private:
  struct link {
    link(tcp::socket s, const faults &f)
        : plan(f), client(std::move(s)), server(client.get_executor()),
          changed(client.get_executor()) {}
    void close() {
      boost::system::error_code ignored;
      closed = true;
      client.close(ignored);
      server.close(ignored);
      changed.tell();
    }

    faults plan;
    tcp::socket client;
    tcp::socket server;
    change changed;                // of stalled, closed
    std::array<bool, 2> stalled{}; // by way
    bool &stalled_of(way w) { return stalled[static_cast<std::size_t>(w)]; }
    bool discarding = false; // a FIN was sent to both; what still comes is dropped
    bool closed = false;
    unsigned pumps = 0;
  };

  void tell(event e) {
    ++counts_[static_cast<std::size_t>(e)];
    changed_.tell();
  }
  void cut(link &l, ending how) {
    if (l.closed || l.discarding)
      return;
    boost::system::error_code ignored;
    if (how == ending::reset) {
      for (auto *s : {&l.client, &l.server})
        s->set_option(asio::socket_base::linger(true, 0), ignored);
      l.close();
    } else {
      l.discarding = true;
      for (auto *s : {&l.client, &l.server})
        s->shutdown(tcp::socket::shutdown_send, ignored);
      l.changed.tell();
    }
    tell(event::cut);
  }
  void stall(link &l) {
    if (std::exchange(l.stalled, {true, true}) != std::array{true, true})
      tell(event::stalled);
  }
  void over(const std::shared_ptr<link> &l) {
    l->close();
    std::erase(links_, l);
    tell(event::ended);
  }

  static task<> accept(std::shared_ptr<core> self, unsigned listening) {
    for (;;) {
      boost::system::error_code ec;
      auto socket =
          co_await self->acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, ec));
      if (listening != self->listening_)
        co_return;
      if (ec)
        continue;
      faults f = self->always_;
      if (!self->next_.empty()) {
        f = self->next_.front();
        self->next_.pop_front();
      }
      auto l = std::make_shared<link>(std::move(socket), f);
      self->links_.push_back(l);
      self->tell(event::accepted);
      asio::co_spawn(self->executor_, serve(self, std::move(l)), asio::detached);
    }
  }

  static task<> serve(std::shared_ptr<core> self, std::shared_ptr<link> l) {
    boost::system::error_code ec;
    l->client.set_option(tcp::no_delay(true), ec);
    if (l->plan.first == welcome::reset) {
      self->cut(*l, ending::reset);
      self->over(l);
      co_return;
    }
    if (l->plan.first == welcome::black_hole) {
      co_await swallow(l->client);
      self->over(l);
      co_return;
    }
    co_await l->server.async_connect({asio::ip::address_v4::loopback(), self->to_},
                                     asio::redirect_error(asio::use_awaitable, ec));
    if (ec || l->closed) {
      self->cut(*l, ending::reset);
      self->over(l);
      co_return;
    }
    l->server.set_option(tcp::no_delay(true), ec);
    l->pumps = 2;
    asio::co_spawn(self->executor_, pump(self, l, way::up), asio::detached);
    asio::co_spawn(self->executor_, pump(self, l, way::down), asio::detached);
  }

  static task<> swallow(tcp::socket &from) {
    std::array<char, 512> bytes;
    boost::system::error_code ec;
    while (!ec)
      co_await from.async_read_some(asio::buffer(bytes),
                                    asio::redirect_error(asio::use_awaitable, ec));
  }

  static task<> pump(std::shared_ptr<core> self, std::shared_ptr<link> l, way w) {
    co_await flow(*self, *l, w);
    if (--l->pumps == 0)
      self->over(l);
  }

  static task<> flow(core &self, link &l, way w) {
    const bool up = w == way::up;
    auto &from = up ? l.client : l.server;
    auto &to = up ? l.server : l.client;
    const auto cut_at = up ? l.plan.cut_up : l.plan.cut_down;
    std::size_t done = 0;
    std::vector<char> bytes(chunk);
    for (;;) {
      const auto stall_at = up ? l.plan.stall_up : l.plan.stall_down;
      if (done == stall_at)
        self.stall(l);
      while (l.stalled_of(w) && !l.closed && !l.discarding)
        co_await l.changed.wait();
      if (l.closed)
        co_return;
      auto most = std::min(chunk, done < stall_at ? stall_at - done : chunk);
      const auto rate = l.plan.bytes_per_second;
      if (rate != 0)
        most = std::min(most, std::max<std::size_t>(rate / portions_per_second, 1));
      boost::system::error_code ec;
      const auto n = co_await from.async_read_some(asio::buffer(bytes.data(), most),
                                                   asio::redirect_error(asio::use_awaitable, ec));
      // What was read before a stall waits here.
      while (l.stalled_of(w) && !l.closed && !l.discarding)
        co_await l.changed.wait();
      if (l.closed)
        co_return;
      if (ec == asio::error::eof) {
        boost::system::error_code ignored;
        to.shutdown(tcp::socket::shutdown_send, ignored);
        co_return;
      }
      if (ec) { // a reset: the other side gets one, too
        boost::system::error_code ignored;
        to.set_option(asio::socket_base::linger(true, 0), ignored);
        l.close();
        co_return;
      }
      if (l.discarding)
        continue;
      const auto passing = std::min(n, cut_at - done);
      co_await asio::async_write(to, asio::buffer(bytes.data(), passing),
                                 asio::redirect_error(asio::use_awaitable, ec));
      if (ec) {
        l.close();
        co_return;
      }
      done += passing;
      self.bytes_[static_cast<std::size_t>(w)] += passing;
      if (done == cut_at)
        self.cut(l, l.plan.how);
      self.changed_.tell();
      if (rate != 0 && !l.closed) {
        asio::steady_timer pause(self.executor_, std::chrono::nanoseconds(1'000'000'000) /
                                                     static_cast<std::int64_t>(rate) *
                                                     static_cast<std::int64_t>(passing));
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      }
    }
  }

  asio::any_io_executor executor_;
  std::uint16_t to_;
  tcp::socket port_keeper_;
  tcp::acceptor acceptor_;
  change changed_;
  unsigned listening_ = 0; // which listening this is: an accept of an earlier one ends
  std::deque<faults> next_;
  faults always_;
  std::vector<std::shared_ptr<link>> links_;
  std::array<std::size_t, 4> counts_{};
  std::array<std::uint64_t, 2> bytes_{};
};

fault_proxy::fault_proxy(const asio::any_io_executor &executor, std::uint16_t to)
    : core_(std::make_shared<core>(executor, to)) {
  core_->begin();
}
fault_proxy::~fault_proxy() { core_->end(); }

std::uint16_t fault_proxy::port() const { return core_->port(); }
std::string fault_proxy::url(const std::string &target) const {
  return "ws://127.0.0.1:" + std::to_string(port()) + target;
}
void fault_proxy::next(const faults &f) { core_->next(f); }
void fault_proxy::always(const faults &f) { core_->always(f); }
void fault_proxy::cut_all(ending how) { core_->cut_all(how); }
void fault_proxy::stall_all() { core_->stall_all(); }
void fault_proxy::stall_all(way only) { core_->stall_all(only); }
void fault_proxy::resume_all() { core_->resume_all(); }
void fault_proxy::throttle_all(std::size_t rate) { core_->throttle_all(rate); }
void fault_proxy::refuse() { core_->refuse(); }
void fault_proxy::listen_again() {
  core_->listen();
  core_->begin();
}
std::size_t fault_proxy::count(event e) const { return core_->count(e); }
std::uint64_t fault_proxy::bytes(way w) const { return core_->bytes(w); }
task<> fault_proxy::seen(event e, std::size_t times) { return core::seen(core_, e, times); }
task<> fault_proxy::passed(way w, std::uint64_t bytes) { return core::passed(core_, w, bytes); }

} // namespace test_support
