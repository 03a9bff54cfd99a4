#pragma once
// Servers of one process, each with a line of its own to an engine that they share: a line may be deaf,
// fail in what it is told to, or be cut, as when a machine dies.

#include "integration/resume_support.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace broker_test {

using namespace resume_test;

class line final : public chorus::broker {
public:
  explicit line(std::shared_ptr<chorus::broker> engine) : inner_(std::move(engine)) {}

  std::atomic<bool> cut{false};  // nothing goes out, and nothing is answered
  std::atomic<bool> away{false}; // the engine is, and that is known: see go and come_back
  std::atomic<chorus::error> how{chorus::error::lost}; // calls fail
  std::atomic<bool> deaf{false};                       // what others publish does not come in
  std::atomic<int> unheard{0};                         // messages, while it was deaf
  std::atomic<bool> fails_publish{false}, fails_subscribe{false}, fails_history{false},
      fails_enter{false}, fails_leave{false}, fails_members{false}, fails_epoch{false};
  std::atomic<int> renewals{0};                                  // that were answered
  std::atomic<bool> says_away{false};                            // although it is not
  std::atomic<bool> holds_renewals{false}, holds_members{false}; // the answers come with fail_late
  std::size_t late() {
    std::lock_guard lock(mutex_);
    return late_.size();
  }
  void fail_late() {
    std::vector<std::function<void()>> all;
    {
      std::lock_guard lock(mutex_);
      all.swap(late_);
    }
    for (const auto &f : all)
      f();
  }
  std::atomic<int> refused{0};
  std::atomic<bool> holds_history{false}; // the answers come with fail_held
  std::size_t held() {
    std::lock_guard lock(mutex_);
    return held_.size();
  }
  void fail_held() {
    std::vector<page_read> all;
    {
      std::lock_guard lock(mutex_);
      all.swap(held_);
    }
    for (const auto &answer : all)
      answer(chorus::failure(chorus::error::lost, chorus::stage::none, "the engine is away"));
  }

  // The engine goes away, with all that others say, and comes back.
  void go() {
    deaf = true;
    away = true;
  }
  void come_back() {
    away = false;
    std::lock_guard lock(telling_); // nothing comes before that is told
    deaf = false;
    gap();
  }
  chorus::broker_status status() const override {
    return {!away && !says_away, away || says_away ? "the engine is away" : std::string()};
  }
  // Publishes that got through, whose answers `answer_held` gives: what they were, or a failure.
  std::atomic<bool> holds_answers{false};
  std::size_t unanswered() {
    std::lock_guard lock(mutex_);
    return unanswered_.size();
  }
  void answer_held(std::optional<chorus::error> as = {}) {
    std::vector<std::pair<published, chorus::result<chorus::broker_position>>> all;
    {
      std::lock_guard lock(mutex_);
      all.swap(unanswered_);
    }
    for (const auto &[answer, r] : all)
      answer(as ? chorus::failure(*as, chorus::stage::none, "nobody knows") : r);
  }
  std::atomic<int> published_to{0}, epochs_begun{0};

  // The engine comes back as another one, with nothing in it, and says so.
  void replace(std::shared_ptr<chorus::broker> engine) {
    std::vector<std::shared_ptr<ear>> all;
    {
      std::lock_guard lock(mutex_);
      inner_ = engine;
      all = ears_;
    }
    for (const auto &one : all)
      engine->subscribe(one->room, one, [](const chorus::result<> &) {});
    gap();
  }
  void gap() {
    for (const auto &one : ears())
      if (const auto to = one->to.lock())
        to->on_gap();
  }
  bool listens(const std::string &room) {
    const auto all = ears();
    return std::any_of(all.begin(), all.end(), [&](const auto &e) { return e->room == room; });
  }
  std::size_t present(const std::string &room) {
    std::size_t count = 0;
    engine()->members(room, [&](const auto &r) { count = r->members.size(); });
    return count;
  }

  void publish(chorus::broker_message m, published answer) override {
    if (!usable(fails_publish, answer))
      return;
    ++published_to;
    if (holds_answers)
      answer = [this, to = std::move(answer)](chorus::result<chorus::broker_position> r) {
        std::lock_guard lock(mutex_);
        unanswered_.emplace_back(to, std::move(r));
      };
    engine()->publish(std::move(m), std::move(answer));
  }
  void subscribe(std::string room, std::weak_ptr<chorus::broker_listener> to,
                 done answer) override {
    if (!usable(fails_subscribe, answer))
      return;
    auto e = std::make_shared<ear>(*this, room, std::move(to));
    engine()->subscribe(std::move(room), e, std::move(answer));
    std::lock_guard lock(mutex_);
    ears_.push_back(std::move(e)); // who is seen to listen hears what is said after that
  }
  void unsubscribe(std::string room, const chorus::broker_listener *who) override {
    std::lock_guard lock(mutex_);
    std::erase_if(ears_, [&](const auto &e) {
      const auto to = e->to.lock();
      return e->room == room && (!to || to.get() == who);
    });
  }
  void history(std::string room, chorus::broker_position since, page_read answer) override {
    if (holds_history) {
      std::lock_guard lock(mutex_);
      held_.push_back(std::move(answer));
    } else if (usable(fails_history, answer))
      engine()->history(std::move(room), std::move(since), std::move(answer));
  }
  void begin_epoch(std::string room, std::string ended, done answer) override {
    if (usable(fails_epoch, answer) && ++epochs_begun)
      engine()->begin_epoch(std::move(room), std::move(ended), std::move(answer));
  }
  void enter(std::string room, chorus::broker_member who, std::size_t most, done answer) override {
    if (usable(fails_enter, answer))
      engine()->enter(std::move(room), std::move(who), most, std::move(answer));
  }
  void leave(std::string room, std::string node, std::string id, done answer) override {
    if (usable(fails_leave, answer))
      engine()->leave(std::move(room), std::move(node), std::move(id), std::move(answer));
  }
  void members(std::string room, members_read answer) override {
    if (!held_back(holds_members, answer) && usable(fails_members, answer))
      engine()->members(std::move(room), std::move(answer));
  }
  void renew(std::string node, std::chrono::milliseconds alive, renewed answer) override {
    if (!held_back(holds_renewals, answer) && usable(never_, answer)) {
      engine()->renew(std::move(node), alive, std::move(answer));
      ++renewals;
    }
  }

private:
  struct ear final : chorus::broker_listener {
    ear(line &l, std::string r, std::weak_ptr<chorus::broker_listener> t)
        : of(l), room(std::move(r)), to(std::move(t)) {}
    void on_message(const chorus::broker_message &m) noexcept override {
      std::lock_guard lock(of.telling_);
      if (of.deaf)
        ++of.unheard;
      else if (const auto held = to.lock())
        held->on_message(m);
    }
    void on_presence(const chorus::broker_change &c) noexcept override {
      if (const auto held = to.lock(); held && !of.deaf)
        held->on_presence(c);
    }
    void on_gap() noexcept override {}
    line &of;
    const std::string room;
    const std::weak_ptr<chorus::broker_listener> to;
  };
  template <class Answer> bool usable(const std::atomic<bool> &fails, const Answer &answer) {
    if (cut)
      return false;
    if (!fails && !away)
      return true;
    answer(chorus::failure(how.load(), chorus::stage::none, "the engine is away"));
    ++refused;
    return false;
  }
  template <class Answer> bool held_back(const std::atomic<bool> &holds, const Answer &answer) {
    if (!holds)
      return false;
    std::lock_guard lock(mutex_);
    late_.push_back([answer] {
      answer(chorus::failure(chorus::error::lost, chorus::stage::none, "the engine is away"));
    });
    return true;
  }
  std::shared_ptr<chorus::broker> engine() {
    std::lock_guard lock(mutex_);
    return inner_;
  }
  std::vector<std::shared_ptr<ear>> ears() {
    std::lock_guard lock(mutex_);
    return ears_;
  }

  const std::atomic<bool> never_{false};
  std::mutex telling_;
  std::mutex mutex_;
  std::shared_ptr<chorus::broker> inner_;
  std::vector<std::shared_ptr<ear>> ears_;
  std::vector<page_read> held_;
  std::vector<std::function<void()>> late_;
  std::vector<std::pair<published, chorus::result<chorus::broker_position>>> unanswered_;
};

// What a server of `engine` is to be like.
struct one_of {
  std::shared_ptr<line> engine;
  explicit one_of(const std::shared_ptr<chorus::broker> &shared)
      : engine(std::make_shared<line>(shared)) {}
};

inline void expect(wire &w, std::initializer_list<const char *> want) {
  for (const char *one : want)
    BOOST_CHECK_EQUAL(w.read_frame().payload, one);
}

} // namespace broker_test
