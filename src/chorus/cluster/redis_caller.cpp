#include <chorus/cluster/redis_caller.hpp>

#include <utility>

namespace chorus::detail {

redis_caller::redis_caller(std::shared_ptr<const redis_ground> ground,
                           std::shared_ptr<redis_locator> locator, redis_caller_user &owner)
    : redis_line(std::move(ground), std::move(locator), ""), user_(&owner) {}

void redis_caller::send_own(std::initializer_list<std::string_view> words) {
  scratch_.clear();
  write_redis_command(scratch_, words);
  link()->send(scratch_);
  sent_call own;
  own.sent = now();
  own.end = link()->given();
  own.own = true;
  waiting_.push_back(std::move(own));
}

void redis_caller::send(redis_request call, bool asking) {
  if (asking)
    send_own({"ASKING"});
  scratch_.clear();
  if (call.script) {
    // The first use on a connection brings the text, so that NOSCRIPT never lets what is behind it overtake.
    const bool known = !known_.insert(call.script->sha).second;
    write_redis_count(scratch_, call.words.size() + (call.trail ? 3 : 2));
    write_redis_word(scratch_, known ? "EVALSHA" : "EVAL");
    write_redis_word(scratch_, known ? call.script->sha : call.script->text);
    for (const auto &word : call.words)
      write_redis_word(scratch_, word);
    if (call.trail)
      write_redis_word(scratch_, call.trail->only_at(present_.run) ? "1" : "0");
  } else {
    write_redis_command(scratch_, call.words);
  }
  link()->send(scratch_);
  if (scratch_.capacity() > 64 * 1024)
    scratch_ = std::string();
  const auto end = link()->given();
  waiting_.push_back({std::move(call), now(), end, false});
  user_->caller_sent(1);
}

void redis_caller::on_reply(redis_reply r) {
  const auto self = shared_from_this();
  const auto owner = this->owner();
  if (waiting_.empty())
    return give_up(failure(error::protocol, stage::open,
                           "Redis said something that it was not asked: " + r.text.substr(0, 100)));
  auto done = std::move(waiting_.front());
  waiting_.pop_front();
  if (!done.own) {
    proven();
    user_->call_replied(*this, std::move(done.call), std::move(r));
  }
  if (!closed())
    retire_if_idle();
}

void redis_caller::opened(const redis_welcome &welcome) {
  const auto self = shared_from_this();
  present_ = welcome.id;
  const bool ended = welcome.before_ended;
  before_ = {};
  user_->caller_up(*this);
  end_calls(ended ? redis_outcome::kind::unknown : redis_outcome::kind::doubtful, lost_why_);
  if (open())
    user_->caller_ready(*this);
}

void redis_caller::end_calls(redis_outcome::kind how, const failure &why) {
  for (auto &call : std::exchange(undecided_, {}))
    user_->call_ended(std::move(call), how, why);
}

void redis_caller::lost(const failure &why, std::uint64_t taken) {
  const auto self = shared_from_this();
  lost_at_ = now();
  lost_why_ = why;
  known_.clear();
  auto waited = std::exchange(waiting_, {});
  std::deque<redis_request> unsent;
  for (auto &one : waited) {
    if (one.own)
      continue;
    const bool sent = one.end <= taken;
    if (sent && one.call.trail)
      one.call.trail->lost_at(present_.run);
    (sent ? undecided_ : unsent).push_back(std::move(one.call));
  }
  // Redis executes nothing of a command that has not come whole.
  if (taken != 0)
    before_ = std::exchange(present_, {});
  user_->caller_down(*this, why, true);
  for (auto &call : unsent)
    user_->call_ended(std::move(call), redis_outcome::kind::not_done, why);
}

void redis_caller::failed(const failure &why) { user_->caller_down(*this, why, false); }

void redis_caller::tick(time_point now) {
  if (!undecided_.empty() && now - lost_at_ > options().look_up_timeout)
    end_calls(redis_outcome::kind::doubtful, lost_why_);
  if (!link())
    return;
  const auto late = [&] {
    return !waiting_.empty() && now - waiting_.front().sent > options().answer_timeout;
  };
  if (late()) { // unless this side was slow
    link()->read_now();
    if (link() && late())
      give_up(failure(error::timed_out, stage::open,
                      "Redis has not answered a command in " +
                          std::to_string(options().answer_timeout.count()) +
                          " ms: see its SLOWLOG, or raise answer_timeout"));
  } else if (waiting_.empty() && now - link()->last_heard() > options().ping_interval) {
    send_own({"PING"});
  }
  if (link())
    retire_if_idle();
}

void redis_caller::close() noexcept {
  if (closed())
    return;
  const auto self = shared_from_this();
  const auto taken = link() ? link()->taken() : 0;
  redis_line::close();
  const failure why(error::not_open, stage::none,
                    "the connection to Redis was closed by this side");
  auto waited = std::exchange(waiting_, {});
  end_calls(redis_outcome::kind::doubtful, why);
  for (auto &one : waited)
    if (!one.own)
      user_->call_ended(
          std::move(one.call),
          one.end <= taken ? redis_outcome::kind::doubtful : redis_outcome::kind::not_done, why);
}

time_point redis_caller::oldest() const noexcept {
  if (!undecided_.empty())
    return undecided_.front().since;
  for (const auto &one : waiting_)
    if (!one.own)
      return one.call.since;
  return time_point::max();
}

} // namespace chorus::detail
