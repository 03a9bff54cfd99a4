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
  using chorus::stage;
  if (f == error::lost) {
    // A hint of its own says what is wrong with the place, where coming again changes nothing.
    if (s.reconnect || !f.detail().hint.empty())
      return "";
    const auto where = f.detail().where;
    return where == stage::proxy || where == stage::tls || where == stage::upgrade
               ? "; --reconnect tries again"
               : "; --reconnect comes back after a loss";
  }
  if (too_big(f))
    return "; --max-message takes larger ones (it is " + to_text(s.session.max_message) +
           "), or have the peer send smaller ones";
  if (f == error::timed_out)
    return "; --pong-wait sets how long to wait (it is " + to_text(s.session.heartbeat.pong_wait) +
           "); --reconnect comes back";
  if (f == error::aborted)
    return "; the peer's log may say what kept it";
  if (status_of(f) == status::protocol && f != error::closed &&
      chorus::explain(f).remedy == chorus::remedy::none)
    return "; the fault is the peer's, tell who runs it";
  return "";
}

} // namespace

std::string explain(const chorus::failure &f, const connect_settings &s) {
  return sentence_of(f) + remedy(f, s);
}

} // namespace cli
