#include <chorus/cluster/redis_pool.hpp>

#include <chorus/cluster/redis_pool_core.hpp>

#include <openssl/evp.h>

#include <array>
#include <utility>

namespace chorus::detail {

redis_script make_redis_script(std::string text) {
  std::array<unsigned char, 20> digest{};
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
  constexpr std::string_view digits = "0123456789abcdef";
  redis_script made{std::move(text), {}};
  for (const auto byte : digest) {
    made.sha += digits[byte >> 4];
    made.sha += digits[byte & 15];
  }
  return made;
}

result<> check_redis_options(const redis_options &o) {
  const auto bad = [](const char *sentence) {
    return failure(error::bad_option, stage::configure, std::string("redis_options: ") + sentence);
  };
  using std::chrono::milliseconds;
  for (const auto d : {o.connect_timeout, o.answer_timeout, o.ping_interval, o.look_up_timeout})
    if (d <= milliseconds::zero() || d > std::chrono::hours(24))
      return bad("connect_timeout, answer_timeout, ping_interval and look_up_timeout are more than "
                 "nothing and at most a day");
  if (o.max_waiting == 0 || o.max_waiting_bytes == 0)
    return bad("max_waiting and max_waiting_bytes are 1 or more");
  if (o.reconnect.initial < milliseconds::zero() || o.reconnect.cap < milliseconds::zero() ||
      !(o.reconnect.factor >= 1.0 && o.reconnect.factor < 1e6))
    return bad("reconnect has an initial delay and a cap from 0 on, and a factor of 1 or more");
  return {};
}

std::shared_ptr<redis_pool> redis_pool::make(std::shared_ptr<shard> home,
                                             const redis_target &target,
                                             const redis_options &options, listener told) {
  std::shared_ptr<redis_pool> made(new redis_pool());
  made->core_ =
      std::make_shared<redis_pool_core>(std::move(home), target, options, std::move(told));
  return made;
}

redis_pool::~redis_pool() { core_->close(); }
void redis_pool::begin() { core_->begin(); }
void redis_pool::close() noexcept { core_->close(); }
void redis_pool::command(std::string_view key, std::vector<std::string> words,
                         redis_answer answer) {
  core_->submit(key, std::move(words), nullptr, std::move(answer), {});
}
void redis_pool::subscribe(std::string channel) { core_->subscribe(std::move(channel)); }
void redis_pool::unsubscribe(const std::string &channel) { core_->unsubscribe(channel); }
bool redis_pool::clustered() const noexcept { return core_->clustered(); }
bool redis_pool::up() const noexcept { return core_->up(); }
failure redis_pool::why_down() const { return core_->why_down(); }
broker_stats redis_pool::stats() const { return core_->stats(); }

void redis_pool::script(const redis_script &which, std::vector<std::string> keys,
                        std::vector<std::string> arguments, redis_answer answer,
                        std::shared_ptr<redis_trail> trail) {
  std::vector<std::string> words;
  words.reserve(1 + keys.size() + arguments.size());
  words.push_back(std::to_string(keys.size()));
  for (auto *list : {&keys, &arguments})
    for (auto &word : *list)
      words.push_back(std::move(word));
  const auto key = words.size() > 1 ? words[1] : std::string();
  core_->submit(key, std::move(words), &which, std::move(answer), std::move(trail));
}

} // namespace chorus::detail
