#include <chorus/client/group_member.hpp>

#include <chorus/client/client_core.hpp>

#include <stdexcept>

namespace chorus::detail {

namespace {

void give_up(const std::shared_ptr<shard> &home, const std::vector<group_watch> &watches,
             const failure &why) {
  for (const auto &w : watches)
    home->post([w, why] {
      if (const auto job = w.job.lock())
        job->give_up(w.number, why);
    });
}

void tell_attempt(const std::shared_ptr<shard> &home, group_member &m, const failure &why) {
  std::lock_guard held(m.mutex);
  for (const auto &w : m.watches)
    home->post([w, why] {
      if (const auto job = w.job.lock())
        job->attempt_failed(w.number, w.attempts, why);
    });
}

result<std::shared_ptr<client>> started(const std::shared_ptr<group_member> &member, runtime &rt,
                                        const std::shared_ptr<shard> &home) {
  auto &m = *member;
  std::shared_ptr<client> ended; // goes after the mutex is free
  std::lock_guard held(m.mutex);
  if (m.gone)
    return failure(error::aborted);
  if (!m.line || m.line->state() == client_state::closed) {
    ended.swap(m.line);
    try {
      const auto core = client_core::make(rt, m.options);
      core->report_attempts([weak = std::weak_ptr(member), home](const failure &why) {
        if (const auto self = weak.lock())
          tell_attempt(home, *self, why);
      });
      m.line = std::make_shared<client>(core);
      core->launch();
    } catch (const std::invalid_argument &e) {
      return failure(error::bad_option, stage::configure, e.what());
    }
  } else if (m.line->state() == client_state::disconnected) {
    m.line->reconnect_now();
  }
  return m.line;
}

} // namespace

std::shared_ptr<client> line_of(group_member &m) {
  std::lock_guard held(m.mutex);
  return m.line;
}

void retire(const std::shared_ptr<shard> &home, group_member &m, const char *why) {
  std::shared_ptr<client> line;
  std::vector<group_watch> watches;
  {
    std::lock_guard held(m.mutex);
    m.gone = true;
    line.swap(m.line);
    watches.swap(m.watches);
  }
  give_up(home, watches, failure(error::aborted, stage::none, why));
}

watching::watching(group_members all, std::shared_ptr<gathering> job, unsigned attempts)
    : all_(std::move(all)), job_(std::move(job)) {
  for (std::size_t i = 0; i < all_.size(); ++i) {
    std::lock_guard held(all_[i]->mutex);
    if (all_[i]->gone)
      job_->give_up(i, error::aborted);
    else
      all_[i]->watches.push_back({job_, i, attempts});
  }
}

watching::~watching() {
  for (const auto &m : all_) {
    std::lock_guard held(m->mutex);
    std::erase_if(m->watches, [this](const group_watch &w) { return w.job.lock() == job_; });
  }
}

task<result<>> open_member(std::shared_ptr<group_member> m, runtime &rt,
                           std::shared_ptr<shard> home, std::chrono::milliseconds wait) {
  if (wait.count() > 0)
    co_await sleep(wait);
  auto line = started(m, rt, home);
  if (!line)
    co_return line.error();
  auto opened = (*line)->connected();
  line = error::not_open; // the client is the group's: its end must not wait for this
  co_return co_await std::move(opened);
}

} // namespace chorus::detail
