#pragma once
// Who has left here but not at the engine, since that was not told of it or has not answered yet. From
// any thread; of one room or user by one after the other.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace chorus::detail {

class pending_leaves {
public:
  // Of those that have failed; others are bounded by what the engine takes.
  static constexpr std::size_t most = 16'384;

  struct one {
    std::string channel;
    std::string id;
    std::uint64_t number = 0;
  };

  // The engine is asked to let it out; the number is for its answer.
  std::uint64_t begin(const std::string &channel, const std::string &id);
  void succeeded(const one &o);
  // False: too many have failed, and none of them is known any more.
  bool failed(const one &o);
  // It is there once more, and what failed before is not asked for again.
  void forget(const std::string &channel, const std::string &id);
  void forget_failed();
  std::vector<one> failed() const;
  // `ask` asks the engine again for one of those that `failed` has listed, if it has not been forgotten.
  // It is called under the lock, so that what is entered after `forget` stays: the answer is to come later.
  template <class F> void again(const one &o, F ask) {
    std::lock_guard lock(mutex_);
    const auto found = find(o);
    if (found == all_.end() || !std::exchange(found->second.failed, false))
      return;
    --failed_;
    ask();
  }

private:
  struct state {
    std::uint64_t number = 0;
    bool failed = false;
  };
  using states = std::map<std::pair<std::string, std::string>, state>; // by channel and id
  states::iterator find(const one &o);
  void erase(states::iterator at);

  mutable std::mutex mutex_;
  std::uint64_t number_ = 0;
  std::size_t failed_ = 0;
  states all_;
};

} // namespace chorus::detail
