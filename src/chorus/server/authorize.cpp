#include <chorus/server/authorize.hpp>

#include <chorus/async/spawn.hpp>
#include <chorus/server/server_shard.hpp>

#include <utility>

namespace chorus::detail {

namespace {

task<> call_hook(std::shared_ptr<hook_run> run, std::shared_ptr<server_shard> owner,
                 std::shared_ptr<const chorus::detail::route> target, request r) {
  const auto *hook = hook_of(*owner, *target);
  auto work = (*hook)(std::move(r));
  auto answer = co_await std::move(work);
  run->answer = std::move(answer);
}

// Destroyed without a call when the loop is torn down.
struct hook_ended {
  std::shared_ptr<hook_run> run;
  void operator()(std::exception_ptr e) noexcept {
    run->thrown = std::move(e);
    run->end();
  }
};

} // namespace

const authorize_hook *hook_of(const server_shard &owner, const route &target) noexcept {
  if (target.options.authorize)
    return &target.options.authorize;
  const auto &common = owner.setup()->options.authorize;
  return common ? &common : nullptr;
}

std::shared_ptr<hook_run> start_hook(std::shared_ptr<server_shard> owner,
                                     std::shared_ptr<const chorus::detail::route> target,
                                     request r) {
  auto run = std::make_shared<hook_run>();
  auto &home = owner->home();
  auto work = call_hook(run, std::move(owner), std::move(target), std::move(r));
  spawn_here(home.executor(), std::move(work), run->cancel.slot(), hook_ended{run});
  return run;
}

} // namespace chorus::detail
