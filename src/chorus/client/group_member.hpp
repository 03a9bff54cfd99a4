#pragma once
// A member of a client_group: the options of a client, and the client once it was started.

#include <chorus/client/client.hpp>
#include <chorus/client/gathering.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace chorus::detail {

// A `connect_all` that a member is part of.
struct group_watch {
  std::weak_ptr<gathering> job;
  std::size_t number = 0;
  unsigned attempts = 0;
};

struct group_member {
  explicit group_member(std::string n) : name(std::move(n)) {}

  const std::string name;
  client_options options; // not changed once others can see the member
  std::mutex mutex;       // of what follows
  std::shared_ptr<client> line;
  bool gone = false;
  std::vector<group_watch> watches;
};

using group_members = std::vector<std::shared_ptr<group_member>>;

// Any thread; `home` is the group's shard.
std::shared_ptr<client> line_of(group_member &m);
// The member leaves the group.
void retire(const std::shared_ptr<shard> &home, group_member &m, const char *why);

// On the group's shard, so that the runtime is still there: starts the client if need be, after a while,
// and waits for it.
task<result<>> open_member(std::shared_ptr<group_member> m, runtime &rt,
                           std::shared_ptr<shard> home, std::chrono::milliseconds wait);

// While it lives the job hears of the members' failed attempts, and of their end. On the group's shard.
class watching {
public:
  watching(group_members all, std::shared_ptr<gathering> job, unsigned attempts);
  ~watching();
  watching(const watching &) = delete;
  watching &operator=(const watching &) = delete;

private:
  const group_members all_;
  const std::shared_ptr<gathering> job_;
};

} // namespace chorus::detail
