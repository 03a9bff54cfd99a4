#include <chorus/transport/waiting.hpp>

#include <chorus/transport/waiter.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

namespace chorus::transport {

namespace asio = boost::asio;

waiter::limit::limit(waiter &w) noexcept
    : detail::timer(
          [](detail::timer &t) noexcept { static_cast<limit &>(t).owner.finish(outcome::late); }),
      owner(w) {}

waiter::waiter(detail::shard &home)
    : home_(home), parked_(home.context(), asio::steady_timer::time_point::max()), limit_(*this) {}

void waiter::finish(outcome o) noexcept {
  if (outcome_ != outcome::none)
    return;
  outcome_ = o;
  limit_.cancel();
  parked_.cancel();
}

void waiter::on_ready(unsigned) noexcept { finish(outcome::told); }

task<bool> waiter::wait(detail::time_point deadline) {
  if (outcome_ == outcome::none) {
    if (deadline != detail::time_point::max())
      home_.start(limit_, deadline);
    error_code ec;
    co_await parked_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    limit_.cancel();
    if (outcome_ == outcome::none)
      throw boost::system::system_error(asio::error::operation_aborted);
  }
  co_return outcome_ == outcome::told;
}

namespace {

// Listens for as long as it lives.
class listening {
public:
  listening(stream &s, waiter &w, unsigned ready_flags) noexcept : stream_(s) {
    s.listen(&w);
    s.set_interest(ready_flags);
  }
  ~listening() {
    stream_.listen(nullptr);
    stream_.set_interest(0);
  }
  listening(const listening &) = delete;
  listening &operator=(const listening &) = delete;

private:
  stream &stream_;
};

} // namespace

task<bool> wait_ready(stream &s, unsigned ready_flags, detail::time_point deadline) {
  waiter parked(s.home());
  listening until_done(s, parked, ready_flags);
  co_return co_await parked.wait(deadline);
}

task<result<std::size_t>> read_some(stream &s, std::span<std::byte> into,
                                    detail::time_point deadline, error on_deadline) {
  for (;;) {
    const auto got = s.read_some(into);
    switch (got.status) {
    case io_status::ok:
      co_return got.bytes;
    case io_status::end:
      co_return std::size_t{0};
    case io_status::failed:
      co_return s.why();
    case io_status::would_block:
      break;
    }
    if (!co_await wait_ready(s, ready_read, deadline))
      co_return failure(on_deadline);
  }
}

task<result<>> write_all(stream &s, std::string_view bytes, detail::time_point deadline,
                         error on_deadline) {
  while (!bytes.empty()) {
    const iovec piece{const_cast<char *>(bytes.data()), bytes.size()};
    const auto put = s.write_some({&piece, 1});
    if (put.status == io_status::failed)
      co_return s.why();
    if (put.status == io_status::ok)
      bytes.remove_prefix(put.bytes);
    else if (!co_await wait_ready(s, ready_write, deadline))
      co_return failure(on_deadline);
  }
  co_return result<>();
}

} // namespace chorus::transport
