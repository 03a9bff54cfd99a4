// A connection while it speaks HTTP. The coroutine and all it holds are gone once a session is open:
// an idle session keeps its own state, its request and its handler, nothing of the handshake.

#include <chorus/base/redact.hpp>
#include <chorus/server/authorize.hpp>
#include <chorus/server/pages.hpp>
#include <chorus/server/proxy_protocol.hpp>
#include <chorus/server/request_data.hpp>
#include <chorus/server/resume_peer.hpp>
#include <chorus/server/server_shard.hpp>
#include <chorus/server/upgrade.hpp>
#include <chorus/transport/tls.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;
using transport::io_status;
using phase = http_visit::phase;

namespace {

constexpr std::string_view stopping_sentence = "This server is stopping; try again elsewhere or "
                                               "later.";
constexpr std::string_view draining_sentence = "This server hands its clients over to another; try "
                                               "again after the time that Retry-After gives.";

class visitor {
public:
  visitor(server_shard &owner, http_visit &visit, std::unique_ptr<transport::stream> carrier)
      : owner_(owner), setup_(*owner.setup()), visit_(visit), carrier_(std::move(carrier)),
        reader_({.max_header_bytes = setup_.options.max_header_bytes,
                 .max_body = setup_.options.max_body_bytes}) {}

  task<> run();

private:
  task<bool> read_proxy_header();
  task<bool> secure();
  std::string client_of(const http_head &head) const {
    const auto fields = head.fields();
    return client_behind(peer_, fields, setup_.proxies);
  }
  bool origin_passes(const http_head &head) const;
  task<request_arrival> read_request(bool first);
  task<request_arrival> read_past_body();
  task<> upgrade(http_head head);
  enum class hook_wait : unsigned char { over, late, gone, interrupted };
  task<std::optional<chorus::admission>> authorise(const http_head &head, const route_match &match);
  task<hook_wait> await_hook(std::shared_ptr<hook_run> run);
  task<> end_hook(std::shared_ptr<hook_run> run, hook_wait why, const http_head &head,
                  const std::string &pattern);
  task<> hook_failed(std::string why, const http_head &head, const std::string &pattern);
  bool read_ahead() noexcept;
  void complain(std::string what, const http_head &head);
  task<bool> answer_page(http_head head);
  task<bool> write(std::string text);
  // Says why, and waits a little for the peer to read it and go.
  task<> refuse(std::string text);
  void open_session(http_head head, route_match match, std::string remote, session_setup &made,
                    const chorus::admission &admitted, std::string_view lacking);
  void say_at_once(std::string_view text) noexcept;
  std::unique_ptr<session_terms> make_terms(const chorus::admission &admitted);
  void set_deadline() noexcept {
    deadline_ = owner_.home().now() + setup_.options.handshake_timeout;
  }
  // Status 101: it is upgraded, and then closed. An empty target: no request was read.
  void refused(refusal why, unsigned status, std::string_view target = {}) noexcept {
    owner_.refused(why, status, visit_.id, carrier_.get(), target);
  }
  void failed(std::string_view why) noexcept;

  server_shard &owner_;
  server_setup &setup_;
  http_visit &visit_;
  std::unique_ptr<transport::stream> carrier_;
  http_reader reader_;
  std::shared_ptr<const tls_info> tls_; // once the handshake is done
  time_point deadline_{};
  connection_permit permit_;
  std::string peer_;  // whose connection it is, as far as that can be known without a request
  std::string early_; // of a peer that did not wait for the answer to its upgrade
  std::size_t requests_ = 0;
};

void visitor::failed(std::string_view why) noexcept {
  owner_.count.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
  owner_.log_failed_handshake(visit_.id, carrier_.get(), why);
}

task<> visitor::run() {
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
        co_await refuse(write_refusal(reader_.status(), reader_.reason()));
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
task<bool> visitor::read_proxy_header() {
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

task<bool> visitor::secure() {
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

task<request_arrival> visitor::read_request(bool first) {
  const auto begun = first ? http_progress::need_more : reader_.next();
  return read_on(owner_, *carrier_, reader_, begun, deadline_);
}

task<request_arrival> visitor::read_past_body() {
  return read_on(owner_, *carrier_, reader_, reader_.read_body(false), deadline_);
}

// False when the connection ends.
task<bool> visitor::answer_page(http_head head) {
  const std::size_t most = setup_.options.max_requests;
  const bool last = ++requests_ == most;
  page_visit page(owner_, visit_, *carrier_, reader_, last, client_of(head), tls_);
  const auto done = co_await page.answer(std::move(head));
  set_deadline();
  if (done == page_visit::outcome::last)
    co_await refuse({});
  co_return done == page_visit::outcome::next;
}

task<> visitor::upgrade(http_head head) {
  const auto fields = head.fields();
  const auto check =
      protocol::check_upgrade_request(head.method(), head.version(), head.target(), fields,
                                      {.max_header_bytes = setup_.options.max_header_bytes});
  std::string answer; // of a refusal
  auto why = refusal::unavailable;
  unsigned status = 503;
  const auto turn_down = [&](refusal reason, unsigned code, std::string_view sentence,
                             std::span<const header_field> more = {}) {
    why = reason;
    status = code;
    answer = write_refusal(code, sentence, more);
  };
  route_match match;
  std::string_view lacking; // what there is none left of, as a sentence
  auto lacks = refusal::limit;
  const std::string client = client_of(head);
  if (!check) {
    turn_down(refusal::malformed, check.status, make_error_code(check.why).message(),
              check.headers);
  } else {
    match = setup_.routes.find(head, route_kind::session);
    if (match.what == route_match::verdict::bad_escape)
      turn_down(refusal::malformed, 400, "The path has a malformed percent escape.");
    else if (match.what == route_match::verdict::other_kind)
      turn_down(refusal::not_found, 404, "This path answers plain HTTP only, not WebSocket.");
    else if (match.what == route_match::verdict::not_found)
      turn_down(refusal::not_found, 404, "There is nothing on this path.");
    else if (!origin_passes(head))
      turn_down(refusal::origin, 403,
                "Pages of this origin may not connect here; the server's allowed_origins or "
                "allow_origin can let them.");
    else if (owner_.stopping())
      turn_down(refusal::unavailable, 503, stopping_sentence);
    else if (owner_.draining()) {
      const header_field retry[] = {{"Retry-After", owner_.retry_after()}};
      turn_down(refusal::draining, 503, draining_sentence, retry);
    } else if (!permit_.take(setup_)) {
      lacking = "This server has as many connections as it takes; try again later.";
    } else if (!permit_.take_address(client)) {
      lacking = "Your address has as many connections here as it may; close one, or try again "
                "later.";
      lacks = refusal::address_limit;
    }
  }
  if (!answer.empty()) {
    refused(why, status, head.target());
    co_await refuse(std::move(answer));
    co_return;
  }

  chorus::admission admitted;
  session ousted;
  if (lacking.empty() && hook_of(owner_, *match.target)) {
    auto verdict = co_await authorise(head, match);
    if (!verdict)
      co_return;
    admitted = *std::move(verdict);
    const auto &offered = check.subprotocols;
    if (const auto &chosen = admitted.subprotocol();
        !chosen.empty() && std::find(offered.begin(), offered.end(), chosen) == offered.end()) {
      co_await hook_failed("it chose the subprotocol " + chosen +
                               ", which the client has not offered",
                           head, match.target->pattern);
      co_return;
    }
    if (admitted.what() == chorus::admission::verdict::accepted &&
        !permit_.take_user(admitted.user(), ousted)) {
      lacking = "This user has as many connections here as it may; close one, or try again later.";
      lacks = refusal::user_limit;
    }
  }
  if (!lacking.empty()) {
    permit_.release();
    const bool upgraded = setup_.options.on_limit != over_limit::refuse_upgrade;
    status = lacks == refusal::limit ? 503 : 429;
    refused(lacks, upgraded ? 101 : status, head.target());
    if (!upgraded) {
      static constexpr header_field retry[] = {{"Retry-After", "5"}};
      co_await refuse(write_refusal(status, lacking, retry));
      co_return;
    }
  }
  if (ousted) {
    owner_.count.users_ousted.fetch_add(1, std::memory_order_relaxed);
    ousted.start_close(close_code::policy_violation,
                       "this user has connected elsewhere, and may only so often");
  }

  session_setup made;
  made.id = visit_.id;
  made.options = {owner_.setup(), &setup_.options.session};
  const auto &wanted = admitted.subprotocol();
  made.subprotocol = wanted.empty()
                         ? choose_subprotocol(setup_.options.subprotocols, check.subprotocols)
                         : std::string_view(wanted);
  if (setup_.options.resume && (wanted.empty() || wanted == protocol::resume_subprotocol) &&
      std::find(check.subprotocols.begin(), check.subprotocols.end(),
                protocol::resume_subprotocol) != check.subprotocols.end()) {
    made.subprotocol = protocol::resume_subprotocol;
    made.envelope = std::make_unique<resume_peer>(setup_.rooms->resume());
  }
  std::string extensions;
  if (made.options->compression.enabled)
    made.compression =
        protocol::accept_offer(check.extensions, made.options->compression, extensions);
  if (!co_await write(write_switching(check.key, made.subprotocol, extensions))) {
    failed("gone");
    co_return;
  }
  if (client != carrier_->remote_address())
    made.remote = client;
  made.carrier = std::move(carrier_);
  open_session(std::move(head), std::move(match), client, made, admitted, lacking);
}

bool visitor::origin_passes(const http_head &head) const {
  const auto count = head.count("Origin");
  if (count == 0)
    return true;
  const auto origin = head.find("Origin");
  if (count > 1)
    return false;
  if (origin_allowed(origin, head.find("Host"), setup_.options.allowed_origins))
    return true;
  if (!setup_.options.allow_origin)
    return false;
  try {
    return setup_.options.allow_origin(origin);
  } catch (const std::exception &x) {
    setup_.report(std::string("allow_origin failed, and the origin was refused: ") + x.what(),
                  nullptr, "authorization_failed", visit_.id);
  } catch (...) {
    setup_.report("allow_origin failed, and the origin was refused", nullptr,
                  "authorization_failed", visit_.id);
  }
  return false;
}

// Nothing when the request has been answered, or its peer has gone.
task<std::optional<chorus::admission>> visitor::authorise(const http_head &head,
                                                          const route_match &match) {
  const auto pattern = match.target->pattern;
  visit_.at = phase::asking;
  auto run = start_hook(owner_.shared_from_this(), match.target,
                        make_request(head, match, client_of(head), tls_));
  const auto how = co_await await_hook(run);
  if (how != hook_wait::over) {
    // An interrupted coroutine could await nothing any more.
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await end_hook(std::move(run), how, head, pattern);
    co_return std::nullopt;
  }
  visit_.at = phase::working;
  if (run->thrown) {
    std::string what = "an exception of unknown type";
    try {
      std::rethrow_exception(run->thrown);
    } catch (const std::exception &x) {
      what = x.what();
    } catch (...) { // its name is all there is to say
    }
    co_await hook_failed(std::move(what), head, pattern);
    co_return std::nullopt;
  }
  if (run->answer->what() == chorus::admission::verdict::accepted)
    co_return std::move(run->answer);
  const bool closed = run->answer->what() == chorus::admission::verdict::closed;
  refused(refusal::unauthorized, closed ? 101 : run->answer->answer().status(), head.target());
  if (closed)
    co_return std::move(run->answer);
  auto answer = write_response(run->answer->answer(), false, false);
  if (!answer.complete)
    co_await hook_failed("it set a header with a malformed name or value", head, pattern);
  else
    co_await refuse(std::move(answer.text));
  co_return std::nullopt;
}

task<> visitor::hook_failed(std::string why, const http_head &head, const std::string &pattern) {
  owner_.count.handler_failures.fetch_add(1, std::memory_order_relaxed);
  refused(refusal::other, 500, head.target());
  complain("The authorisation for " + pattern + " failed: " + why, head);
  co_await refuse(write_refusal(500, "The server failed to authorise this request."));
}

// Until the hook is over, its peer has gone, or the time is up.
task<visitor::hook_wait> visitor::await_hook(std::shared_ptr<hook_run> run) {
  constexpr std::size_t most_ahead = 64 * 1024;
  struct listening {
    hook_run &run;
    transport::stream &from;
    ~listening() {
      run.waiting = nullptr;
      from.listen(nullptr);
      from.set_interest(0);
    }
  };
  auto how = hook_wait::over;
  try {
    while (!run->over && how == hook_wait::over) {
      transport::waiter parked(owner_.home());
      listening until_told{*run, *carrier_};
      run->waiting = &parked;
      carrier_->listen(&parked);
      carrier_->set_interest(early_.size() < most_ahead ? transport::ready_read : 0U);
      if (!co_await parked.wait(deadline_))
        how = hook_wait::late;
      else if (!run->over && !read_ahead())
        how = hook_wait::gone;
    }
  } catch (const boost::system::system_error &x) {
    if (x.code() != asio::error::operation_aborted)
      throw;
    how = hook_wait::interrupted;
  }
  co_return how;
}

// False when the peer has gone.
bool visitor::read_ahead() noexcept {
  auto &shared = owner_.home().read_buffer();
  const auto got =
      carrier_->read_some({shared.data(), std::min<std::size_t>(16 * 1024, shared.capacity())});
  if (got.status == io_status::ok)
    early_.append(reinterpret_cast<const char *>(shared.data()), got.bytes);
  return got.status == io_status::ok || got.status == io_status::would_block;
}

// Answers for a hook that did not, and waits for its end: nothing of it is left running unknown.
task<> visitor::end_hook(std::shared_ptr<hook_run> run, hook_wait why, const http_head &head,
                         const std::string &pattern) {
  permit_.release();
  run->cancel.emit(asio::cancellation_type::terminal);
  if (why == hook_wait::gone) {
    failed("gone");
  } else if (why == hook_wait::interrupted) {
    refused(refusal::unavailable, 503, head.target());
    say_at_once(write_refusal(503, stopping_sentence));
  } else {
    refused(refusal::unavailable, 503, head.target());
    complain("The authorisation for " + pattern +
                 " was cancelled: it did not end within handshake_timeout",
             head);
    static constexpr header_field retry[] = {{"Retry-After", "5"}};
    deadline_ = owner_.home().now() + std::chrono::seconds(1);
    co_await refuse(write_refusal(503,
                                  "Whether this request is allowed could not be found out in time; "
                                  "try again later.",
                                  retry));
  }
  carrier_.reset();
  while (!run->over) {
    transport::waiter parked(owner_.home());
    run->waiting = &parked;
    co_await parked.wait(time_point::max());
    run->waiting = nullptr;
  }
}

// What user code says may quote the request's token.
void visitor::complain(std::string what, const http_head &head) {
  std::vector<std::string> held;
  for (const auto &field : head.fields())
    if (is_secret_name(field.name)) {
      held.emplace_back(field.value);
      if (const auto blank = field.value.find(' '); blank != field.value.npos)
        held.emplace_back(field.value.substr(blank + 1));
    }
  for (auto rest = split_target(head.target()).query; !rest.empty();) {
    const auto one = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const auto equals = std::min(one.find('='), one.size());
    if (equals == one.size() || !is_secret_name(one.substr(0, equals)))
      continue;
    held.emplace_back(one.substr(equals + 1));
    if (auto plain = percent_decode(one.substr(equals + 1), true))
      held.push_back(*std::move(plain));
  }
  const std::vector<std::string_view> secrets(held.begin(), held.end());
  setup_.report(redact_text(what, secrets), nullptr, "authorization_failed", visit_.id);
}

void visitor::open_session(http_head head, route_match match, std::string remote,
                           session_setup &made, const chorus::admission &admitted_as,
                           std::string_view lacking) {
  const std::string received = reader_.take_leftover() + early_;
  made.received = std::as_bytes(std::span(received));
  auto live = std::make_shared<live_session>();
  live->owner = &owner_;
  live->permit = std::move(permit_);
  made.observer = live.get();
  made.terms = make_terms(admitted_as);
  auto target = match.target;
  auto r =
      make_request(std::move(head), std::move(match), std::move(remote), tls_, admitted_as.who());
  made.origin = r.core();
  auto *meter = made.terms ? static_cast<shard_queues::meter *>(made.terms->meter.get()) : nullptr;
  auto s = make_session(std::move(made));
  if (meter)
    meter->watch(*s.core());
  owner_.begin_session(live, s);
  owner_.log_upgraded(s, *target);
  if (!lacking.empty()) {
    s.start_close(close_code::try_again_later, lacking);
    return;
  }
  if (owner_.stopping()) {
    s.start_close(close_code::going_away);
    return;
  }
  if (!live->permit.open(s)) {
    owner_.count.users_ousted.fetch_add(1, std::memory_order_relaxed);
    s.start_close(close_code::policy_violation,
                  "this user has connected elsewhere, and may only so often");
    return;
  }
  if (owner_.draining()) { // since this upgrade was agreed to
    s.start_close(close_code::service_restart, "retry-after=" + std::string(owner_.retry_after()));
    return;
  }
  if (admitted_as.what() == chorus::admission::verdict::closed) {
    s.start_close(admitted_as.code(), admitted_as.reason());
    return;
  }
  live->user_seat = setup_.rooms->admit(s);
  owner_.begin_handler(live, std::move(target), std::move(r));
}

// Null when there is nothing to keep for this session.
std::unique_ptr<session_terms> visitor::make_terms(const chorus::admission &admitted) {
  auto rate = make_inbound_rate(setup_.options.rate, owner_.home().now(), setup_.rates);
  if (admitted.user().empty() && !rate && !owner_.queues())
    return nullptr;
  auto terms = std::make_unique<session_terms>();
  terms->user = admitted.user();
  terms->rate = std::move(rate);
  if (owner_.queues())
    terms->meter = std::make_unique<shard_queues::meter>(owner_.queues());
  return terms;
}

task<bool> visitor::write(std::string text) {
  const auto written =
      co_await transport::write_all(*carrier_, text, deadline_, error::upgrade_timeout);
  co_return written.has_value();
}

task<> visitor::refuse(std::string text) {
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

void visitor::say_at_once(std::string_view text) noexcept {
  const iovec piece{const_cast<char *>(text.data()), text.size()};
  if (carrier_ && carrier_->write_some({&piece, 1}).status == io_status::ok)
    carrier_->shutdown_write();
}

} // namespace

task<> serve_connection(std::shared_ptr<server_shard> owner, std::shared_ptr<http_visit> visit,
                        std::unique_ptr<transport::stream> carrier) {
  visitor v(*owner, *visit, std::move(carrier));
  try {
    co_await v.run();
  } catch (const std::exception &x) {
    owner->count.handshakes_failed.fetch_add(1, std::memory_order_relaxed);
    owner->setup()->report(x.what(), nullptr, "failed", visit->id);
  }
}

} // namespace chorus::detail
