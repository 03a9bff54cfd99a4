// A server's certificates: the first ones and those that replace them.

#include <chorus/server/server_core.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/transport/tls.hpp>

namespace chorus::detail {

namespace {

using context_ptr = std::shared_ptr<transport::tls_context>;

task<result<>> put_in_force(std::shared_ptr<server_shard> s, context_ptr tls) {
  s->use_tls(std::move(tls));
  co_return result<>();
}

} // namespace

void server_shard::count_tls(const tls_info *done) noexcept {
  (done ? count.tls_handshakes : count.tls_failed).fetch_add(1, std::memory_order_relaxed);
  if (done && done->resumed)
    count.tls_resumed.fetch_add(1, std::memory_order_relaxed);
}

// Of the files as they are now.
result<> server_core::make_tls() {
  auto options = setup_->options.tls;
  if (options.alpn.empty())
    options.alpn = {"http/1.1"}; // what is spoken here; who offers only other protocols is refused
  auto made = transport::make_server_context(options);
  if (!made)
    return made.error();
  if (tls_)
    (*made)->share_tickets(*tls_);
  tls_ = std::move(*made);
  return {};
}

task<result<>> server_core::reload_tls(std::shared_ptr<server_core> self) {
  if (self->now() != phase::running && self->now() != phase::draining)
    co_return failure(error::not_open, stage::configure,
                      "There is nothing to reload: the server does not run.");
  if (!self->setup_->tls)
    co_return failure(error::bad_option, stage::configure,
                      "This server speaks no TLS; give it a certificate_file when it is made.");
  if (auto made = self->make_tls(); !made) {
    auto detail = made.error().detail();
    detail.sentence += "; the certificate in force stays";
    co_return failure(made.error().code(), std::move(detail));
  }
  const auto tls = self->tls_;
  for (std::size_t i = 0; i < self->shards_.size(); ++i) {
    auto work = put_in_force(self->shards_[i], tls);
    auto done = co_await on_shard(self->runtime_->shards[i], std::move(work));
    if (!done)
      co_return done;
  }
  self->log_phase("tls_reloaded");
  co_return result<>();
}

} // namespace chorus::detail
