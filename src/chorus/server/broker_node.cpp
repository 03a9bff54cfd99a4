#include <chorus/server/broker_node.hpp>

#include <chorus/server/room_link.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

// What has failed although the engine says that it is there.
constexpr backoff_options between_retries{.initial = std::chrono::milliseconds(100),
                                          .factor = 2,
                                          .cap = std::chrono::milliseconds(5'000),
                                          .spread = jitter::partial};

} // namespace

std::string room_channel(std::string_view room) { return "room/" + std::string(room); }
std::string user_channel(std::string_view user) { return "user/" + std::string(user); }
std::string node_channel(std::string_view node) { return "node/" + std::string(node); }

std::shared_ptr<broker_node> broker_node::make(std::shared_ptr<shard> home,
                                               std::shared_ptr<broker> engine, std::string name,
                                               std::chrono::milliseconds lease) {
  // The last owner may let go on any thread; the timer goes on its shard.
  return std::shared_ptr<broker_node>(
      new broker_node(std::move(home), std::move(engine), std::move(name), lease),
      [](broker_node *gone) {
        const auto where = gone->home_;
        where->run([owned = std::unique_ptr<broker_node>(gone)] {});
      });
}

broker_node::broker_node(std::shared_ptr<shard> home, std::shared_ptr<broker> engine,
                         std::string name, std::chrono::milliseconds lease)
    : home_(std::move(home)), engine_(std::move(engine)), name_(std::move(name)), lease_(lease),
      watch_(engine_), retries_(between_retries), random_(std::hash<std::string>()(name_)) {}

// Perhaps within a call of the engine, which knows by the weak pointer that it listens no more.
broker_node::~broker_node() {
  if (begun_ && home_->here())
    home_->leave(*this);
}

template <class F> void broker_node::at_home(F f) {
  home_->post([weak = weak_from_this(), f = std::move(f)]() mutable {
    if (const auto self = weak.lock())
      f(*self);
  });
}

void broker_node::begin() {
  if (begun_.exchange(true))
    return;
  at_home([](broker_node &self) {
    self.home_->enroll(self);
    self.renew();
  });
}

void broker_node::retire(std::chrono::milliseconds grace) {
  if (!begun_)
    return;
  at_home([grace](broker_node &self) {
    if (std::exchange(self.retired_, true))
      return;
    self.pulse_.cancel();
    self.retry_.cancel();
    self.engine_->renew(self.name_, self.lease_ + grace, [](const result<bool> &) {});
  });
}

void broker_node::on_shard_gone() noexcept {
  pulse_.cancel();
  retry_.cancel();
}

void broker_node::enlist(std::weak_ptr<room_link> link) {
  at_home([link](broker_node &self) {
    std::erase_if(self.all_, [](const auto &one) { return one.expired(); });
    self.all_.push_back(link);
  });
}

void broker_node::look_after(std::weak_ptr<room_link> link, bool now) {
  begin();
  at_home([link, now](broker_node &self) {
    std::erase_if(self.failed_, [&](const auto &one) {
      return one.expired() || (!one.owner_before(link) && !link.owner_before(one));
    });
    if (!link.expired())
      self.failed_.push_back(link);
    if (now)
      self.renew();
    else
      self.soon();
  });
}

void broker_node::subscribe(const std::string &channel, bool &done) {
  if (std::exchange(done, true))
    return;
  engine_->subscribe(channel, weak_from_this(), [weak = weak_from_this(), &done](result<> r) {
    if (!r.has_error())
      return;
    if (const auto self = weak.lock())
      self->at_home([&done, why = r.error()](broker_node &node) {
        done = false; // with the next renewal
        node.complain("did not subscribe this server", why);
        node.soon();
      });
  });
}

void broker_node::renew() {
  if (retired_)
    return;
  retry_.cancel();
  home_->start_after(pulse_, lease_ / 3);
  subscribe(node_channel(name_), hears_itself_);
  subscribe(node_channel({}), hears_all_);
  if (std::exchange(renewing_, true)) {
    renew_again_ = true;
    return;
  }
  const bool ends = std::exchange(starts_over_, false);
  engine_->renew(name_, ends ? std::chrono::milliseconds(0) : lease_,
                 [weak = weak_from_this(), ends](result<bool> r) {
                   if (const auto self = weak.lock())
                     self->at_home([ends, r = std::move(r)](broker_node &node) {
                       if (ends)
                         node.ended(r);
                       else
                         node.renewed(r);
                     });
                 });
}

// It begins anew, and all who are here are said to be.
void broker_node::ended(const result<bool> &r) {
  renewing_ = false;
  if (r.has_error()) {
    starts_over_ = true;
    renewed(r);
    return;
  }
  leaves_.forget_failed();
  renew();
}

// An engine that is away tells when it is back.
void broker_node::soon() {
  failing_ = true;
  if (retired_ || retry_.active() || !engine_->status().connected)
    return;
  home_->start_after(retry_, std::min(retries_.next(random_()), lease_ / 3));
}

void broker_node::renewed(const result<bool> &r) {
  renewing_ = false;
  watch_.renewed(r);
  if (r.has_error()) {
    complain("did not renew this server's lease", r.error());
    // Asked for since, perhaps as the engine was back: this answer may be from before that.
    if (std::exchange(renew_again_, false))
      renew();
    else
      soon();
    return;
  }
  if (!std::exchange(failing_, false))
    retries_.reset();
  troubled_ = troubled_ && !(hears_itself_ && hears_all_);
  auto links = std::exchange(failed_, {});
  leave_again();
  if (on_lease_)
    on_lease_(!*r);
  if (!*r) // whatever was said under a lease before is forgotten
    for (const auto &one : all_)
      if (std::none_of(links.begin(), links.end(), [&](const auto &other) {
            return !one.owner_before(other) && !other.owner_before(one);
          }))
        links.push_back(one);
  for (const auto &weak : links)
    if (const auto link = weak.lock())
      link->at_home([](room_link &one, room_core &) { one.mend(); });
  if (std::exchange(renew_again_, false))
    renew();
}

void broker_node::leave(const std::string &channel, const std::string &id,
                        std::function<void(const failure &)> failed) {
  const pending_leaves::one who{channel, id, leaves_.begin(channel, id)};
  engine_->leave(channel, name_, id,
                 [weak = weak_from_this(), who, told = std::move(failed)](const result<> &r) {
                   const auto self = weak.lock();
                   if (!self)
                     return;
                   self->left(who, r);
                   if (r.has_error() && told)
                     told(r.error());
                 });
}

void broker_node::left(const pending_leaves::one &who, const result<> &r) {
  if (!r.has_error())
    leaves_.succeeded(who);
  else if (leaves_.failed(who))
    at_home([](broker_node &self) { self.soon(); });
  else
    at_home([](broker_node &self) {
      self.starts_over_ = true;
      self.complain("was not told of too many who left: this server's lease begins anew",
                    failure(error::queue_full));
      self.renew();
    });
}

// An answer may come at once, and then under the lock.
void broker_node::leave_again() {
  for (const auto &who : leaves_.failed())
    leaves_.again(who, [&] {
      engine_->leave(who.channel, name_, who.id, [weak = weak_from_this(), who](result<> r) {
        if (const auto self = weak.lock())
          self->at_home([who, r = std::move(r)](broker_node &node) { node.left(who, r); });
      });
    });
}

void broker_node::tell(std::string_view node, broker_message m,
                       std::function<void(const result<> &)> answer) {
  begin();
  m.room = node_channel(node);
  m.origin = name_ + ":" + std::to_string(next_number());
  engine_->publish(std::move(m), [weak = weak_from_this(),
                                  told = std::move(answer)](const result<broker_position> &r) {
    if (!told)
      return;
    if (const auto self = weak.lock())
      self->at_home([told, outcome = r.has_error() ? result<>(r.error())
                                                   : result<>()](broker_node &) { told(outcome); });
  });
}

void broker_node::on_message(const broker_message &m) noexcept {
  if (m.command.empty() || m.origin.starts_with(name_ + ":"))
    return;
  const auto size = m.content.size() + m.command.size() + m.key.size();
  const auto waiting = commands_.fetch_add(1);
  if (command_bytes_.fetch_add(size) + size > most_command_bytes || waiting >= most_commands) {
    commands_.fetch_sub(1);
    command_bytes_.fetch_sub(size);
    dropped_.fetch_add(1);
    if (!dropping_.exchange(true))
      at_home([](broker_node &self) {
        if (self.complain_)
          self.complain_(
              "Other servers ask this one for more than it keeps up with, and some of it "
              "is dropped (chorus_broker_requests_dropped_total).");
      });
    return;
  }
  at_home([m, size](broker_node &self) {
    self.command_bytes_.fetch_sub(size);
    if (self.commands_.fetch_sub(1) == 1)
      self.dropping_ = false;
    if (self.on_command_)
      self.on_command_(m);
  });
}

void broker_node::on_gap() noexcept {
  at_home([](broker_node &self) { self.renew(); });
}

void broker_node::complain(const std::string &what, const failure &why) {
  if (!std::exchange(troubled_, true) && complain_)
    complain_("The broker " + what + ": " + why.message() + ". It is asked again.");
}

} // namespace chorus::detail
