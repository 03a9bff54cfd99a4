#pragma once
// What is said first on a new connection to a Redis, as a state machine without a socket: who logs in, which
// Redis that is, whether it is of use, and that the connection before this one has ended there.

#include <chorus/base/result.hpp>
#include <chorus/cluster/redis_reply.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::detail {

// A connection as Redis knows it.
struct redis_client_id {
  std::string run{}; // of the process; empty: none
  std::int64_t number = 0;
};

struct redis_login_options {
  std::string user{};
  std::string password{};
  std::string name{}; // as CLIENT LIST shows it; empty: none
  unsigned database = 0;
  bool clustered = false; // the target is a cluster
  // To be ended, if this is the same process.
  redis_client_id before{};
};

struct redis_welcome {
  redis_client_id id{};
  std::string version{};
  // Nothing that was sent on the connection before can take effect any more.
  bool before_ended = true;
};

class redis_login {
public:
  explicit redis_login(redis_login_options options);

  // To be sent now; taken by the call. All of one round is sent at once.
  std::string take_output() { return std::exchange(out_, {}); }
  // Each answer in turn. Fails with `auth_refused` (the user, the password or a permission is wrong),
  // `not_open` (it is loading, or a replica, or another kind of Redis) or `protocol`; `told` by it then
  // never again.
  result<> take(const redis_reply &r);
  bool done() const noexcept { return next_ == steps_.size(); }
  const redis_welcome &welcome() const noexcept { return welcome_; }

private:
  enum class step : unsigned char { auth, name, id, select, info, role, ping, end_before };
  void ask(step s);
  failure refused(step s, const redis_reply &r) const;
  result<> take_info(std::string_view text);

  redis_login_options options_;
  std::vector<step> steps_;
  std::size_t next_ = 0;
  std::string out_;
  redis_welcome welcome_;
};

// An error reply as a failure: auth_refused, not_open (not now) or `protocol`.
failure redis_refusal(const redis_reply &r, std::string_view command);

} // namespace chorus::detail
