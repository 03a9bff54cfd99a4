#include <chorus/server/room_core.hpp>

#include <chorus/server/hub.hpp>

#include <algorithm>
#include <functional>

namespace chorus::detail {

room_core::room_core(std::string name, const runtime_core &runtime, std::weak_ptr<hub> owner,
                     const std::shared_ptr<const room_complaints> &complaints,
                     const room_options &options)
    : name_(std::move(name)), options_(options), owner_(std::move(owner)),
      counters_(std::make_shared<room_counters>()) {
  for (const auto &s : runtime.shards)
    parts_.push_back(std::make_shared<room_part>(s, counters_, complaints));
  home_ = runtime.shards[std::hash<std::string>()(name_) % runtime.shards.size()];
}

room_core::~room_core() {
  if (const auto owner = owner_.lock())
    owner->forget(name_, this);
}

bool room_core::closed() const noexcept {
  const auto owner = owner_.lock();
  return !owner || owner->closed();
}

std::shared_ptr<room_part> room_core::part_on(const shard &s) const noexcept {
  for (const auto &part : parts_)
    if (part->home().get() == &s)
      return part;
  return nullptr;
}

namespace {

// Of a message on its way, roughly: its block of memory, what is posted for it, its terms.
constexpr std::size_t transit_overhead = 512;

} // namespace

departure room_core::depart(const message &m, const publish_terms *terms) {
  const auto has_members_elsewhere = [this](const auto &part) {
    return part->home() != home_ && part->size() != 0;
  };
  if (home_->here() && std::none_of(parts_.begin(), parts_.end(), has_members_elsewhere))
    return {};
  auto bytes = m.size() + transit_overhead;
  if (terms)
    bytes += terms->except.size() * sizeof(session_id) + terms->key.size();
  auto &all = counters_->in_transit;
  auto before = all.load(std::memory_order_relaxed);
  do {
    if (before != 0 && before + bytes > room_transit_bytes) {
      counters_->refused.fetch_add(1, std::memory_order_relaxed);
      departure none;
      none.refused = true;
      return none;
    }
  } while (!all.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return departure(std::make_shared<const departure::load>(counters_, bytes));
}

void room_core::publish(message m, std::shared_ptr<const publish_terms> terms) {
  auto way = depart(m, terms.get());
  if (way.refused)
    return;
  if (home_->here()) {
    hand_out(m, terms, way.weight);
    return;
  }
  home_->post([self = shared_from_this(), m = std::move(m), terms = std::move(terms),
               weight = std::move(way.weight)] { self->hand_out(m, terms, weight); });
}

void room_core::hand_out(const message &m, const std::shared_ptr<const publish_terms> &terms,
                         const std::shared_ptr<const departure::load> &weight) {
  counters_->published.fetch_add(1, std::memory_order_relaxed);
  for (const auto &part : parts_) {
    if (part->home() == home_)
      part->publish(m, terms, nullptr);
    else if (part->size() != 0)
      part->home()->post([part, m, terms, weight] { part->publish(m, terms, nullptr); });
  }
}

namespace {

// A broadcast that somebody waits for. However the waiting ends, no copy of it goes on waiting for
// room in a member's queue.
class inquiry {
public:
  inquiry(std::shared_ptr<shard> home, std::shared_ptr<gather> whole)
      : home_(std::move(home)), whole_(std::move(whole)) {
    home_->enroll(*whole_);
  }
  inquiry(const inquiry &) = delete;
  inquiry &operator=(const inquiry &) = delete;
  ~inquiry() {
    home_->leave(*whole_);
    give_up();
  }

  void add(std::shared_ptr<room_part> part, std::shared_ptr<gather_part> outcomes) {
    asked_.emplace_back(std::move(part), std::move(outcomes));
  }
  void give_up() noexcept {
    for (auto &[part, outcomes] : std::exchange(asked_, {}))
      if (!whole_->complete())
        part->home()->run([p = part, o = outcomes] { p->give_up(*o); });
  }

private:
  std::shared_ptr<shard> home_;
  std::shared_ptr<gather> whole_;
  std::vector<std::pair<std::shared_ptr<room_part>, std::shared_ptr<gather_part>>> asked_;
};

} // namespace

task<result<broadcast_report>> room_core::broadcast(message m,
                                                    std::shared_ptr<const publish_terms> terms,
                                                    std::chrono::milliseconds deadline,
                                                    bool list_delivered, departure way) {
  const auto self = shared_from_this();
  if (!way.refused)
    counters_->published.fetch_add(1, std::memory_order_relaxed);
  auto whole = std::make_shared<gather>(home_, parts_.size());
  inquiry open(home_, whole);
  for (const auto &part : parts_) {
    auto collected = std::make_shared<gather_part>(whole, list_delivered);
    open.add(part, collected);
    if (way.refused)
      part->home()->run([part, terms, collected] { part->refuse(terms.get(), *collected); });
    else
      part->home()->run(
          [part, m, terms, collected, weight = way.weight] { part->publish(m, terms, collected); });
  }
  m = message(); // others carry it now, and its weight
  way.weight.reset();
  struct deadline_timer : timer {
    explicit deadline_timer(parked &p) noexcept
        : timer([](timer &t) noexcept { static_cast<deadline_timer &>(t).sleeper.wake_later(); }),
          sleeper(p) {}
    parked &sleeper;
  };
  deadline_timer late(whole->sleeper());
  if (deadline.count() != 0)
    home_->start_after(late, deadline);
  while (!whole->complete() && !home_->stopped()) {
    co_await whole->sleeper().park();
    if (co_await was_cancelled())
      break;
    open.give_up(); // complete, or late: then every part reports what it has
  }
  co_return std::move(whole->report());
}

void membership::leave() noexcept {
  if (left_.exchange(true))
    return;
  // The room stays until its part has let the member go.
  part_->home()->run([room = room_, part = part_, id = id_] { part->remove(id); });
}

} // namespace chorus::detail
