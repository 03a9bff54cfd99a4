#include <chorus/server/pages.hpp>

#include <chorus/server/body_source.hpp>
#include <chorus/server/http_date.hpp>
#include <chorus/server/request_data.hpp>
#include <chorus/server/secrets.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;
using transport::io_status;
using phase = http_visit::phase;

namespace {

constexpr header_field offer_websocket[] = {
    {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Version", "13"}};

// RFC 9110 section 6.6.1. A Date that is there stays.
void insert_date(std::string &answer) {
  const auto end = answer.find("\r\n");
  const auto head = std::string_view(answer).substr(0, answer.find("\r\n\r\n"));
  if (end != answer.npos && head.find("\r\nDate: ") == head.npos)
    answer.insert(end + 2, "Date: " + std::string(http_date_now()) + "\r\n");
}

response failed_page() { return {500, "The server failed to make this page.\n"}; }

} // namespace

task<request_arrival> read_on(server_shard &owner, transport::stream &carrier, http_reader &reader,
                              http_progress progress, time_point deadline) {
  while (progress == http_progress::need_more) {
    // The shard's buffer is lent for as long as nothing is waited for.
    constexpr std::size_t at_once = 16 * 1024;
    auto &shared = owner.home().read_buffer();
    const auto got = carrier.read_some({shared.data(), std::min(at_once, shared.capacity())});
    if (got.status == io_status::ok)
      progress = reader.feed({reinterpret_cast<const char *>(shared.data()), got.bytes});
    else if (got.status != io_status::would_block)
      co_return request_arrival::ended;
    else if (!co_await transport::wait_ready(carrier, transport::ready_read, deadline))
      co_return request_arrival::late;
    if (progress == http_progress::need_more && owner.home().now() >= deadline)
      co_return request_arrival::late; // bytes that keep trickling in
  }
  co_return progress == http_progress::failed ? request_arrival::bad : request_arrival::request;
}

std::string page_visit::refusal_of(const http_head &head, const route_match &match,
                                   bool keep) const {
  const bool head_only = head.method() == "HEAD";
  const header_field allow[] = {{"Allow", match.allow}};
  switch (match.what) {
  case route_match::verdict::found:
    return {};
  case route_match::verdict::bad_escape:
    return write_refusal(400, "The path has a malformed percent escape.", {}, keep, head_only);
  case route_match::verdict::other_kind:
    if (head_only || head.method() == "GET")
      return write_refusal(426, "This path speaks WebSocket: connect with ws:// or wss://.",
                           offer_websocket, keep, head_only);
    return write_refusal(405, "This path speaks WebSocket, which begins with GET.", allow, keep);
  case route_match::verdict::other_method:
    return write_refusal(405, "This path does not take the method; it takes " + match.allow + ".",
                         allow, keep, head_only);
  case route_match::verdict::options:
    return write_response({.status = 204, .fields = allow, .keep_alive = keep}).text;
  case route_match::verdict::not_found:
    break;
  }
  if (head.method() == "OPTIONS" && head.target() == "*") // of the server as such
    return write_response({.status = 204, .keep_alive = keep}).text;
  return write_refusal(404, "There is nothing on this path.", {}, keep, head_only);
}

task<page_visit::outcome> page_visit::answer(http_head head) {
  const bool head_only = head.method() == "HEAD";
  const auto may_keep = [&] {
    return !last_ && reader_.keep_alive() && head.version() == 11 && !owner_.stopping();
  };
  bool keep = may_keep();
  auto match = setup_.routes.find(head, route_kind::page);
  std::string refusal;
  if (const auto hosts = head.count("Host"); hosts > 1 || (hosts == 0 && head.version() == 11)) {
    keep = false;
    refusal =
        write_refusal(400, "The request needs exactly one Host header (RFC 9112 section 3.2).", {},
                      keep, head_only);
  } else {
    refusal = refusal_of(head, match, keep);
  }
  if (refusal.empty() && match.guard)
    if (auto told = (*match.guard)(head)) {
      keep = keep && !reader_.body_follows(); // which nobody who is turned away needs to send
      refusal = write_response(*told, head_only, keep).text;
    }

  const bool refused = !refusal.empty();
  if (refused && keep && reader_.expects_continue()) {
    keep = false; // the body may come or not: what follows could not be told from it
    refusal = refusal_of(head, match, keep);
  }
  // What is refused need not be read when the connection ends anyway.
  if (reader_.body_follows() && (keep || !refused)) {
    const auto taken = co_await take_body(!refused, head_only);
    if (taken != outcome::next)
      co_return taken;
  }
  if (refused) {
    insert_date(refusal);
    const bool sent = co_await send(refusal);
    co_return !sent ? outcome::gone : keep ? outcome::next : outcome::last;
  }

  keep = may_keep(); // `head` goes with the request
  const auto target = match.target;
  const auto *make = match.page;
  auto r =
      make_request(std::move(head), std::move(match), client_, tls_, nullptr, reader_.take_body());
  auto page = co_await make_page(std::move(r), target, make);
  // The page may have been resumed in the midst of some session's read turn; leave it.
  co_await asio::post(owner_.home().executor(), asio::use_awaitable);
  keep = keep && !owner_.stopping();
  auto written = write_response(page, head_only, keep);
  if (!written.complete) {
    failed(*target, "it set a header with a malformed name or value");
    page = failed_page();
    written = write_response(page, head_only, keep);
  }
  const bool sent = co_await send_response(std::move(page), std::move(written.text), head_only);
  co_return !sent ? outcome::gone : keep ? outcome::next : outcome::last;
}

// `next` when all of it is there.
task<page_visit::outcome> page_visit::take_body(bool keep_it, bool head_only) {
  const auto deadline = owner_.home().now() + setup_.options.body_timeout;
  visit_.at = phase::reading;
  if (reader_.expects_continue() && !co_await send("HTTP/1.1 100 Continue\r\n\r\n"))
    co_return outcome::gone;
  const auto begun = reader_.read_body(keep_it);
  const auto arrived = co_await read_on(owner_, carrier_, reader_, begun, deadline);
  visit_.at = phase::working;
  if (arrived == request_arrival::request)
    co_return outcome::next;
  owner_.count.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
  if (arrived == request_arrival::ended)
    co_return outcome::gone;
  auto answer =
      arrived == request_arrival::late
          ? write_refusal(408, "The request body did not arrive in time.", {}, false, head_only)
          : write_refusal(reader_.status(), reader_.reason(), {}, false, head_only);
  const bool sent = co_await send(answer);
  co_return sent ? outcome::last : outcome::gone;
}

task<response> page_visit::make_page(request r, std::shared_ptr<const chorus::detail::route> target,
                                     const page_handler *make) {
  std::string why;
  const request asked = r; // what is said of a failure may quote it
  try {
    auto page = co_await (*make)(std::move(r));
    if (page.status() >= 200 && page.status() <= 599)
      co_return page;
    why = "it answered with status " + std::to_string(page.status());
  } catch (const std::exception &x) {
    if (visit_.interrupted || visit_.evicted)
      throw;
    why = x.what();
  } catch (...) {
    why = "an exception of unknown type";
  }
  failed(*target, without_secrets(why, asked.core()->head));
  co_return failed_page();
}

void page_visit::failed(const chorus::detail::route &target, const std::string &why) {
  owner_.count.handler_failures.fetch_add(1, std::memory_order_relaxed);
  setup_.report("The page " + target.pattern + " failed: " + why, nullptr, "page_failed",
                visit_.id);
}

// `text`: the answer up to what its source gives.
task<bool> page_visit::send_response(response page, std::string text, bool head_only) {
  if (page.header("Date").empty())
    insert_date(text);
  const auto source = page.source();
  const bool bodiless = !source || head_only || page.status() == 204 || page.status() == 304;
  const std::uint64_t size = bodiless ? 0 : source->size();
  std::string scratch(static_cast<std::size_t>(std::min<std::uint64_t>(size, body_source::piece)),
                      '\0');
  for (std::uint64_t done = 0; done < size;) {
    const auto room =
        static_cast<std::size_t>(std::min<std::uint64_t>(size - done, scratch.size()));
    const auto piece = source->read(done, {scratch.data(), room});
    if (piece.empty())
      co_return false;
    if (done == 0)
      text.append(piece); // in one segment where they fit
    const bool sent = co_await send(done == 0 ? std::string_view(text) : piece);
    if (!sent)
      co_return false;
    done += piece.size();
    // A peer that takes as fast as it is sent to must not keep the others waiting.
    co_await asio::post(owner_.home().executor(), asio::use_awaitable);
  }
  if (size > 0)
    co_return true;
  const bool sent = co_await send(text);
  co_return sent;
}

// A peer that does not read must not hold its place for as long as it likes.
task<bool> page_visit::send_piece(std::string_view text, time_point deadline) {
  while (!text.empty()) {
    const iovec piece{const_cast<char *>(text.data()), text.size()};
    const auto put = carrier_.write_some({&piece, 1});
    if (put.status == io_status::failed)
      co_return false;
    if (put.status == io_status::ok) {
      text.remove_prefix(put.bytes);
      continue;
    }
    struct meanwhile {
      http_visit &visit;
      phase before = visit.at.exchange(phase::stalled);
      ~meanwhile() { visit.at = before; }
    } waiting{visit_};
    const bool ready = co_await transport::wait_ready(carrier_, transport::ready_write, deadline);
    if (!ready)
      co_return false;
  }
  co_return true;
}

// The text must stay valid.
task<bool> page_visit::send(std::string_view text) {
  while (!text.empty()) {
    const auto piece = text.substr(0, body_source::piece);
    text.remove_prefix(piece.size());
    const auto deadline = owner_.home().now() + setup_.options.send_timeout;
    const bool sent = co_await send_piece(piece, deadline);
    if (!sent)
      co_return false;
  }
  co_return true;
}

} // namespace chorus::detail
