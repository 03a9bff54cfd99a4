// A message whose outcome at every member is gathered for who sent it.

#include <chorus/server/room_core.hpp>

#include <chorus/server/room_link.hpp>

#include <optional>
#include <utility>

namespace chorus::detail {

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
  if (!handing_out_)
    hand_out_waiting();
  const bool measured = counters_->measured();
  const auto began = measured ? home_->now() : time_point();
  if (!way.refused)
    counters_->published.fetch_add(1, std::memory_order_relaxed);
  if (!way.refused && measured)
    counters_->note_members(*home_);
  auto whole = std::make_shared<gather>(home_, parts_.size());
  inquiry open(home_, whole);
  const bool numbered = link_ && log_ && !way.refused && (!terms || terms->keepable());
  if (link_ && !numbered && !way.refused && (!terms || !terms->only))
    link_->pass_on(m, terms.get());
  const auto k = log_ && !way.refused ? keep(m, terms.get()) : nullptr;
  sent_out with{terms, way.weight};
  const failure refusal(
      error::queue_full, stage::open,
      "too much that was published to the room is still on its way to other shards");
  std::optional<now_handing_out> now(std::in_place, *this);
  for (const auto &part : parts_) {
    auto collected = std::make_shared<gather_part>(whole, list_delivered);
    open.add(part, collected);
    if (way.refused)
      part->home()->run(
          [part, terms, collected, refusal] { part->refuse(terms.get(), *collected, refusal); });
    else if (numbered) {
      part->home()->run([part, terms, collected] { part->await(terms.get(), *collected); });
      with.outcomes.emplace_back(part, collected);
    } else
      part->home()->run([part, m, terms, collected, k, weight = way.weight] {
        part->publish(m, terms, collected, k);
      });
  }
  if (numbered)
    link_->publish(m, std::move(with));
  now.reset();
  with = sent_out();
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
  if (measured)
    counters_->measures->at(home_->index())
        .broadcast_seconds.observe(in_seconds(home_->now() - began));
  co_return std::move(whole->report());
}

} // namespace chorus::detail
