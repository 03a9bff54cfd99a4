#include <chorus/cluster/redis_locators.hpp>

#include <utility>
#include <vector>

namespace chorus::detail {

namespace {

class fixed_locator final : public redis_locator {
public:
  explicit fixed_locator(redis_address where) : where_(std::move(where)) {}
  task<result<redis_address>> find() override { co_return where_; }

private:
  redis_address where_;
};

class sentinel_locator final : public redis_locator {
public:
  explicit sentinel_locator(std::shared_ptr<const redis_ground> ground)
      : ground_(std::move(ground)) {}
  task<result<redis_address>> find() override { return look(ground_, *this); }

private:
  static task<result<redis_address>> look(std::shared_ptr<const redis_ground> ground,
                                          sentinel_locator &self) {
    failure last;
    const auto &all = ground->target.addresses;
    const auto begin = self.next_++;
    for (std::size_t i = 0; i != all.size(); ++i) {
      const auto where = all[(begin + i) % all.size()];
      redis_dial to{where, ground->tls, ground->options.connect_timeout};
      std::vector<std::string> words;
      words.reserve(3);
      words.emplace_back("SENTINEL");
      words.emplace_back("get-master-addr-by-name");
      words.push_back(ground->target.master);
      auto asking = redis_ask_once(ground->home, std::move(to), ground->target.user,
                                   ground->target.password, std::move(words));
      auto said = co_await std::move(asking);
      if (!said) {
        last = said.error();
        continue;
      }
      if (said->is == redis_reply::type::list && said->items.size() == 2) {
        redis_address found;
        found.host = said->items[0].text;
        found.port = said->items[1].text;
        co_return found;
      }
      last = at_address(failure(error::not_open, stage::connect,
                                said->is == redis_reply::type::nil
                                    ? "this Sentinel knows no master \"" + ground->target.master +
                                          "\": see its `sentinel monitor`"
                                    : "this Sentinel's answer is none"),
                        where);
    }
    co_return last;
  }

  std::shared_ptr<const redis_ground> ground_;
  std::size_t next_ = 0;
};

} // namespace

std::shared_ptr<redis_locator> make_fixed_locator(redis_address where) {
  return std::make_shared<fixed_locator>(std::move(where));
}

std::shared_ptr<redis_locator> make_sentinel_locator(std::shared_ptr<const redis_ground> ground) {
  return std::make_shared<sentinel_locator>(std::move(ground));
}

} // namespace chorus::detail
