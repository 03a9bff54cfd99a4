#include <chorus/client/json.hpp>

#include <chorus/client/client_core.hpp>
#include <chorus/json/rpc_core.hpp>

namespace chorus {

using detail::client_core;
using detail::rpc_core;

namespace {

class feed final : public detail::client_watcher {
public:
  explicit feed(std::shared_ptr<rpc_core> to) noexcept : to_(std::move(to)) {}
  void on_message(const message &m, bool published) override {
    published ? to_->on_published(m) : to_->on_message(m);
  }
  void on_lost(const failure &why) override { to_->on_lost(why); }
  void on_ended(const failure &why) override { to_->on_ended(why); }

private:
  std::shared_ptr<rpc_core> to_;
};

class client_channel final : public detail::rpc_channel {
public:
  explicit client_channel(std::shared_ptr<client_core> core) noexcept : core_(std::move(core)) {}

  const std::shared_ptr<detail::shard> &home() const noexcept override { return core_->home(); }
  void attach(const std::shared_ptr<rpc_core> &to) override {
    attached_ = core_->claim_receiver();
    if (attached_)
      core_->watch(std::make_shared<feed>(to));
    else
      to->on_ended(failure(error::busy, stage::open,
                           "this client's messages are taken by a receive, by another rpc or by "
                           "on_message, or dropped by ignore_input"));
  }
  void detach() noexcept override {
    if (!std::exchange(attached_, false))
      return;
    core_->watch(nullptr);
    core_->release_receiver();
  }
  result<> try_send(const message &m) override { return core_->try_send(m); }
  task<result<>> send(message m) override { return client_core::send(core_, std::move(m)); }
  void give_up_on_peer() noexcept override {
    core_->current().start_close(close_code::try_again_later, "answers not read");
  }
  void sift(const std::function<bool(const message &)> &keep) override { core_->sift_outbox(keep); }

private:
  const std::shared_ptr<client_core> core_;
  bool attached_ = false;
};

} // namespace

task<result<>> send_json(client &c, const boost::json::value &value) {
  return c.send(to_message(value));
}

task<result<boost::json::value>> receive_json(client &c, json_limits limits) {
  return detail::parsed(c.receive(), limits);
}

rpc rpc_over(client &c, rpc_methods methods, rpc_options options) {
  if (!c.core())
    return rpc();
  return rpc::over(std::make_unique<client_channel>(c.core()), std::move(methods),
                   std::move(options));
}

} // namespace chorus
