// The half of a TLS stream that knows nothing of TLS: what waits to go out, who is told of what, and the
// end.
#include <chorus/transport/tls_stream.hpp>

namespace chorus::transport {

// True when nothing is pending any more.
bool tls_stream::flush() noexcept {
  while (!pending_.empty()) {
    const iovec piece{pending_.data() + pending_begin_, pending_.size() - pending_begin_};
    const auto put = below_->write_some({&piece, 1});
    if (put.status == io_status::failed)
      write_error_ = below_->error();
    else if (put.status != io_status::ok)
      return false;
    pending_begin_ += put.bytes;
    if (write_error_ || pending_begin_ == pending_.size()) {
      pending_.take().reset();
      pending_begin_ = 0;
    }
  }
  if (shutdown_after_flush_) {
    shutdown_after_flush_ = false;
    below_->shutdown_write();
  }
  return true;
}

void tls_stream::watch_below() noexcept {
  if (closed_)
    return;
  const bool pending = !pending_.empty();
  below_->set_interest(interest_ | (pending ? unsigned{ready_write} : 0U));
  if (!listener_)
    below_->listen(pending ? this : nullptr);
}

void tls_stream::listen(ready_listener *listener) noexcept {
  listener_ = listener;
  if (closed_)
    return;
  if (listener) {
    below_->listen(this);
    tell_later();
  } else {
    watch_below();
  }
}

void tls_stream::set_interest(unsigned ready_flags) noexcept {
  interest_ = ready_flags & (ready_read | ready_write);
  watch_below();
  tell_later();
}

void tls_stream::on_ready(unsigned what) noexcept {
  if ((what & ready_write) && !pending_.empty() && flush())
    watch_below();
  unsigned told = what & (interest_ | ready_hangup);
  if (!pending_.empty())
    told &= ~unsigned{ready_write};
  if (write_error_)
    told |= ready_hangup;
  if (told != 0 && listener_)
    listener_->on_ready(told); // may destroy this
}

// True when a read would give something without anything new from below.
bool tls_stream::buffered() const noexcept {
  return !closed_ && (incoming_begin_ != incoming_end_ || has_decoded() || ended_ || fatal_);
}

void tls_stream::tell_later() noexcept {
  if (told_ || !listener_ || !(interest_ & ready_read) || !buffered())
    return;
  if (!token_)
    token_ = std::make_shared<tls_stream *>(this);
  told_ = home().post([token = token_] {
    if (auto *self = *token)
      self->tell_buffered();
  });
}

void tls_stream::tell_buffered() noexcept {
  told_ = false;
  if (!listener_ || !(interest_ & ready_read) || !buffered())
    return;
  const auto token = token_;
  listener_->on_ready(ready_read);
  if (*token)
    tell_later();
}

void tls_stream::shutdown_write() noexcept {
  if (closed_ || notify_sent_)
    return;
  notify_sent_ = true;
  if (done_ && !write_error_ && !fatal_)
    put_close_notify();
  shutdown_after_flush_ = true;
  flush();
  watch_below();
}

void tls_stream::close(bool abortive) noexcept {
  if (closed_)
    return;
  if (!abortive)
    shutdown_write();
  closed_ = true;
  listener_ = nullptr;
  below_->close(abortive);
  incoming_.reset();
  incoming_begin_ = incoming_end_ = 0;
  pending_.take().reset();
  pending_begin_ = 0;
  fail(failure(chorus::error::aborted));
}

} // namespace chorus::transport
