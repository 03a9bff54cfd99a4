// A connection from its first byte to its upgrade or its end: what it begins with, its requests, and
// the answers that are no sessions.

#include <chorus/server/http_connection.hpp>

#include <chorus/server/proxy_protocol.hpp>
#include <chorus/transport/tls.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/error.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;
using transport::io_status;
using phase = http_visit::phase;

void http_connection::failed(std::string_view why) noexcept {
  owner_.count.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
  owner_.log_failed_handshake(visit_.id, carrier_.get(), why);
}

task<> http_connection::run() {
  set_deadline();
  bool first = true;
  bool interrupted = false;
  try {
    const bool proxied = co_await read_proxy_header();
    if (!proxied)
      co_return;
    if (setup_.tls && !co_await secure()) {
      failed("tls");
      co_return;
    }
    for (;; first = false) {
      visit_.at = first ? phase::reading : phase::between;
      auto arrived = co_await read_request(first);
      const bool wants_session =
          arrived == request_arrival::request && protocol::is_upgrade(reader_.head().fields());
      if (wants_session && reader_.body_follows())
        arrived = co_await read_past_body();
      visit_.at = phase::working;
      if (arrived == request_arrival::ended) {
        if (first || reader_.begun())
          failed("gone");
        co_return;
      }
      if (arrived == request_arrival::late) {
        if (first || reader_.begun())
          failed("late");
        if (reader_.begun())
          say_at_once(write_refusal(408, "The request did not arrive in time."));
        co_return;
      }
      set_deadline(); // of the answer
      if (arrived == request_arrival::bad) {
        failed("malformed");
        const bool head_only = reader_.head().method() == "HEAD";
        co_await refuse(write_refusal(reader_.status(), reader_.reason(), {}, false, head_only));
        co_return;
      }
      auto head = reader_.take_head();
      if (wants_session) {
        co_await upgrade(std::move(head));
        co_return;
      }
      if (!co_await answer_page(std::move(head)))
        co_return;
      set_deadline(); // of the next request
    }
  } catch (const boost::system::system_error &x) {
    if (x.code() != asio::error::operation_aborted)
      throw;
    interrupted = true;
  }
  if (interrupted && visit_.evicted) {
    owner_.count.handshakes_evicted.fetch_add(1, std::memory_order_relaxed);
    owner_.log_failed_handshake(visit_.id, carrier_.get(), "evicted");
    if (visit_.at == phase::reading)
      say_at_once(write_refusal(503, "This server needs the place for others: a request has to "
                                     "arrive sooner."));
    co_return;
  }
  if (interrupted && visit_.at == phase::reading) {
    refused(refusal::unavailable, 503);
    say_at_once(write_refusal(503, stopping_sentence));
  }
}

// False when there has to be one and is none, or a bad one.
task<bool> http_connection::read_proxy_header() {
  peer_ = carrier_->remote_address();
  const auto how = setup_.options.proxy;
  if (how == proxy_protocol::off ||
      (how == proxy_protocol::trusted && !setup_.proxies.trusts(peer_)))
    co_return true;
  proxy_header_reader reader;
  auto progress = proxy_header_reader::progress::need_more;
  while (progress == proxy_header_reader::progress::need_more) {
    auto &shared = owner_.home().read_buffer();
    const auto got =
        carrier_->read_some({shared.data(), std::min(reader.wanted(), shared.capacity())});
    if (got.status == io_status::ok)
      progress = reader.feed({reinterpret_cast<const char *>(shared.data()), got.bytes});
    else if (got.status != io_status::would_block)
      progress = proxy_header_reader::progress::failed;
    else if (!co_await transport::wait_ready(*carrier_, transport::ready_read, deadline_))
      progress = proxy_header_reader::progress::failed;
    if (progress == proxy_header_reader::progress::need_more && owner_.home().now() >= deadline_)
      progress = proxy_header_reader::progress::failed;
  }
  if (progress == proxy_header_reader::progress::failed) {
    refused(refusal::proxy_header, 0);
    co_return false;
  }
  if (!reader.source().empty()) {
    peer_ = reader.source();
    setup_.handshakes.rename(visit_, address_key(peer_));
  }
  co_return true;
}

task<bool> http_connection::secure() {
  auto made = transport::make_tls_server_stream(std::move(carrier_), owner_.tls());
  if (!made)
    co_return false;
  carrier_ = std::move(*made);
  const auto began = owner_.home().now();
  const auto done = co_await transport::tls_handshake(*carrier_, deadline_);
  if (done)
    tls_ = std::make_shared<const tls_info>(transport::tls_info_of(*carrier_));
  owner_.count_tls(tls_.get());
  const auto took = owner_.home().now() - began;
  if (done)
    owner_.measures.tls_seconds.observe(in_seconds(took));
  owner_.log_tls(visit_.id, *carrier_, done, took);
  co_return done.has_value();
}

task<request_arrival> http_connection::read_request(bool first) {
  const auto begun = first ? http_progress::need_more : reader_.next();
  return read_on(owner_, *carrier_, reader_, begun, deadline_);
}

task<request_arrival> http_connection::read_past_body() {
  return read_on(owner_, *carrier_, reader_, reader_.read_body(false), deadline_);
}

// False when the connection ends.
task<bool> http_connection::answer_page(http_head head) {
  const std::size_t most = setup_.options.max_requests;
  const bool last = ++requests_ == most;
  page_visit page(owner_, visit_, *carrier_, reader_, last, client_of(head), tls_);
  const auto done = co_await page.answer(std::move(head));
  set_deadline();
  if (done == page_visit::outcome::last)
    co_await refuse({});
  co_return done == page_visit::outcome::next;
}

task<bool> http_connection::write(std::string text) {
  const auto written =
      co_await transport::write_all(*carrier_, text, deadline_, error::upgrade_timeout);
  co_return written.has_value();
}

task<> http_connection::refuse(std::string text) {
  permit_.release();
  if (!co_await write(std::move(text)))
    co_return;
  // Bytes of the peer that are still unread when the socket closes would reset the connection and
  // take the answer with them.
  carrier_->shutdown_write();
  visit_.at = phase::between;
  const std::chrono::milliseconds patience(owner_.stopping() ? 100 : 2000);
  constexpr std::size_t most = std::size_t{2} << 20;
  const auto until = std::min(deadline_, owner_.home().now() + patience);
  for (std::size_t thrown_away = 0; thrown_away < most && owner_.home().now() < until;) {
    auto &shared = owner_.home().read_buffer();
    const auto got = carrier_->read_some({shared.data(), shared.capacity()});
    if (got.status == io_status::ok)
      thrown_away += got.bytes;
    else if (got.status != io_status::would_block)
      co_return;
    else if (!co_await transport::wait_ready(*carrier_, transport::ready_read, until))
      co_return;
  }
}

void http_connection::say_at_once(std::string_view text) noexcept {
  const iovec piece{const_cast<char *>(text.data()), text.size()};
  if (carrier_ && carrier_->write_some({&piece, 1}).status == io_status::ok)
    carrier_->shutdown_write();
}

task<> serve_connection(std::shared_ptr<server_shard> owner, std::shared_ptr<http_visit> visit,
                        std::unique_ptr<transport::stream> carrier) {
  http_connection v(*owner, *visit, std::move(carrier));
  try {
    co_await v.run();
  } catch (const std::exception &x) {
    owner->count.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
    owner->setup()->report(x.what(), nullptr, "failed", visit->id);
  }
}

} // namespace chorus::detail
