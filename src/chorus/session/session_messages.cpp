#include <chorus/session/verbs.hpp>

// The verbs that receive and send.

namespace chorus {

using detail::core_ptr;
using detail::failed;
using detail::no_session;
using detail::session_core;

namespace {

// The claim of a receiving coroutine, released however it ends. Made on the session's thread only.
class receive_claim {
public:
  explicit receive_claim(session_core &c) noexcept
      : core_(c.home().here() && c.claim_receiver() ? &c : nullptr) {}
  ~receive_claim() {
    if (core_)
      core_->release_receiver();
  }
  receive_claim(const receive_claim &) = delete;
  receive_claim &operator=(const receive_claim &) = delete;
  explicit operator bool() const noexcept { return core_ != nullptr; }

private:
  session_core *core_;
};

template <class T> task<result<T>> receive_from(core_ptr core);

// What is not a receive on the session's own thread by a coroutine that goes on.
template <class T> task<result<T>> receive_aside(core_ptr core, bool claimed) {
  if (claimed) {
    co_await detail::was_cancelled(); // throws, unless the coroutine asked not to
    co_return failure(error::cancelled);
  }
  if (core->home().here())
    co_return failure(error::busy);
  auto there = receive_from<T>(core);
  auto got = co_await detail::on_shard<result<T>>(core->home_ptr(), std::move(there));
  if (auto state = co_await boost::asio::this_coro::cancellation_state;
      got && state.cancelled() != boost::asio::cancellation_type::none) {
    // Taken on the session's thread while the caller was cancelled on its own.
    core->home().post([core, taken = std::move(*got)]() mutable { core->give_back(taken); });
    co_await detail::was_cancelled();
    co_return failure(error::cancelled);
  }
  co_return got;
}

// Nothing suspends between taking and returning, so a cancelled receive has taken nothing. Idle
// connections wait in this frame: whatever has its place here, each of them pays for.
template <class T> task<result<T>> receive_from(core_ptr core) {
  receive_claim claim(*core);
  if (claim)
    core->want_batch(std::is_same_v<T, message_batch>);
  while (claim) {
    if (auto state = co_await boost::asio::this_coro::cancellation_state;
        state.cancelled() != boost::asio::cancellation_type::none)
      break;
    if (core->ready<T>())
      co_return core->take<T>();
    if (core->ended()) {
      core->acknowledge_end();
      co_return core->why_ended();
    }
    core->flush_before_wait();
    if (!core->ended())
      co_await core->receiver().park();
  }
  co_return co_await receive_aside<T>(core, static_cast<bool>(claim));
}

bool plain(const send_options &options) noexcept {
  return options.key.empty() && options.time_to_live.count() == 0 && options.lane == lane::reliable;
}

std::unique_ptr<detail::message_extras> extras_of(const session_core &core,
                                                  const send_options &options) {
  if (plain(options))
    return nullptr;
  auto extras = std::make_unique<detail::message_extras>();
  extras->key = options.key;
  extras->how = options.lane;
  if (options.time_to_live.count() != 0)
    extras->expires = core.home().now() + options.time_to_live;
  return extras;
}

// Without waiting; nothing when it would have to wait.
std::optional<result<>> send_at_once(session_core &core, const message &m,
                                     std::unique_ptr<detail::message_extras> &extras) {
  if (!core.can_send())
    return result<>(core.why_not_sending());
  if (const auto v = core.out().wire().check(m); v != protocol::violation::none)
    return result<>(failure(make_error_code(v)));
  if (core.has_send_waiters() && !(extras && extras->how == lane::latest))
    return std::nullopt;
  switch (core.submit(m, extras)) {
  case detail::admission::accepted:
    return result<>();
  case detail::admission::must_wait:
    return std::nullopt;
  case detail::admission::evict:
    return result<>(core.why_not_sending());
  case detail::admission::dropped:
    break;
  }
  if (!core.can_send())
    return result<>(core.why_not_sending());
  return result<>(failure(error::queue_full));
}

task<result<>> send_here(core_ptr core, message m, std::unique_ptr<detail::message_extras> extras) {
  if (auto done = send_at_once(*core, m, extras))
    co_return *std::move(done);
  struct waiting final : detail::send_waiter {
    explicit waiting(session_core &c) noexcept : core(c) {}
    ~waiting() { core.unlink(*this); }
    session_core &core;
  };
  if (co_await detail::was_cancelled())
    co_return failure(error::cancelled);
  waiting w(*core);
  w.content = &m;
  w.extras = std::move(extras);
  core->link(w);
  co_await w.sleeper.park();
  if (w.accepted)
    co_return result<>();
  if (!w.linked)
    co_return w.refused; // the session ended
  core->unlink(w);
  co_await detail::was_cancelled();
  co_return failure(error::cancelled);
}

// The coroutine that `send` returns. `extras` are made here, off the caller's stack.
task<result<>> send_any(core_ptr core, message m, std::string key, send_options options) {
  options.key = key; // it was the caller's
  auto extras = extras_of(*core, options);
  if (core->home().here())
    co_return co_await send_here(std::move(core), std::move(m), std::move(extras));
  auto work = send_here(core, std::move(m), std::move(extras));
  co_return co_await detail::on_shard<result<>>(core->home_ptr(), std::move(work));
}

// The common case in one coroutine frame.
task<result<>> send_plain(core_ptr core, message m) {
  if (core->home().here()) {
    if (core->submit_small(m.kind(), m.bytes()))
      co_return result<>();
    std::unique_ptr<detail::message_extras> none;
    if (auto done = send_at_once(*core, m, none))
      co_return *std::move(done);
    co_return co_await send_here(std::move(core), std::move(m), nullptr);
  }
  auto work = send_here(core, std::move(m), nullptr);
  co_return co_await detail::on_shard<result<>>(core->home_ptr(), std::move(work));
}

} // namespace

prepared_message::prepared_message(message m) : content_(std::move(m)) {
  byte_buffer bytes;
  const auto op = content_.is_text() ? protocol::opcode::text : protocol::opcode::binary;
  protocol::append_frame(bytes, protocol::role::server, op, true, false, content_.bytes());
  frame_size_ = bytes.size();
  frame_ = bytes.take();
}

task<result<message>> session::receive() {
  if (!core_)
    return failed<message>(no_session());
  return receive_from<message>(core_);
}

task<result<message_batch>> session::receive_some() {
  if (!core_)
    return failed<message_batch>(no_session());
  return receive_from<message_batch>(core_);
}

task<result<>> session::send(message m, send_options options) {
  if (!core_)
    return failed<void>(no_session());
  if (plain(options))
    return send_plain(core_, std::move(m));
  return send_any(core_, std::move(m), std::string(options.key), options);
}

namespace {
task<result<>> send_prepared(session s, prepared_message m) {
  auto &core = *s.core();
  if (core.home().here() && core.submit_encoded(m.storage(), m.frame()))
    co_return result<>();
  co_return co_await s.send(m.content());
}
} // namespace

task<result<>> session::send(prepared_message m, send_options options) {
  if (!core_ || !plain(options))
    return send(m.content(), options);
  return send_prepared(*this, std::move(m));
}

result<> session::try_send(message m, send_options options) {
  if (!core_)
    return no_session();
  const bool here = core_->home().here();
  if (here && plain(options) && core_->submit_small(m.kind(), m.bytes()))
    return {};
  auto extras = extras_of(*core_, options);
  if (here) {
    if (auto done = send_at_once(*core_, m, extras))
      return *std::move(done);
    return failure(error::queue_full);
  }
  if (core_->state() != session_state::open)
    return core_->state() == session_state::closed ? core_->end() : failure(error::not_open);
  struct carried {
    core_ptr core;
    message m;
    std::unique_ptr<detail::message_extras> extras;
    std::size_t size;
    void operator()() {
      core->arrived(size);
      if (!send_at_once(*core, m, extras))
        core->out().note_drop(overflow::drop_newest); // others were quicker
    }
  };
  const auto size = m.size() + protocol::max_header_size;
  if (!core_->depart(size, options.lane))
    return failure(error::queue_full);
  if (!core_->home().post(carried{core_, std::move(m), std::move(extras), size})) {
    core_->arrived(size);
    return failure(error::shut_down);
  }
  return {};
}

result<> session::try_send(const message_view &m) {
  if (core_ && core_->home().here() && core_->submit_small(m.kind(), m.bytes()))
    return {};
  return try_send(message(m.kind(), m.bytes().data(), m.size()));
}

result<> session::try_send(prepared_message m, send_options options) {
  if (core_ && core_->home().here() && plain(options) &&
      core_->submit_encoded(m.storage(), m.frame()))
    return {};
  return try_send(m.content(), options);
}

} // namespace chorus
