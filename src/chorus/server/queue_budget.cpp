#include <chorus/server/queue_budget.hpp>

#include <algorithm>
#include <mutex>

namespace chorus::detail {

namespace {
// Of each shard and round: what one round gives up has to be enough mostly, not always.
constexpr std::size_t most_candidates = 16;
} // namespace

struct queue_budget::round {
  struct candidate {
    std::size_t bytes;
    std::shared_ptr<shard_queues> where;
    std::shared_ptr<session_core> who;
  };

  std::shared_ptr<queue_budget> whole;
  std::mutex mutex;
  std::vector<candidate> candidates;
  std::size_t unanswered = 0;

  // True for the last one.
  bool answered() {
    std::lock_guard lock(mutex);
    return --unanswered == 0;
  }
};

void queue_budget::relieve(const std::shared_ptr<queue_budget> &self) {
  if (self->busy_.exchange(true))
    return;
  auto r = std::make_shared<round>();
  r->whole = self;
  r->unanswered = self->shards_.size();
  for (const auto &weak : self->shards_) {
    auto one = weak.lock();
    auto collect = [r, one] {
      std::vector<round::candidate> mine;
      for (auto *m = one->first_; m; m = m->next_)
        mine.push_back({m->bytes_, one, m->core_->shared_from_this()});
      const auto count = std::min(mine.size(), most_candidates);
      std::partial_sort(mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(count), mine.end(),
                        [](const auto &a, const auto &b) { return a.bytes > b.bytes; });
      {
        std::lock_guard lock(r->mutex);
        std::move(mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(count),
                  std::back_inserter(r->candidates));
      }
      if (r->answered())
        choose(r);
    };
    if (!one || !one->home_->post(std::move(collect)))
      if (r->answered())
        choose(r);
  }
}

void queue_budget::choose(const std::shared_ptr<round> &r) {
  auto &all = r->candidates;
  std::sort(all.begin(), all.end(), [](const auto &a, const auto &b) { return a.bytes > b.bytes; });
  const auto total = r->whole->total();
  std::size_t going = 0;
  std::size_t count = 0;
  while (count < all.size() && total - std::min(total, going) > r->whole->limit_)
    going += all[count++].bytes;
  all.resize(count);
  r->unanswered = count + 1;
  for (const auto &one : all) {
    auto evict = [r, who = one.who, where = one.where] {
      const auto before = where->sum_;
      who->evict_for_budget();
      if (where->sum_ < before) // else it has caught up or gone meanwhile
        r->whole->evicted_.fetch_add(1, std::memory_order_relaxed);
      if (r->answered())
        finish(r);
    };
    if (!one.where->home_->post(std::move(evict)) && r->answered())
      finish(r);
  }
  if (r->answered())
    finish(r);
}

void queue_budget::finish(const std::shared_ptr<round> &r) {
  const bool gave_up_some = !r->candidates.empty();
  r->candidates.clear();
  r->whole->busy_ = false;
  // Every shard tells its new sum, and so looks again.
  if (gave_up_some || r->whole->total() > r->whole->limit_)
    for (const auto &weak : r->whole->shards_)
      if (auto one = weak.lock())
        one->home_->post([one] { one->home_->flush_later(*one); });
}

shard_queues::shard_queues(std::shared_ptr<shard> home, std::shared_ptr<queue_budget> whole)
    : home_(std::move(home)), whole_(std::move(whole)) {}

std::shared_ptr<shard_queues> shard_queues::make(std::shared_ptr<shard> home,
                                                 std::shared_ptr<queue_budget> whole) {
  // The last session that knows of it may go on any thread.
  std::shared_ptr<shard_queues> made(new shard_queues(std::move(home), std::move(whole)),
                                     [](shard_queues *gone) {
                                       const auto where = gone->home_;
                                       where->run([owned = std::unique_ptr<shard_queues>(gone)] {});
                                     });
  made->whole_->shards_.push_back(made);
  return made;
}

shard_queues::~shard_queues() { home_->withdraw(*this); }

void shard_queues::meter::changed(std::size_t bytes) noexcept {
  if (bytes == bytes_)
    return;
  auto &own = *owner_;
  if (bytes_ == 0) {
    prev_ = nullptr;
    next_ = own.first_;
    if (next_)
      next_->prev_ = this;
    own.first_ = this;
  } else if (bytes == 0) {
    (prev_ ? prev_->next_ : own.first_) = next_;
    if (next_)
      next_->prev_ = prev_;
  }
  own.sum_ += bytes;
  own.sum_ -= bytes_;
  bytes_ = bytes;
  own.home_->flush_later(own);
}

void shard_queues::flush_turn() noexcept {
  // The flushes of this turn first: what they get rid of does not count.
  if (!std::exchange(behind_flushes_, true)) {
    home_->flush_later(*this);
    return;
  }
  behind_flushes_ = false;
  whole_->total_.fetch_add(sum_ - told_, std::memory_order_relaxed); // wraps around, and back
  told_ = sum_;
  if (whole_->total() > whole_->limit())
    queue_budget::relieve(whole_);
}

} // namespace chorus::detail
