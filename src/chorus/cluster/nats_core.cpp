#include <chorus/cluster/nats_core.hpp>

#include <chorus/cluster/nats_leases.hpp>
#include <chorus/cluster/nats_presence.hpp>
#include <chorus/cluster/nats_rooms.hpp>
#include <chorus/cluster/nats_streams.hpp>
#include <chorus/server/history.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <nats/nats.h>

#include <algorithm>
#include <thread>

namespace chorus::detail {

namespace {

// The threads of engines that are going, so that the last one to let go of a broker, perhaps on a shard
// or on that very thread, need not wait. The process does, at its end.
class ending_threads {
public:
  static ending_threads &instance() {
    static ending_threads all;
    return all;
  }
  void add(std::thread t, std::shared_ptr<std::atomic<bool>> over) {
    const std::lock_guard lock(mutex_);
    std::erase_if(all_, [](one &o) {
      const bool gone = *o.over;
      if (gone)
        o.thread.join();
      return gone;
    });
    all_.push_back({std::move(t), std::move(over)});
  }

private:
  struct one {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> over;
  };
  // libnats cleans up at exit, after this, since it was opened before.
  ending_threads() { nats_Open(-1); }
  ~ending_threads() {
    for (auto &o : all_)
      o.thread.join();
  }
  std::mutex mutex_;
  std::vector<one> all_;
};

constexpr std::chrono::milliseconds retry_wait{200};
constexpr std::chrono::milliseconds refused_wait{1'000};

} // namespace

nats_core::nats_core(nats_target target, nats_options options)
    : options_(std::move(options)), work_(io_.get_executor()), timer_(io_),
      link_(std::move(target), options_), id_(random_epoch()),
      streams_(std::make_unique<nats_streams>(*this)), rooms_(std::make_unique<nats_rooms>(*this)),
      presence_(std::make_unique<nats_presence>(*this)),
      leases_(std::make_unique<nats_leases>(*this)) {}

nats_core::~nats_core() = default;

std::shared_ptr<nats_core> nats_core::make(nats_target target, nats_options options) {
  return std::shared_ptr<nats_core>(new nats_core(std::move(target), std::move(options)));
}

void nats_core::begin() {
  {
    const std::lock_guard lock(mutex_);
    if (begun_ || closed_)
      return;
    begun_ = true;
    away_since_ = clock::now();
    status_ = {false, "it has not connected yet"};
  }
  auto &ending = ending_threads::instance();
  auto over = std::make_shared<std::atomic<bool>>(false);
  boost::asio::post(io_, [this] { connect(); });
  ending.add(std::thread([self = shared_from_this(), over]() mutable {
               self->run();
               self.reset();
               nats_ReleaseThreadMemory();
               *over = true;
             }),
             over);
}

void nats_core::run() {
  io_.run();
  link_.close(); // here, where it may take its time
}

void nats_core::close() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true) || !begun_)
      return;
  }
  boost::asio::post(io_, [self = shared_from_this()] { self->shut(); });
}

void nats_core::shut() {
  way_ = way::closed;
  ++generation_;
  const failure why(error::lost, stage::none, "the broker was closed");
  do_calls();
  fail_pending(why);
  rooms_->shut(why);
  control_.clear();
  timer_.cancel();
  work_.reset();
}

failure nats_core::admit(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (closed_)
    return failure(error::lost, stage::none, "the broker was closed");
  if (waiting_ >= options_.max_waiting || waiting_bytes_ + bytes > options_.max_waiting_bytes) {
    ++refused_;
    return failure(error::queue_full, stage::none,
                   "too many calls wait for the NATS server: send less, or raise "
                   "nats_options::max_waiting");
  }
  ++waiting_;
  waiting_bytes_ += bytes;
  started_.emplace(clock::now(), 0);
  return {};
}

void nats_core::settle(std::size_t bytes, clock::time_point started) {
  const std::lock_guard lock(mutex_);
  --waiting_;
  waiting_bytes_ -= bytes;
  if (const auto found = started_.lower_bound(started); found != started_.end())
    started_.erase(found);
  lag_ = std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - started);
}

void nats_core::add(one_call c) {
  begin();
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      calls_.push_back(std::move(c));
      if (!std::exchange(turning_, true))
        boost::asio::post(io_, [this] { turn(); });
      return;
    }
  }
  if (c.refuse)
    c.refuse(failure(error::lost, stage::none, "the broker was closed"));
}

// On libnats' threads; the inbox says nothing once the link is closed, which this outlives.
void nats_core::wake() {
  boost::asio::post(io_, [this] { turn(); });
}

void nats_core::turn() {
  if (way_ == way::closed)
    return;
  for (auto &e : link_.take())
    take(e);
  do_calls();
  expire();
  rooms_->calls_done();
}

void nats_core::do_calls() {
  {
    const std::lock_guard lock(mutex_);
    turning_ = false;
    for (auto &c : calls_)
      held_.push_back(std::move(c));
    calls_.clear();
  }
  const bool hold = (way_ == way::connecting || way_ == way::restoring || way_ == way::idle) &&
                    clock::now() < hold_until_;
  if (hold) {
    look_at(hold_until_);
    return;
  }
  while (!held_.empty()) {
    auto c = std::move(held_.front());
    held_.pop_front();
    if (way_ == way::ready || !c.refuse) {
      c.run();
    } else {
      ++refused_;
      c.refuse(why_away());
    }
  }
}

failure nats_core::why_away() const {
  if (way_ == way::closed)
    return failure(error::lost, stage::none, "the broker was closed");
  const std::lock_guard lock(mutex_);
  return failure(error::lost, stage::none, "the NATS server is away: " + status_.why);
}

broker_status nats_core::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

broker_stats nats_core::stats() const {
  const auto now = clock::now();
  const std::lock_guard lock(mutex_);
  broker_stats s;
  s.connects = connects_;
  s.disconnects = disconnects_;
  s.commands = commands_;
  s.received = received_;
  s.looked_up = looked_up_;
  s.refused = refused_;
  s.gaps = gaps_;
  s.unreadable = unreadable_;
  s.waiting = waiting_;
  s.waiting_bytes = waiting_bytes_;
  s.lag =
      started_.empty()
          ? lag_
          : std::chrono::duration_cast<std::chrono::microseconds>(now - started_.begin()->first);
  s.away = away_;
  if (away_since_)
    s.away += std::chrono::duration_cast<std::chrono::milliseconds>(now - *away_since_);
  return s;
}

void nats_core::connect() {
  if (way_ == way::closed)
    return;
  way_ = way::connecting;
  hold_until_ = clock::now() + options_.connect_timeout;
  auto r = attempt();
  if (r.has_error() && !link_.alone()) // which is the one that says why
    r = attempt();
  if (r.has_error()) {
    link_.close(); // half of it would be deaf
    went_down(r.error().message());
    spawn(connect_again());
  }
  turn();
}

result<> nats_core::attempt() {
  control_.clear();
  auto r = link_.connect([this] { wake(); });
  for (const auto &one : {"r." + id_ + ".*", std::string("x.*"), std::string("y.*")}) {
    if (r.has_error())
      return r;
    if (auto made = link_.subscribe(subject(one)); made.has_value())
      control_.push_back(std::move(*made));
    else
      r = made.error();
  }
  return r.has_error() ? r : rooms_->subscribe_again();
}

// libnats gives up when it is refused, or when a file of its options can't be read: then perhaps for a
// while only.
task<> nats_core::connect_again() {
  const auto mine = generation_;
  co_await pause(refused_wait);
  if (mine == generation_)
    connect();
}

void nats_core::came_up() {
  way_ = way::restoring;
  hold_until_ = clock::now() + 2 * options_.answer_timeout;
  ++generation_;
  ++connects_;
  spawn(restore());
}

void nats_core::went_down(std::string why) {
  const bool had = way_ == way::ready || way_ == way::restoring;
  way_ = way::away;
  ++generation_;
  if (had)
    ++disconnects_;
  {
    const std::lock_guard lock(mutex_);
    status_ = {false, std::move(why)};
    if (!away_since_)
      away_since_ = clock::now();
  }
  fail_pending(failure(error::lost, stage::none, "the connection to the NATS server was lost"));
  rooms_->away(why_away());
}

// What the streams are is looked at before anything else is asked of them.
task<> nats_core::restore() {
  const auto mine = generation_;
  for (;;) {
    auto r = co_await streams_->restore();
    if (!r.has_error() && mine == generation_)
      r = co_await leases_->restore();
    if (mine != generation_)
      co_return;
    if (!r.has_error())
      break;
    {
      const std::lock_guard lock(mutex_);
      status_ = {false, r.error().message()};
    }
    co_await pause(retry_wait);
    if (mine != generation_)
      co_return;
  }
  way_ = way::ready;
  {
    const std::lock_guard lock(mutex_);
    status_ = {true, {}};
    if (away_since_)
      away_ += std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - *away_since_);
    away_since_.reset();
  }
  rooms_->restored(std::exchange(was_up_, true));
  turn();
}

void nats_core::expire() {
  const auto now = clock::now();
  while (!pending_.empty() && pending_.begin()->second.until <= now)
    finish(pending_.begin()->first,
           {failure(error::timed_out, stage::none, "the NATS server did not answer in time"),
            0,
            {},
            false});
  if (!pending_.empty())
    look_at(pending_.begin()->second.until);
  rooms_->expire(now);
  leases_->expire(now);
}

void nats_core::look_at(clock::time_point when) {
  if (way_ == way::closed || when >= timer_at_)
    return;
  timer_at_ = when;
  timer_.expires_at(when);
  timer_.async_wait([this](const boost::system::error_code &ec) {
    if (ec)
      return;
    timer_at_ = clock::time_point::max();
    turn();
  });
}

void nats_core::spawn(task<> t) { boost::asio::co_spawn(io_, std::move(t), boost::asio::detached); }

task<> nats_core::pause(std::chrono::milliseconds time) {
  boost::asio::steady_timer timer(io_, time);
  boost::system::error_code ec;
  co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
}

} // namespace chorus::detail
