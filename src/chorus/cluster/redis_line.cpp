#include <chorus/cluster/redis_line.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/system/system_error.hpp>

#include <algorithm>
#include <random>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

std::uint64_t random_bits() {
  thread_local std::mt19937_64 source{std::random_device{}()};
  return source();
}

} // namespace

redis_line::redis_line(std::shared_ptr<const redis_ground> ground,
                       std::shared_ptr<redis_locator> locator, std::string_view name_suffix)
    : ground_(std::move(ground)), locator_(std::move(locator)),
      name_(ground_->options.client_name + std::string(name_suffix)),
      backoff_(ground_->options.reconnect),
      next_attempt_(*this, [](timer &t) noexcept { static_cast<alarm &>(t).line.attempt(); }),
      next_tick_(*this, [](timer &t) noexcept {
        auto &line = static_cast<alarm &>(t).line;
        const auto self = line.shared_from_this();
        const auto owner = line.owner();
        line.tick(line.now());
        if (!line.closed_)
          line.ground_->home->start_after(t, line.tick_every());
      }) {}

// Limits are kept to about a quarter of them.
std::chrono::milliseconds redis_line::tick_every() const {
  const auto &o = ground_->options;
  const auto shortest = std::min({o.answer_timeout, o.ping_interval, o.look_up_timeout});
  return std::clamp(shortest / 4, std::chrono::milliseconds(10), std::chrono::milliseconds(500));
}

void redis_line::begin() {
  const auto self = shared_from_this();
  attempt();
  if (!closed_)
    ground_->home->start_after(next_tick_, tick_every());
}

void redis_line::close() noexcept {
  if (std::exchange(closed_, true))
    return;
  next_attempt_.cancel();
  next_tick_.cancel();
  if (link_)
    link_->close();
  link_.reset();
  if (connecting_)
    cancel_.emit(asio::cancellation_type::terminal);
}

void redis_line::attempt() {
  if (closed_ || link_)
    return;
  if (connecting_) // the last one is about to end
    return try_later();
  connecting_ = true;
  auto self = shared_from_this();
  auto work = connect(self);
  // What an allocation throws in there is thrown by the loop; a cancellation is ours.
  asio::co_spawn(ground_->home->executor(), std::move(work),
                 asio::bind_cancellation_slot(cancel_.slot(), [self](std::exception_ptr thrown) {
                   self->connecting_ = false;
                   if (thrown && !self->closed_)
                     std::rethrow_exception(thrown);
                 }));
}

task<> redis_line::connect(std::shared_ptr<redis_line> self) {
  auto finding = self->locator_->find();
  auto where = co_await std::move(finding);
  if (self->closed_)
    co_return;
  if (!where) {
    self->attempt_failed(where.error());
    co_return;
  }
  const auto &g = *self->ground_;
  redis_dial to{*where, g.tls, g.options.connect_timeout};
  redis_login_options login;
  login.user = g.target.user;
  login.password = g.target.password;
  login.name = self->name_;
  login.database = g.target.database;
  login.clustered = g.target.is == redis_target::kind::cluster;
  login.before = self->before();
  auto connecting = redis_connect(g.home, std::move(to), std::move(login));
  auto made = co_await std::move(connecting);
  if (self->closed_)
    co_return;
  if (made)
    self->connected(std::move(*where), std::move(*made));
  else
    self->attempt_failed(made.error());
}

void redis_line::connected(redis_address where, redis_connected made) {
  const auto owner = this->owner();
  tried_ = true;
  retiring_ = false;
  where_ = std::move(where);
  welcome_ = std::move(made.welcome);
  link_ = std::make_shared<redis_link>(std::move(made.stream), *this);
  link_->begin();
  opened(welcome_);
}

void redis_line::attempt_failed(const failure &why) {
  const auto owner = this->owner();
  tried_ = true;
  try_later();
  failed(why);
}

void redis_line::try_later() {
  if (!closed_)
    ground_->home->start_after(next_attempt_, backoff_.next(random_bits()));
}

void redis_line::on_lost(const failure &why) {
  const auto self = shared_from_this();
  const auto owner = this->owner();
  const auto gone = std::exchange(link_, nullptr);
  retiring_ = false;
  try_later();
  lost(at_address(why, where_), gone ? gone->taken() : 0);
}

void redis_line::give_up(const failure &why) {
  if (!link_)
    return;
  link_->close();
  on_lost(why);
}

void redis_line::retire(const failure &why) {
  if (!link_)
    return;
  if (!std::exchange(retiring_, true))
    retire_why_ = why;
}

void redis_line::retire_if_idle() {
  if (retiring_ && idle())
    give_up(retire_why_);
}

} // namespace chorus::detail
