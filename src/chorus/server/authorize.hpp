#pragma once
// One run of an authorisation hook, beside the connection's own coroutine, which goes on watching the
// peer and the deadline meanwhile.

#include <chorus/server/admission.hpp>
#include <chorus/server/router.hpp>
#include <chorus/transport/waiter.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>

namespace chorus::detail {

class server_shard;

struct hook_run {
  boost::asio::cancellation_signal cancel;
  std::optional<chorus::admission> answer;
  std::exception_ptr thrown;
  bool over = false;
  transport::waiter *waiting = nullptr; // told when it is over

  void end() noexcept {
    over = true;
    if (waiting)
      waiting->on_ready(0);
  }
};

// Null when nobody asks to be asked.
const authorize_hook *hook_of(const server_shard &owner, const route &target) noexcept;
// Begins, and may end, before it returns. On the shard's thread.
std::shared_ptr<hook_run> start_hook(std::shared_ptr<server_shard> owner,
                                     std::shared_ptr<const chorus::detail::route> target,
                                     request r);

} // namespace chorus::detail
