#include <chorus/transport/memory_stream.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <vector>

namespace chorus::transport {

namespace {

error_code system(boost::system::errc::errc_t e) noexcept {
  return {static_cast<int>(e), boost::system::system_category()};
}

// Bytes on their way in one direction.
class ring {
public:
  explicit ring(std::size_t capacity) : bytes_(std::max<std::size_t>(capacity, 1)) {}
  std::size_t size() const noexcept { return size_; }
  std::size_t room() const noexcept { return bytes_.size() - size_; }
  void clear() noexcept { size_ = 0; }

  void push(const std::byte *from, std::size_t count) noexcept {
    const auto tail = (head_ + size_) % bytes_.size();
    const auto first = std::min(count, bytes_.size() - tail);
    std::memcpy(bytes_.data() + tail, from, first);
    std::memcpy(bytes_.data(), from + first, count - first);
    size_ += count;
  }
  void pop(std::byte *into, std::size_t count) noexcept {
    const auto first = std::min(count, bytes_.size() - head_);
    std::memcpy(into, bytes_.data() + head_, first);
    std::memcpy(into + first, bytes_.data(), count - first);
    head_ = (head_ + count) % bytes_.size();
    size_ -= count;
  }

private:
  std::vector<std::byte> bytes_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

// What both ends share. Everything is guarded by `mutex`, save that a listener is called without it,
// on its own shard's thread.
struct pipe : std::enable_shared_from_this<pipe> {
  struct end {
    end(detail::shard &h, std::size_t capacity) : home(h.shared_from_this()), incoming(capacity) {}
    std::shared_ptr<detail::shard> home;
    ring incoming;
    ready_listener *listener = nullptr;
    unsigned interest = 0;
    bool posted = false; // a notice is on its way
    bool hangup_told = false;
    bool write_ended = false; // FIN
    bool closed = false;
    bool reset = false; // by the peer
    bool stalled = false;
  };

  pipe(detail::shard &a, detail::shard &b, std::size_t capacity)
      : ends{end(a, capacity), end(b, capacity)} {}

  end &other(int side) noexcept { return ends[static_cast<std::size_t>(1 - side)]; }
  end &at(int side) noexcept { return ends[static_cast<std::size_t>(side)]; }

  // What would be told to `side` now. Like epoll: a hang-up without any interest only once.
  unsigned due(int side) noexcept {
    auto &me = at(side);
    const auto &peer = other(side);
    if (!me.listener || me.closed)
      return 0;
    unsigned what = 0;
    if (me.incoming.size() != 0 || peer.write_ended || me.reset)
      what |= ready_read;
    if ((!me.stalled && other(side).incoming.room() != 0) || peer.closed || me.reset)
      what |= ready_write;
    what &= me.interest;
    const bool hung_up = me.reset || (peer.write_ended && me.write_ended);
    if (hung_up && (me.interest != 0 || !me.hangup_told))
      what |= ready_hangup;
    return what;
  }

  // True when a notice has to be posted; the caller does so without the mutex.
  bool wants_notice(int side) noexcept {
    auto &me = at(side);
    if (me.posted || due(side) == 0)
      return false;
    me.posted = true;
    return true;
  }
  void post_notice(int side) {
    at(side).home->post([self = shared_from_this(), side] { self->tell(side); });
  }
  void tell(int side) {
    auto &me = at(side);
    std::unique_lock lock(mutex);
    me.posted = false;
    const auto what = due(side);
    if (what == 0)
      return;
    if (what & ready_hangup)
      me.hangup_told = true;
    auto *listener = me.listener;
    lock.unlock();
    listener->on_ready(what);
    lock.lock();
    const bool again = wants_notice(side);
    lock.unlock();
    if (again)
      post_notice(side);
  }

  mutable std::mutex mutex;
  std::array<end, 2> ends;
};

class memory_end final : public memory_stream {
public:
  memory_end(detail::shard &home, std::shared_ptr<pipe> p, int side)
      : memory_stream(home), pipe_(std::move(p)), side_(side) {}
  ~memory_end() override { memory_end::close(false); }

  io_result read_some(std::span<std::byte> into) noexcept override {
    if (into.empty())
      return {io_status::ok, 0};
    ++reads_;
    if (fails(fail_read_))
      return {io_status::failed, 0};
    return change([&](pipe::end &me, pipe::end &peer) -> io_result {
      if (me.closed || me.reset)
        return fail(me.closed ? make_error_code(chorus::error::aborted)
                              : system(boost::system::errc::connection_reset));
      const auto count = bounded(std::min(into.size(), me.incoming.size()));
      if (count == 0)
        return {peer.write_ended ? io_status::end : io_status::would_block, 0};
      me.incoming.pop(into.data(), count);
      return {io_status::ok, count};
    });
  }

  io_result write_some(std::span<const iovec> from) noexcept override {
    ++writes_;
    if (fails(fail_write_))
      return {io_status::failed, 0};
    return change([&](pipe::end &me, pipe::end &peer) -> io_result {
      if (me.closed)
        return fail(chorus::error::aborted);
      if (me.reset)
        return fail(system(boost::system::errc::connection_reset));
      if (me.write_ended || peer.closed)
        return fail(system(boost::system::errc::broken_pipe));
      auto room = me.stalled ? 0 : bounded(peer.incoming.room());
      std::size_t total = 0;
      std::size_t offered = 0;
      for (const auto &piece : from) {
        const auto count = std::min(room, piece.iov_len);
        offered += piece.iov_len;
        peer.incoming.push(static_cast<const std::byte *>(piece.iov_base), count);
        total += count;
        room -= count;
      }
      return {total == 0 && offered != 0 ? io_status::would_block : io_status::ok, total};
    });
  }

  error_code error() const noexcept override { return error_; }

  void listen(ready_listener *listener) noexcept override {
    change([&](pipe::end &me, pipe::end &) -> io_result {
      me.listener = listener;
      return {};
    });
  }
  void set_interest(unsigned ready_flags) noexcept override {
    change([&](pipe::end &me, pipe::end &) -> io_result {
      me.interest = ready_flags & (ready_read | ready_write);
      return {};
    });
  }
  void shutdown_write() noexcept override {
    change([&](pipe::end &me, pipe::end &) -> io_result {
      me.write_ended = true;
      return {};
    });
  }
  void close(bool abortive) noexcept override {
    change([&](pipe::end &me, pipe::end &peer) -> io_result {
      if (me.closed)
        return {};
      me.closed = true;
      me.write_ended = true;
      me.listener = nullptr;
      me.incoming.clear();
      if (abortive) {
        peer.reset = true;
        peer.incoming.clear();
      }
      return {};
    });
  }

  std::string local_address() const override { return "memory"; }
  std::string remote_address() const override { return "memory"; }

  void fail_read(std::uint64_t n, error_code why) noexcept override { fail_read_ = {n, why}; }
  void fail_write(std::uint64_t n, error_code why) noexcept override { fail_write_ = {n, why}; }
  void limit(std::size_t bytes) noexcept override { limit_ = bytes; }
  void stall_writes(bool on) noexcept override {
    change([&](pipe::end &me, pipe::end &) -> io_result {
      me.stalled = on;
      return {};
    });
  }
  std::uint64_t reads() const noexcept override { return reads_; }
  std::uint64_t writes() const noexcept override { return writes_; }
  std::size_t unread() const noexcept override {
    std::lock_guard lock(pipe_->mutex);
    return pipe_->at(side_).incoming.size();
  }

private:
  struct fault {
    std::uint64_t left = 0; // attempts until it strikes; 0: never
    error_code why;
  };

  bool fails(fault &f) noexcept {
    if (f.left == 0 || --f.left != 0)
      return false;
    f.left = 1; // and so does everything after it
    error_ = f.why;
    return true;
  }
  io_result fail(error_code why) noexcept {
    if (!error_)
      error_ = why;
    return {io_status::failed, 0};
  }
  std::size_t bounded(std::size_t count) const noexcept {
    return limit_ == 0 ? count : std::min(count, limit_);
  }

  // Changes the shared state, then sees who has to be told of what.
  template <class F> io_result change(F f) noexcept {
    std::unique_lock lock(pipe_->mutex);
    const auto out = f(pipe_->at(side_), pipe_->other(side_));
    const bool tell_me = pipe_->wants_notice(side_);
    const bool tell_peer = pipe_->wants_notice(1 - side_);
    lock.unlock();
    if (tell_me)
      pipe_->post_notice(side_);
    if (tell_peer)
      pipe_->post_notice(1 - side_);
    return out;
  }

  std::shared_ptr<pipe> pipe_;
  int side_;
  std::size_t limit_ = 0;
  std::uint64_t reads_ = 0;
  std::uint64_t writes_ = 0;
  fault fail_read_;
  fault fail_write_;
  error_code error_;
};

} // namespace

std::pair<std::unique_ptr<memory_stream>, std::unique_ptr<memory_stream>>
make_memory_pair(detail::shard &a, detail::shard &b, memory_options options) {
  auto shared = std::make_shared<pipe>(a, b, options.capacity);
  return {std::make_unique<memory_end>(a, shared, 0), std::make_unique<memory_end>(b, shared, 1)};
}

} // namespace chorus::transport
