#pragma once
// The places that a user's sessions hold among all servers that share an engine: one entry under the
// user's name for each, beside the server's own count of them. From any thread.

#include <chorus/async/task.hpp>
#include <chorus/server/broker_node.hpp>
#include <chorus/server/limits.hpp>
#include <chorus/session/session.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace chorus::detail {

class user_claims : public std::enable_shared_from_this<user_claims> {
public:
  explicit user_claims(std::shared_ptr<broker_node> node) : node_(std::move(node)) {}

  // Held from before its session is open until it is over.
  class claim {
  public:
    claim(std::shared_ptr<user_claims> of, std::string user, std::uint64_t number)
        : of_(std::move(of)), user_(std::move(user)), number_(number) {}
    ~claim();
    claim(const claim &) = delete;
    claim &operator=(const claim &) = delete;
    std::uint64_t number() const noexcept { return number_; }
    const std::string &user() const noexcept { return user_; }
    // False when it had to make room before it was.
    bool open(const session &s);

  private:
    std::shared_ptr<user_claims> of_;
    const std::string user_;
    const std::uint64_t number_;
  };

  // Null when `limit` are there already and the new one is to be refused. An engine that does not
  // answer lets everybody in, as far as this server's own count does. On `here`, the caller's shard.
  static task<std::shared_ptr<claim>> take(std::shared_ptr<user_claims> self,
                                           std::shared_ptr<shard> here, std::string user,
                                           std::size_t limit, over_user_limit how);
  // Another server has let a newer one in.
  void oust(std::uint64_t number);
  // The engine answers: it is told of those that it was not told of, or of all.
  void say_again(bool all);
  std::uint64_t ousted() const noexcept { return ousted_.load(std::memory_order_relaxed); }

private:
  struct state {
    std::string user;
    session holder;
    bool given_up = false;
    bool unsaid = false; // the engine does not know of it
  };
  std::string id_of(std::uint64_t number) const;
  void not_said(std::uint64_t number, const failure &why);
  const std::shared_ptr<broker_node> node_;
  std::mutex mutex_;
  std::uint64_t number_ = 0;
  std::atomic<std::uint64_t> ousted_{0};
  std::unordered_map<std::uint64_t, state> states_;
};

} // namespace chorus::detail
