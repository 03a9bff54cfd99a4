#include <chorus/client/client.hpp>

#include <chorus/async/shard.hpp>
#include <chorus/client/client_core.hpp>

#include <boost/asio/this_coro.hpp>

#include <stdexcept>

namespace chorus {

namespace {

task<result<client>> create(client_options options) {
  auto *home = detail::shard::of(co_await boost::asio::this_coro::executor);
  if (!home)
    co_return failure(
        error::no_runtime, stage::configure,
        "create_client needs a chorus::runtime on the io_context of the coroutine that "
        "awaits it: spawn the coroutine with runtime::spawn, or build a "
        "chorus::runtime around your io_context");
  const auto urls = static_cast<unsigned>(options.urls.size());
  std::shared_ptr<detail::client_core> core;
  failure unusable;
  try {
    core = std::make_shared<detail::client_core>(home->shared_from_this(), std::move(options));
  } catch (const std::invalid_argument &e) {
    unusable = failure(error::bad_option, stage::configure, e.what());
  }
  if (!core)
    co_return unusable;
  core->limit_first_attempts(urls);
  client made(core);
  core->launch();
  auto connecting = made.connected();
  const auto connected = co_await std::move(connecting);
  if (!connected)
    co_return connected.error();
  co_return result<client>(std::move(made));
}

} // namespace

task<result<client>> create_client(std::string_view url, const client_options &options) {
  auto own = options;
  own.urls.insert(own.urls.begin(), std::string(url));
  return create(std::move(own));
}

task<result<client>> create_client(std::string_view url) {
  client_options options;
  options.urls.emplace_back(url);
  return create(std::move(options));
}

} // namespace chorus
