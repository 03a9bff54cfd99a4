#include <chorus/client/client_group.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/async/runtime_core.hpp>
#include <chorus/client/gathering.hpp>
#include <chorus/client/group_member.hpp>
#include <chorus/session/bounds.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <random>
#include <utility>

namespace chorus {
namespace detail {

namespace {

using outcomes = result<std::vector<client_outcome>>;

outcomes named(const group_members &all, const result<std::vector<result<>>> &each) {
  if (!each)
    return each.error();
  std::vector<client_outcome> out;
  out.reserve(all.size());
  for (std::size_t i = 0; i < all.size(); ++i)
    out.push_back({all[i]->name, (*each)[i]});
  return out;
}

} // namespace

class client_group_core {
public:
  explicit client_group_core(runtime &rt)
      : runtime_(rt), home_(rt.core()->shards.front()), shards_(rt.size()) {}
  ~client_group_core() = default;
  client_group_core(const client_group_core &) = delete;
  client_group_core &operator=(const client_group_core &) = delete;

  void end() {
    decltype(members_) all;
    {
      std::lock_guard held(mutex_);
      all.swap(members_);
    }
    for (const auto &[name, m] : all)
      retire(home_, *m, "the group was destroyed");
  }

  result<> create(std::string name, client_options options) {
    const auto wrong = [](const std::string &sentence) {
      return failure(error::bad_option, stage::configure, "client_group: " + sentence);
    };
    if (name.empty())
      return wrong("a member needs a name");
    if (options.urls.empty())
      return wrong("urls of \"" + name +
                   "\" is empty; give at least one, like wss://example.org/path");
    auto m = std::make_shared<group_member>(std::move(name));
    m->options = std::move(options);
    std::lock_guard held(mutex_);
    if (members_.contains(m->name))
      return wrong("there is a member \"" + m->name +
                   "\" already; erase it first, or choose another name");
    // All are made on one shard, which would keep them.
    if (m->options.shard == ~0U)
      m->options.shard = next_shard_++ % shards_;
    members_.emplace(m->name, m);
    return {};
  }

  bool erase(std::string_view name) {
    std::shared_ptr<group_member> m;
    {
      std::lock_guard held(mutex_);
      const auto at = members_.find(name);
      if (at == members_.end())
        return false;
      m = std::move(at->second);
      members_.erase(at);
    }
    retire(home_, *m, "the member was erased");
    return true;
  }

  std::shared_ptr<group_member> find(std::string_view name) const {
    std::lock_guard held(mutex_);
    const auto at = members_.find(name);
    return at == members_.end() ? nullptr : at->second;
  }

  group_members all() const {
    std::lock_guard held(mutex_);
    group_members out;
    out.reserve(members_.size());
    for (const auto &[name, m] : members_)
      out.push_back(m);
    return out;
  }

  std::size_t size() const {
    std::lock_guard held(mutex_);
    return members_.size();
  }

  static task<outcomes> connect(std::shared_ptr<client_group_core> self, group_members all,
                                connect_all_options options) {
    if (options.concurrency == 0 || options.jitter.count() < 0 || options.deadline.count() < 0)
      co_return failure(
          error::bad_option, stage::configure,
          "connect_all_options: concurrency must be 1 or more, and neither jitter nor "
          "deadline negative");
    auto work = connect_here(self, std::move(all), options);
    co_return co_await on_shard(self->home_, std::move(work));
  }

  static task<outcomes> send(std::shared_ptr<client_group_core> self, message m,
                             send_all_options options) {
    if (options.deadline.count() < 0)
      co_return failure(error::bad_option, stage::configure,
                        "send_all_options: deadline must not be negative");
    std::vector<client_outcome> out;
    std::vector<std::size_t> late;
    std::vector<task<result<>>> waiting;
    for (const auto &one : self->all()) {
      const auto line = line_of(*one);
      auto sent = line ? line->try_send(m) : failure(error::not_open);
      if (line && !sent && sent.error() == error::queue_full &&
          one->options.outbox_overflow == overflow::wait) {
        late.push_back(out.size());
        waiting.push_back(line->send(m));
      }
      out.push_back({one->name, std::move(sent)});
    }
    if (late.empty())
      co_return out;
    auto work = send_here(self, std::move(waiting), options);
    const auto each = co_await on_shard(self->home_, std::move(work));
    for (std::size_t i = 0; i < late.size(); ++i)
      out[late[i]].outcome = each ? (*each)[i] : result<>(each.error());
    co_return out;
  }

  static task<outcomes> close(std::shared_ptr<client_group_core> self, close_code code,
                              std::string reason) {
    auto work = close_here(self, code, std::move(reason));
    co_return co_await on_shard(self->home_, std::move(work));
  }

private:
  static task<outcomes> connect_here(std::shared_ptr<client_group_core> self, group_members all,
                                     connect_all_options options) {
    std::vector<std::chrono::milliseconds> waits(all.size());
    if (options.jitter.count() > 0) {
      std::random_device device;
      std::uniform_int_distribution<std::chrono::milliseconds::rep> any(
          0, std::min(options.jitter, longest_time).count());
      for (auto &wait : waits)
        wait = std::chrono::milliseconds(any(device));
    }
    auto make = [all, waits = std::move(waits), &rt = self->runtime_, home = self->home_](
                    std::size_t i) { return open_member(all[i], rt, home, waits[i]); };
    auto job =
        std::make_shared<gathering>(self->home_, all.size(), options.concurrency, std::move(make));
    const watching until_done(all, job, options.attempts);
    // The group may go meanwhile; what it leaves to do ends on its own.
    self.reset();
    auto everybody = gathering::all(job, options.deadline);
    const auto each = co_await std::move(everybody);
    co_return named(all, each);
  }

  static task<result<std::vector<result<>>>> send_here(std::shared_ptr<client_group_core> self,
                                                       std::vector<task<result<>>> sends,
                                                       send_all_options options) {
    auto job = gathered(self->home_, std::move(sends));
    auto everybody = gathering::all(std::move(job), options.deadline);
    co_return co_await std::move(everybody);
  }

  static task<outcomes> close_here(std::shared_ptr<client_group_core> self, close_code code,
                                   std::string reason) {
    const auto all = self->all();
    std::vector<task<result<>>> closes;
    closes.reserve(all.size());
    for (const auto &m : all) {
      std::shared_ptr<client> line;
      std::vector<group_watch> watches;
      {
        std::lock_guard held(m->mutex);
        line = m->line;
        watches = m->watches;
      }
      for (const auto &w : watches)
        if (const auto job = w.job.lock())
          job->give_up(w.number, failure(error::not_open, stage::none, "the group was closed"));
      closes.push_back(line ? line->close(code, reason) : nothing_to_do());
    }
    const auto home = self->home_;
    self.reset();
    auto job = gathered(home, std::move(closes));
    auto everybody = gathering::all(std::move(job), std::chrono::milliseconds(0));
    const auto each = co_await std::move(everybody);
    co_return named(all, each);
  }

  static task<result<>> nothing_to_do() { co_return result<>(); }

  // All at once. The tasks hold their clients' cores, not the clients.
  static std::shared_ptr<gathering> gathered(const std::shared_ptr<shard> &home,
                                             std::vector<task<result<>>> all) {
    const auto count = all.size();
    auto tasks = std::make_shared<std::vector<task<result<>>>>(std::move(all));
    auto make = [tasks = std::move(tasks)](std::size_t i) { return std::move((*tasks)[i]); };
    return std::make_shared<gathering>(home, count, count, std::move(make));
  }

  runtime &runtime_; // touched on its own threads only
  const std::shared_ptr<shard> home_;
  const unsigned shards_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<group_member>, std::less<>> members_;
  unsigned next_shard_ = 0;
};

} // namespace detail

using detail::client_group_core;

namespace {
task<result<std::vector<client_outcome>>> no_group() { co_return failure(error::not_open); }
task<result<>> no_member(std::string name) {
  co_return failure(error::not_open, stage::none,
                    "the group has no member \"" + name + "\"; create it first");
}
task<result<>> only(task<result<std::vector<client_outcome>>> work) {
  auto each = co_await std::move(work);
  if (!each)
    co_return each.error();
  co_return each->front().outcome;
}
} // namespace

client_group::client_group(runtime &rt) : core_(std::make_shared<client_group_core>(rt)) {}
client_group::~client_group() {
  if (core_)
    core_->end();
}
client_group::client_group(client_group &&) noexcept = default;
client_group &client_group::operator=(client_group &&other) noexcept {
  if (this != &other) {
    if (core_)
      core_->end();
    core_ = std::move(other.core_);
  }
  return *this;
}

result<> client_group::create(std::string name, client_options options) {
  if (!core_)
    return failure(error::not_open);
  return core_->create(std::move(name), std::move(options));
}
bool client_group::erase(std::string_view name) { return core_ && core_->erase(name); }
std::shared_ptr<client> client_group::find(std::string_view name) const {
  const auto m = core_ ? core_->find(name) : nullptr;
  return m ? detail::line_of(*m) : nullptr;
}
std::size_t client_group::size() const { return core_ ? core_->size() : 0; }

std::vector<client_standing> client_group::states() const {
  std::vector<client_standing> out;
  if (!core_)
    return out;
  for (const auto &m : core_->all()) {
    const auto line = detail::line_of(*m);
    out.push_back({m->name, line ? line->state() : client_state::disconnected});
  }
  return out;
}

task<result<std::vector<client_outcome>>> client_group::connect_all(connect_all_options options) {
  if (!core_)
    return no_group();
  return client_group_core::connect(core_, core_->all(), options);
}
task<result<>> client_group::connect(std::string_view name) {
  auto m = core_ ? core_->find(name) : nullptr;
  if (!m)
    return no_member(std::string(name));
  detail::group_members one;
  one.push_back(std::move(m));
  return only(client_group_core::connect(core_, std::move(one), {}));
}
task<result<std::vector<client_outcome>>> client_group::send_all(message m,
                                                                 send_all_options options) {
  return core_ ? client_group_core::send(core_, std::move(m), options) : no_group();
}
task<result<std::vector<client_outcome>>> client_group::close_all(close_code code,
                                                                  std::string_view reason) {
  return core_ ? client_group_core::close(core_, code, std::string(reason)) : no_group();
}

} // namespace chorus
