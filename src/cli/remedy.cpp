#include "remedy.hpp"

#include "values.hpp"

#include <chorus/protocol/violation.hpp>

namespace cli {

namespace {

bool too_big(const chorus::failure &f) {
  using chorus::protocol::violation;
  return f == chorus::error::message_too_big || f.code() == violation::frame_too_big ||
         f.code() == violation::message_too_big || f.code() == violation::inflated_too_big;
}

std::string remedy(const chorus::failure &f, const connect_settings &s) {
  using chorus::error;
  if (f == error::lost && f.message().find('?') != std::string::npos)
    return ""; // it asks already what the user should look at
  if (f == error::lost && f.detail().where == chorus::stage::upgrade)
    return s.reconnect ? ""
                       : "; check that a WebSocket server listens there; --reconnect tries again";
  if (f == error::lost)
    return s.reconnect ? "" : "; --reconnect comes back after a loss";
  if (too_big(f))
    return "; --max-message takes larger ones (it is " + to_text(s.session.max_message) +
           "), or have the peer send smaller ones";
  if (f == error::upgrade_invalid)
    return "; check that the address is that of a WebSocket server";
  if (f == error::timed_out)
    return "; --pong-wait sets how long to wait (it is " + to_text(s.session.heartbeat.pong_wait) +
           "); --reconnect comes back";
  if (f == error::aborted)
    return "; the peer's log may say what kept it";
  if (status_of(f) == status::protocol && f != error::closed)
    return "; the fault is the peer's, tell who runs it";
  return "";
}

} // namespace

std::string explain(const chorus::failure &f, const connect_settings &s) {
  return sentence_of(f) + remedy(f, s);
}

} // namespace cli
