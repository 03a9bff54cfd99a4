// The engines that the application can be tested on.

#include "integration/cluster_support.hpp"

#ifdef CHORUS_TEST_REDIS
#include "support/redis_process.hpp"

#include <chorus/redis.hpp>
#endif
#ifdef CHORUS_TEST_NATS
#include "support/nats_process.hpp"

#include <chorus/nats.hpp>
#endif

#include <atomic>
#include <map>
#include <stdexcept>

namespace cluster_test {

namespace {

std::string engine_name() {
  const auto &suite = boost::unit_test::framework::master_test_suite();
  for (int i = 1; i + 1 < suite.argc; ++i)
    if (std::string_view(suite.argv[i]) == "--engine")
      return suite.argv[i + 1];
  return "memory";
}

std::shared_ptr<chorus::broker> memory_handle(const std::string &cluster) {
  static std::map<std::string, std::weak_ptr<chorus::broker>> all;
  static std::vector<std::shared_ptr<chorus::broker>> kept; // rooms outlive the nodes
  auto found = all[cluster].lock();
  if (!found) {
    found = chorus::make_memory_broker();
    kept.push_back(found);
    all[cluster] = found;
  }
  return found;
}

#ifdef CHORUS_TEST_REDIS
std::shared_ptr<chorus::broker> redis_handle(const std::string &url, const std::string &cluster) {
  chorus::redis_options options;
  options.prefix = cluster + ":";
  options.connect_timeout = options.answer_timeout = 20s;
  return chorus::redis(url, options);
}
std::string redis_url() {
  static test_support::redis_process server;
  return server.url();
}
std::string redis_cluster_url() {
  static test_support::redis_cluster masters;
  return masters.url();
}
#endif

#ifdef CHORUS_TEST_NATS
std::shared_ptr<chorus::broker> nats_handle(const std::string &cluster) {
  static test_support::nats_process server;
  chorus::nats_options options;
  options.prefix = cluster;
  options.connect_timeout = options.answer_timeout = 20s;
  return chorus::nats(server.url(), options);
}
#endif

} // namespace

std::string fresh_cluster() {
  static std::atomic<int> count{0};
  return "test" + std::to_string(++count);
}

std::shared_ptr<chorus::broker> make_handle(const std::string &cluster) {
  const auto name = engine_name();
  if (name == "memory")
    return memory_handle(cluster);
#ifdef CHORUS_TEST_REDIS
  if (name == "redis")
    return redis_handle(redis_url(), cluster);
  if (name == "redis_cluster")
    return redis_handle(redis_cluster_url(), cluster);
#endif
#ifdef CHORUS_TEST_NATS
  if (name == "nats")
    return nats_handle(cluster);
#endif
  throw std::invalid_argument("no such engine here: " + name);
}

} // namespace cluster_test
