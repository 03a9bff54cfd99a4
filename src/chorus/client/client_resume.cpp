#include <chorus/client/client_core.hpp>

#include <stdexcept>

// What a client does about the resume protocol.

namespace chorus::detail {

void client_core::prepare_resume() {
  if (options_.resume == resume_mode::off)
    return;
  memory_ = std::make_shared<resume_memory>(fresh_client_key());
  for (const auto &plan : plans_) {
    if (plan->where.is_websocket()) {
      plan->make_envelope = [this] { return make_envelope(); }; // plans belong to this client
      plan->needs_envelope = options_.resume == resume_mode::require;
    } else if (options_.resume == resume_mode::require) {
      throw std::invalid_argument(
          "chorus: client_options: resume needs ws or wss URLs; leave it at "
          "offer for others");
    }
  }
}

std::unique_ptr<session_envelope> client_core::make_envelope() {
  resume_envelope::settings s;
  s.max_message = options_.session.max_message;
  // What a session holds before it pushes back, and what one read may add to it.
  s.max_events = options_.session.inbox_messages + std::size_t{256} * 1024;
  s.ignore_input = options_.ignore_input;
  // A session may be kept longer than its client.
  const auto weak = weak_from_this();
  s.reported = [weak] {
    const auto self = weak.lock();
    if (!self)
      return;
    // Behind what the pump does in this turn, which reports it if a message follows.
    self->home_->post([self] {
      session present;
      {
        lock held(self->mutex_);
        present = self->session_;
      }
      self->catch_up(present, nullptr);
    });
  };
  s.doubled = [weak] {
    if (const auto self = weak.lock()) {
      lock held(self->mutex_);
      ++self->stats_.messages_doubled;
    }
  };
  return std::make_unique<resume_envelope>(memory_, std::move(s));
}

void client_core::catch_up(const session &s, message_place *place) {
  auto *envelope = envelope_of(s);
  if (!envelope)
    return;
  auto &events = envelope->events();
  while (!events.empty()) {
    if (auto *where = std::get_if<message_place>(&events.front())) {
      if (place) {
        *place = std::move(*where);
        events.pop_front();
      }
      return;
    }
    const auto report = std::get<recovery>(std::move(events.front()));
    events.pop_front();
    {
      lock held(mutex_);
      ++(report.recovered ? stats_.rooms_recovered : stats_.rooms_lost);
      if (report.recovered)
        stats_.messages_recovered += report.missed;
    }
    emit("on_recovery", options_.on_recovery, &client_listener::on_recovery, report);
  }
}

bool client_core::met_too_big_again(const failure &why) noexcept {
  return memory_ && memory_->too_big_again(why == error::message_too_big && !why.detail().by_peer);
}

failure client_core::too_big(const failure &last) const {
  auto detail = last.detail();
  detail.sentence =
      "a message that is too big came again after the reconnect, as what a room keeps "
      "does; raise client_options::session.max_message, " +
      std::to_string(options_.session.max_message) + " bytes, or leave the room (" +
      last.message() + ")";
  return failure(make_error_code(error::message_too_big), std::move(detail));
}

} // namespace chorus::detail
