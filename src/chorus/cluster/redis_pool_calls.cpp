// The calls of a pool: where each goes, and what is tried again.

#include <chorus/cluster/redis_pool_core.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr unsigned most_tries = 64; // of one call, within answer_timeout
constexpr std::chrono::milliseconds first_pause{20};
constexpr std::chrono::milliseconds longest_pause{500};
constexpr std::chrono::milliseconds lanes_tick{50};

failure refused_for_now(const redis_reply &r) {
  return failure(error::lost, stage::open,
                 "Redis does not execute commands now (" + r.text.substr(0, 200) + ")");
}

} // namespace

void redis_pool_core::submit(std::string_view key, std::vector<std::string> words,
                             const redis_script *script, redis_answer answer,
                             std::shared_ptr<redis_trail> trail) {
  const auto self = shared_from_this();
  redis_request call;
  call.order = ++calls_;
  call.words = std::move(words);
  call.answer = std::move(answer);
  call.trail = std::move(trail);
  call.since = ground_->home->now();
  call.slot = redis_slot(key);
  for (const auto &word : call.words)
    call.bytes += word.size();
  const auto &o = ground_->options;
  if (closed_ || !begun_)
    return call.answer({redis_outcome::kind::not_done, {}, why_down()});
  if (counts_.waiting >= o.max_waiting || counts_.waiting_bytes + call.bytes > o.max_waiting_bytes)
    return call.answer({redis_outcome::kind::not_done,
                        {},
                        failure(error::queue_full, stage::open,
                                "too many calls wait for Redis: it is slow, or max_waiting and "
                                "max_waiting_bytes are too small")});
  if (script) {
    auto &known = scripts_[script->sha];
    if (!known)
      known = std::make_shared<redis_script>(*script);
    call.script = known;
  }
  ++counts_.waiting;
  counts_.waiting_bytes += call.bytes;
  parked p{std::move(call), false, {}};
  if (lanes_.contains(p.call.slot))
    park(std::move(p), time_point());
  else
    dispatch(std::move(p));
}

void redis_pool_core::dispatch(parked p) {
  auto *m = p.asking ? master_at(p.to) : owner(p.call.slot);
  if (m && m->caller->open()) {
    // What another master may still refuse must not be overtaken by what goes to this one.
    if (std::exchange(asked_[p.call.slot], m->number) != m->number &&
        outstanding_[p.call.slot] != 0) {
      asked_[p.call.slot] = 0;
      park(std::move(p), time_point());
      return;
    }
    ++outstanding_[p.call.slot];
    m->caller->send(std::move(p.call), p.asking);
    measure();
  } else if (m && clustered() && !m->caller->tried()) {
    park(std::move(p), time_point()); // heard of just now
  } else {
    refuse(std::move(p.call), m || !up() ? why_down()
                                         : failure(error::lost, stage::open,
                                                   "no master of the cluster serves this slot"));
  }
}

void redis_pool_core::park(parked p, time_point not_before) {
  auto &in = lanes_[p.call.slot];
  in.not_before = std::max(in.not_before, not_before);
  const auto order = p.call.order;
  in.calls.insert_or_assign(order, std::move(p));
  if (!lanes_alarm_.active())
    ground_->home->start_after(lanes_alarm_, lanes_tick);
}

void redis_pool_core::pump(std::uint16_t slot) {
  const auto found = lanes_.find(slot);
  const auto now = ground_->home->now();
  if (found == lanes_.end() || outstanding_[slot] != 0 || found->second.not_before > now)
    return;
  auto calls = std::move(found->second.calls);
  lanes_.erase(found);
  for (auto &[order, p] : calls) {
    // One that waits again holds those behind it.
    if (lanes_.contains(slot) && !closed_)
      park(std::move(p), time_point());
    else
      dispatch(std::move(p));
  }
}

void redis_pool_core::pump_all() {
  std::vector<std::uint16_t> slots;
  slots.reserve(lanes_.size());
  for (const auto &[slot, in] : lanes_)
    slots.push_back(slot);
  for (const auto slot : slots)
    pump(slot);
}

void redis_pool_core::lanes_due() {
  const auto self = shared_from_this();
  const auto limit = ground_->home->now() - ground_->options.answer_timeout;
  std::vector<redis_request> late;
  for (auto &[slot, in] : lanes_)
    for (auto at = in.calls.begin(); at != in.calls.end();)
      if (at->second.call.since < limit) {
        late.push_back(std::move(at->second.call));
        at = in.calls.erase(at);
      } else {
        ++at;
      }
  std::erase_if(lanes_, [](const auto &one) { return one.second.calls.empty(); });
  for (auto &call : late)
    refuse(std::move(call), failure(error::lost, stage::open,
                                    "the cluster does not serve this slot now; see its "
                                    "CLUSTER INFO"));
  pump_all();
  if (!lanes_.empty() && !closed_ && !lanes_alarm_.active())
    ground_->home->start_after(lanes_alarm_, lanes_tick);
}

void redis_pool_core::finish(redis_request call, redis_outcome outcome) {
  --counts_.waiting;
  counts_.waiting_bytes -= call.bytes;
  if (call.answer)
    call.answer(std::move(outcome));
}

void redis_pool_core::refuse(redis_request call, const failure &why) {
  redis_outcome outcome;
  outcome.why = why;
  finish(std::move(call), std::move(outcome));
}

void redis_pool_core::measure() {
  auto oldest = time_point::max();
  for (const auto &m : masters_)
    oldest = std::min(oldest, m->caller->oldest());
  counts_.oldest = oldest == time_point::max() ? 0 : oldest.time_since_epoch().count();
}

// Refused without being executed, and worth another try: then it is parked.
bool redis_pool_core::try_again(redis_caller &from, redis_request &call, const redis_reply &reply) {
  if (++call.tries > most_tries)
    return false;
  const auto now = ground_->home->now();
  if (call.script && is_redis_error(reply, "NOSCRIPT")) {
    from.forget(*call.script);
    park({std::move(call), false, {}}, now);
    return true;
  }
  if (!clustered())
    return false;
  const bool moved = is_redis_error(reply, "MOVED");
  if (moved || is_redis_error(reply, "ASK")) {
    const auto to = read_redis_redirect(reply.text, from.where());
    if (!to || !master_at(to->to))
      return false;
    if (!moved) {
      park({std::move(call), true, to->to}, now);
      return true;
    }
    if (!slots_.empty())
      slots_[to->slot] = master_at(to->to);
    look_up_map();
    park({std::move(call), false, {}}, now);
    return true;
  }
  const bool down = is_redis_error(reply, "CLUSTERDOWN");
  if (!down && !is_redis_error(reply, "TRYAGAIN"))
    return false;
  if (down)
    look_up_map();
  const auto pause = std::min(longest_pause, first_pause * (1 << std::min(call.tries, 5U)));
  park({std::move(call), false, {}}, now + pause);
  return true;
}

void redis_pool_core::call_replied(redis_caller &from, redis_request call, redis_reply reply) {
  const auto self = shared_from_this();
  const auto slot = call.slot;
  --outstanding_[slot];
  counts_.last_took =
      std::chrono::duration_cast<std::chrono::microseconds>(ground_->home->now() - call.since)
          .count();
  measure();
  const bool error = reply.is == redis_reply::type::error;
  if (error && try_again(from, call, reply)) {
    // It waits in a lane.
  } else if (error && (is_redis_error(reply, "READONLY") || is_redis_error(reply, "LOADING") ||
                       is_redis_error(reply, "MASTERDOWN") || is_redis_error(reply, "NOAUTH"))) {
    // Not the master any more: another connection finds the one that is.
    const auto why = at_address(refused_for_now(reply), from.where());
    from.retire(why);
    down(why);
    refuse(std::move(call), why);
  } else {
    redis_outcome outcome;
    outcome.is = redis_outcome::kind::answered;
    outcome.reply = std::move(reply);
    finish(std::move(call), std::move(outcome));
  }
  if (!closed_)
    pump(slot);
}

void redis_pool_core::call_ended(redis_request call, redis_outcome::kind how, const failure &why) {
  const auto self = weak_from_this().lock();
  --outstanding_[call.slot];
  redis_outcome outcome;
  outcome.is = how;
  outcome.why = why;
  if (how == redis_outcome::kind::unknown)
    outcome.why = failure(error::unconfirmed, why.detail());
  finish(std::move(call), std::move(outcome));
}

void redis_pool_core::caller_sent(std::size_t commands) { counts_.commands += commands; }

} // namespace chorus::detail
