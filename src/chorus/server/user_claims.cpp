#include <chorus/server/user_claims.hpp>

#include <chorus/async/parked.hpp>

#include <charconv>
#include <optional>
#include <utility>

namespace chorus::detail {

namespace {

// One answer of the engine, for a coroutine on a shard.
template <class T> struct answer final : resident {
  parked sleeper;
  std::optional<T> value;
  void on_shard_gone() noexcept override { sleeper.wake_later(); }

  static auto give(const std::shared_ptr<answer> &a, const std::shared_ptr<shard> &here) {
    return [a, here](T value) {
      here->post([a, v = std::move(value)]() mutable {
        a->value = std::move(v);
        a->sleeper.wake_later();
      });
    };
  }
};

template <class T> task<bool> wait_for(std::shared_ptr<answer<T>> a, std::shared_ptr<shard> here) {
  struct enrolled {
    enrolled(shard &s, resident &r) noexcept : where(s), one(r) { where.enroll(one); }
    ~enrolled() { where.leave(one); }
    enrolled(const enrolled &) = delete;
    enrolled &operator=(const enrolled &) = delete;
    shard &where;
    resident &one;
  } held(*here, *a);
  while (!a->value && !here->stopped()) {
    co_await a->sleeper.park();
    if (co_await was_cancelled())
      co_return false;
  }
  co_return a->value.has_value();
}

} // namespace

user_claims::claim::~claim() {
  session last; // goes outside the lock
  {
    std::lock_guard lock(of_->mutex_);
    if (const auto found = of_->states_.find(number_); found != of_->states_.end()) {
      last = std::move(found->second.holder);
      of_->states_.erase(found);
    }
  }
  of_->node_->leave(user_channel(user_), of_->id_of(number_), nullptr);
}

std::string user_claims::id_of(std::uint64_t number) const {
  return node_->name() + ":" + std::to_string(number);
}

// Under the lock, so that none is told of after its end; an answer may come at once.
void user_claims::say_again(bool all) {
  std::lock_guard lock(mutex_);
  for (auto &[number, one] : states_) {
    if (!std::exchange(one.unsaid, false) && !all)
      continue;
    node_->engine()->enter(
        user_channel(one.user), {node_->name(), id_of(number), {}, 0}, 0,
        [weak = weak_from_this(), home = node_->home(), which = number](const result<> &r) {
          if (r.has_error())
            home->post([weak, which, why = r.error()] {
              if (const auto self = weak.lock())
                self->not_said(which, why);
            });
        });
  }
}

void user_claims::not_said(std::uint64_t number, const failure &why) {
  {
    std::lock_guard lock(mutex_);
    if (const auto found = states_.find(number); found != states_.end())
      found->second.unsaid = true;
  }
  node_->look_after({}, why == error::not_open);
}

bool user_claims::claim::open(const session &s) {
  std::lock_guard lock(of_->mutex_);
  auto &mine = of_->states_.at(number_);
  mine.holder = s;
  return !mine.given_up;
}

void user_claims::oust(std::uint64_t number) {
  session holder;
  {
    std::lock_guard lock(mutex_);
    const auto found = states_.find(number);
    if (found == states_.end() || std::exchange(found->second.given_up, true))
      return;
    holder = found->second.holder;
    if (holder && !holder.is_open())
      return; // it makes room already
  }
  ousted_.fetch_add(1, std::memory_order_relaxed);
  if (holder)
    holder.start_close(close_code::policy_violation,
                       "this user has connected elsewhere, and may only so often");
}

task<std::shared_ptr<user_claims::claim>> user_claims::take(std::shared_ptr<user_claims> self,
                                                            std::shared_ptr<shard> here,
                                                            std::string user, std::size_t limit,
                                                            over_user_limit how) {
  std::uint64_t number = 0;
  {
    std::lock_guard lock(self->mutex_);
    number = ++self->number_;
    self->states_.emplace(number, state{user, session()});
  }
  auto mine = std::make_shared<claim>(self, user, number);
  const auto &node = self->node_;
  const auto id = self->id_of(number);
  const bool refusing = how == over_user_limit::refuse_new;
  auto entering = std::make_shared<answer<result<>>>();
  node->engine()->enter(user_channel(user), {node->name(), id, {}, 0}, refusing ? limit : 0,
                        answer<result<>>::give(entering, here));
  auto entered = wait_for<result<>>(entering, here);
  if (!co_await std::move(entered))
    co_return nullptr;
  if (entering->value->has_error()) {
    const auto &why = entering->value->error();
    if (refusing && why == error::limit_reached)
      co_return nullptr;
    self->not_said(number, why);
    co_return mine;
  }
  if (refusing)
    co_return mine;
  auto listing = std::make_shared<answer<result<broker_members>>>();
  node->engine()->members(user_channel(user), answer<result<broker_members>>::give(listing, here));
  auto listed = wait_for<result<broker_members>>(listing, here);
  if (!co_await std::move(listed))
    co_return nullptr;
  if (listing->value->has_error())
    co_return mine;
  const auto &all = (*listing->value)->members;
  for (std::size_t i = 0; i + limit < all.size(); ++i) {
    const auto &old = all[i];
    const auto colon = old.id.rfind(':');
    std::uint64_t which = 0;
    if (old.id == id || colon == old.id.npos ||
        std::from_chars(old.id.data() + colon + 1, old.id.data() + old.id.size(), which).ec !=
            std::errc())
      continue;
    if (old.node == node->name()) {
      self->oust(which);
    } else {
      broker_message m;
      m.command = "oust " + std::to_string(which);
      node->tell(old.node, std::move(m), nullptr);
    }
  }
  co_return mine;
}

} // namespace chorus::detail
