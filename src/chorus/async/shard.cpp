#include <chorus/async/shard.hpp>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/steady_timer.hpp>

#include <condition_variable>
#include <fcntl.h>
#include <optional>
#include <stdexcept>
#include <unistd.h>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

thread_local shard *current_shard = nullptr;

// Lets `shard::of` find the shard that belongs to an io_context.
class registration : public asio::execution_context::service {
public:
  using key_type = registration;
  inline static asio::execution_context::id id;

  explicit registration(asio::execution_context &context, shard *s = nullptr)
      : asio::execution_context::service(context), owner(s) {}

  std::atomic<shard *> owner;

private:
  void shutdown() override { owner = nullptr; }
};

constexpr const char *two_threads =
    "chorus: two threads run the io_context that a chorus::runtime was built around; a wrapped "
    "io_context must be run by one thread at a time. Run it from one thread, or let "
    "chorus::runtime own its shards ({.threads = N}).";

} // namespace

struct shard::waits {
  explicit waits(asio::io_context &context) : ready(context), tick(context) {}
  asio::posix::stream_descriptor ready;
  asio::steady_timer tick;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
};

std::shared_ptr<shard> shard::make(unsigned index, duration tick, asio::io_context *wrapped) {
  return std::shared_ptr<shard>(new shard(index, tick, wrapped));
}

shard::shard(unsigned index, duration tick, asio::io_context *wrapped)
    : index_(index), wrapped_(wrapped != nullptr),
      owned_(wrapped ? nullptr : std::make_unique<asio::io_context>(1)),
      context_(wrapped ? wrapped : owned_.get()), executor_(context_->get_executor()),
      wheel_(tick, clock::now()), turn_time_(clock::now()) {
  auto &service = asio::use_service<registration>(*context_);
  shard *none = nullptr;
  if (!service.owner.compare_exchange_strong(none, this))
    throw std::logic_error("chorus: this io_context already belongs to a chorus::runtime; use that "
                           "runtime, or destroy it first");
}

shard::~shard() { tear_down(); }

shard *shard::current() noexcept { return current_shard; }

shard *shard::of(const asio::any_io_executor &ex) noexcept {
  if (current_shard && current_shard->executor_ == ex)
    return current_shard;
  auto &context = asio::query(ex, asio::execution::context);
  if (!asio::has_service<registration>(context))
    return nullptr;
  return asio::use_service<registration>(context).owner.load();
}

bool shard::here() const noexcept {
  if (current_shard == this)
    return true;
  if (!wrapped_)
    return false;
  std::lock_guard lock(post_mutex_);
  return !stopped_ && context_->get_executor().running_in_this_thread();
}

void shard::begin() {
  waits_ = std::make_unique<waits>(*context_);
  const int copy = ::fcntl(poller_.descriptor(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0)
    throw boost::system::system_error(errno, boost::system::system_category(), "fcntl");
  waits_->ready.assign(copy);
  if (!wrapped()) // a wrapped context's run() ends by the user's rules
    waits_->work.emplace(context_->get_executor());
  watch();
}

void shard::watch() {
  waits_->ready.async_wait(asio::posix::stream_descriptor::wait_read,
                           [this, self = shared_from_this()](boost::system::error_code ec) {
                             if (ec || !waits_)
                               return;
                             {
                               turn t(*this);
                               poller_.dispatch();
                             }
                             if (waits_)
                               watch();
                           });
}

void shard::run_loop() {
  struct marked { // also when something throws out of the loop
    explicit marked(shard *s) noexcept { current_shard = s; }
    ~marked() { current_shard = nullptr; }
  };
  const marked thread(this);
  context_->run();
}

void shard::start(timer &t, time_point when) {
  wheel_.start(t, when);
  arm_tick();
}

void shard::arm_tick() {
  if (ticking_ || manual_ || !waits_ || wheel_.empty())
    return;
  ticking_ = true;
  waits_->tick.expires_after(wheel_.tick());
  waits_->tick.async_wait([this, self = shared_from_this()](boost::system::error_code ec) {
    ticking_ = false;
    if (ec || !waits_)
      return;
    {
      turn t(*this);
      wheel_.advance(now());
    }
    arm_tick();
  });
}

void shard::use_manual_clock() noexcept {
  manual_now_ = clock::now();
  manual_ = true;
}

void shard::advance(duration d) {
  manual_now_ += d;
  turn t(*this);
  wheel_.advance(manual_now_);
}

void shard::flush_later(flushable &f) {
  if (f.flush_queued_)
    return;
  f.flush_queued_ = true;
  flushes_.push_back(&f);
  if (depth_ == 0 && !flush_posted_ && context_) {
    flush_posted_ = true;
    asio::post(*context_, [this, self = shared_from_this()] {
      flush_posted_ = false;
      turn t(*this);
    });
  }
}

void shard::withdraw(flushable &f) noexcept {
  if (!f.flush_queued_)
    return;
  f.flush_queued_ = false;
  for (auto *list : {&flushes_, &flushing_})
    for (auto *&entry : *list)
      if (entry == &f)
        entry = nullptr;
}

void shard::run_flushes() noexcept {
  // A flush may ask for further ones (a gather that completes sends again); a bounded number of
  // rounds runs now and the rest in the next turn, so that the loop goes on.
  for (int round = 0; round < 4 && !flushes_.empty(); ++round) {
    flushing_.swap(flushes_);
    for (std::size_t i = 0; i < flushing_.size(); ++i)
      if (auto *f = flushing_[i]) {
        f->flush_queued_ = false;
        f->flush_turn();
      }
    flushing_.clear();
  }
  if (!flushes_.empty() && !flush_posted_ && context_) {
    flush_posted_ = true;
    asio::post(*context_, [this, self = shared_from_this()] {
      flush_posted_ = false;
      turn t(*this);
    });
  }
}

buffer &shard::read_buffer() {
  if (!read_buffer_)
    read_buffer_ = buffer::allocate(read_buffer_size);
  return read_buffer_;
}

void shard::rethrow_from_loop(std::exception_ptr e) noexcept {
  if (context_)
    asio::post(*context_, [thrown = std::move(e)] { std::rethrow_exception(thrown); });
}

shard::turn::turn(shard &s) : shard_(s), previous_(current_shard) {
  if (s.wrapped())
    s.check_thread();
  current_shard = &s;
  if (s.depth_++ == 0)
    s.turn_time_ = clock::now();
  s.inside_.store(1, std::memory_order_relaxed);
}

shard::turn::~turn() {
  if (shard_.depth_ == 1)
    shard_.run_flushes();
  if (--shard_.depth_ == 0)
    shard_.inside_.store(0, std::memory_order_relaxed);
  current_shard = previous_;
}

// A wrapped context may change threads between runs, so a new thread alone proves nothing. When one
// shows up it holds the loop for a moment and posts a probe: only a second thread can run it.
void shard::check_thread() {
  const auto me = std::this_thread::get_id();
  if (runner_.load(std::memory_order_relaxed) == me)
    return;
  const auto last = runner_.exchange(me);
  // Taken before the wait below: two that hold the loop at once must not wait for each other.
  if (inside_.exchange(1) != 0)
    throw std::logic_error(two_threads);
  if (last == std::thread::id())
    return;
  struct probe_state {
    std::mutex mutex;
    std::condition_variable ran;
    bool done = false;
  };
  auto state = std::make_shared<probe_state>();
  asio::post(*context_, [state, me] {
    if (std::this_thread::get_id() == me)
      return;
    std::lock_guard lock(state->mutex);
    state->done = true;
    state->ran.notify_one();
  });
  std::unique_lock lock(state->mutex);
  if (state->ran.wait_for(lock, std::chrono::milliseconds(50), [&] { return state->done; })) {
    inside_.store(0);
    throw std::logic_error(two_threads);
  }
}

void shard::enroll(resident &r) noexcept {
  r.enrolled_ = true;
  r.prev_ = nullptr;
  r.next_ = residents_;
  if (residents_)
    residents_->prev_ = &r;
  residents_ = &r;
}

void shard::leave(resident &r) noexcept {
  if (!r.enrolled_)
    return;
  r.enrolled_ = false;
  (r.prev_ ? r.prev_->next_ : residents_) = r.next_;
  if (r.next_)
    r.next_->prev_ = r.prev_;
}

void shard::stop_accepting() noexcept {
  std::lock_guard lock(post_mutex_);
  stopped_ = true;
}

void shard::tear_down() noexcept {
  stop_accepting();
  if (!context_)
    return;
  auto *previous = std::exchange(current_shard, this);
  while (residents_) {
    auto &r = *residents_;
    leave(r);
    r.on_shard_gone();
  }
  waits_.reset();
  if (asio::has_service<registration>(*context_))
    asio::use_service<registration>(*context_).owner = nullptr;
  if (owned_)
    owned_.reset(); // destroys the coroutines that still wait
  context_ = nullptr;
  executor_ = asio::any_io_executor();
  for (auto *f : flushes_)
    if (f)
      f->flush_queued_ = false;
  flushes_.clear();
  read_buffer_.reset();
  current_shard = previous;
}

} // namespace chorus::detail
