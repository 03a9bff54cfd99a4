// What becomes of a request for a session: a refusal, or the session.

#include <chorus/server/http_connection.hpp>

#include <chorus/server/request_data.hpp>
#include <chorus/server/resume_peer.hpp>
#include <chorus/server/upgrade.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::string_view draining_sentence = "This server hands its clients over to another; try "
                                               "again after the time that Retry-After gives.";

} // namespace

task<> http_connection::upgrade(http_head head) {
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
    answer = write_refusal(code, sentence, more, false, head.method() == "HEAD");
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
    } else if (setup_.rooms->node() && setup_.options.max_connections_per_user != 0 &&
               admitted.what() == chorus::admission::verdict::accepted &&
               !admitted.user().empty()) {
      auto claiming = claim_place(admitted.user(), ousted);
      const bool held = co_await std::move(claiming);
      if (!held) {
        lacking = "This user has as many connections as it may; close one, or try again later.";
        lacks = refusal::user_limit;
      }
    }
  }
  if (!lacking.empty()) {
    permit_.release();
    // Who does not answer the close stays for its close_timeout, so these are counted as well.
    const bool upgraded =
        setup_.options.on_limit != over_limit::refuse_upgrade && permit_.take_farewell(setup_);
    status = lacks == refusal::limit ? 503 : 429;
    refused(lacks, upgraded ? 101 : status, head.target());
    if (!upgraded) {
      static constexpr header_field retry[] = {{"Retry-After", "5"}};
      co_await refuse(write_refusal(status, lacking, retry));
      co_return;
    }
  }
  if (ousted)
    oust(ousted);

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

bool http_connection::origin_passes(const http_head &head) const {
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

void http_connection::open_session(http_head head, route_match match, std::string remote,
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
    oust(s);
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
std::unique_ptr<session_terms> http_connection::make_terms(const chorus::admission &admitted) {
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

// Among all servers. Whom the newcomer has ousted here goes before others are counted.
task<bool> http_connection::claim_place(std::string user, session &ousted) {
  if (ousted)
    oust(std::exchange(ousted, session()));
  auto taking = user_claims::take(setup_.rooms->shared_claims(), owner_.home().shared_from_this(),
                                  std::move(user), setup_.options.max_connections_per_user,
                                  setup_.options.on_user_limit);
  auto claim = co_await std::move(taking);
  const bool held = claim != nullptr;
  permit_.hold(std::move(claim));
  co_return held;
}

void http_connection::oust(session s) noexcept {
  owner_.count.users_ousted.fetch_add(1, std::memory_order_relaxed);
  s.start_close(close_code::policy_violation,
                "this user has connected elsewhere, and may only so often");
}

} // namespace chorus::detail
