#include <chorus/client/client.hpp>

#include <chorus/async/runtime_core.hpp>
#include <chorus/base/explain.hpp>
#include <chorus/client/client_core.hpp>

#include <stdexcept>

namespace chorus {

using detail::client_core;

std::string_view to_string(client_state s) noexcept {
  switch (s) {
  case client_state::connecting:
    return "CONNECTING";
  case client_state::open:
    return "OPEN";
  case client_state::disconnected:
    return "DISCONNECTED";
  case client_state::closing:
    return "CLOSING";
  case client_state::closed:
    break;
  }
  return "CLOSED";
}

bool is_fatal(const failure &why) noexcept {
  const auto &detail = why.detail();
  if (why == error::upgrade_refused) {
    switch (detail.status) {
    case 404: // also a server that has not registered its routes yet
    case 408:
    case 421:
    case 423:
    case 425:
    case 429:
      return false;
    default:
      return detail.status < 500;
    }
  }
  if (why == error::proxy_refused)
    return detail.wants_credentials || detail.status == 403;
  const auto help = remedy_of(why);
  if (help == remedy::give_certificate || help == remedy::replace_certificate)
    return true;
  if (detail.by_peer)
    switch (static_cast<close_code>(detail.close_code)) {
    case close_code::protocol_error:
    case close_code::unsupported_data:
    case close_code::invalid_payload:
    case close_code::policy_violation:
    case close_code::message_too_big:
    case close_code::mandatory_extension:
      return true;
    default:
      break;
    }
  return why == condition::fatal;
}

std::shared_ptr<client_core> client_core::make(runtime &rt, client_options options) {
  auto &shards = rt.core()->shards;
  const auto index = options.shard;
  if (index != ~0U && index >= shards.size())
    throw std::invalid_argument("chorus: client_options: shard " + std::to_string(index) +
                                " does not exist; the runtime has " +
                                std::to_string(shards.size()));
  auto &home = index == ~0U ? rt.core()->pick() : *shards[index];
  return std::make_shared<client_core>(home.shared_from_this(), std::move(options));
}

client::client(runtime &rt, client_options options)
    : core_(client_core::make(rt, std::move(options))) {
  core_->launch();
}

client::~client() {
  if (core_)
    core_->abandon();
}

client::client(client &&) noexcept = default;

client &client::operator=(client &&other) noexcept {
  if (this != &other) {
    if (core_)
      core_->abandon();
    core_ = std::move(other.core_);
  }
  return *this;
}

task<result<>> client::connected() { return client_core::connected(core_); }
task<result<message>> client::receive() { return client_core::receive(core_); }
task<result<placed_message>> client::receive_placed() { return client_core::receive_placed(core_); }
task<result<>> client::send(message m, client_send_options options) {
  return client_core::send(core_, std::move(m), core_ ? core_->terms_of(options) : nullptr);
}
task<result<>> client::flush() { return client_core::flush(core_); }
task<result<>> client::close(close_code code, std::string_view reason) {
  return client_core::close(core_, code, std::string(reason));
}
result<> client::try_send(message m, client_send_options options) {
  if (!core_)
    return failure(error::not_open);
  return core_->try_send(m, core_->terms_of(options));
}
void client::reconnect_now() {
  if (core_)
    core_->reconnect_now();
}
client_state client::state() const noexcept {
  return core_ ? core_->state() : client_state::closed;
}
client_stats client::stats() const { return core_ ? core_->stats() : client_stats(); }
session client::current() const { return core_ ? core_->current() : session(); }
failure client::last_failure() const {
  return core_ ? core_->last_failure() : failure(error::not_open);
}

} // namespace chorus
