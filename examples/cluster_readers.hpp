#pragma once
// Readers of the cluster demo without the resume protocol, one in each room: what they get is what the
// server has sent, for no client drops what it has had before. All are on one node, which is not to end.

#include "cluster_account.hpp"

#include <chorus/chorus.hpp>

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cluster_demo {

class readers {
public:
  // With `echo` the fifth message of the first room counts twice.
  readers(chorus::runtime &rt, account &books, const std::string &node, bool echo);

  std::size_t connected() const;
  // Completes when all coroutines have ended.
  chorus::task<> close();

private:
  chorus::task<> listen(std::size_t room);
  chorus::task<> close_one(std::size_t room);
  void take(std::size_t room, std::string_view text);

  chorus::runtime &runtime_;
  account &books_;
  const bool echo_;
  std::size_t heard_ = 0; // in the first room
  std::vector<chorus::client> clients_{};
  std::atomic<bool> closing_{false};
  std::atomic<std::size_t> running_{0};
};

} // namespace cluster_demo
