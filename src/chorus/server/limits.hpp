#pragma once
// How many sessions an address and a user may have, counted over all shards of a server. Asked once
// per upgrade, never per message; may be used from any thread.

#include <chorus/session/session.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace chorus {

enum class over_user_limit : std::uint8_t {
  refuse_new,   // as `on_limit` says
  close_oldest, // the user's oldest session is closed (1008) to make room
};

namespace detail {

class address_tally {
public:
  // False, and nothing is counted, when `limit` are there already.
  bool take(const std::string &key, std::size_t limit);
  void release(const std::string &key) noexcept;
  std::size_t size() const; // addresses

private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::size_t> counts_;
};

class user_table {
public:
  // One of a user's sessions, from before it is open until it is over. Its state is the table's.
  class place {
  public:
    explicit place(std::string user) : user_(std::move(user)) {}

  private:
    friend class user_table;
    const std::string user_;
    session holder_;
    bool given_up_ = false; // counts no more
  };

  // Null when `limit` are there already and the new one is to be refused. Otherwise `ousted` is the
  // session that has to be closed for it, if any.
  std::shared_ptr<place> take(const std::string &user, std::size_t limit, over_user_limit how,
                              session &ousted);
  // The place's session is open; false when it had to make room before it was.
  bool open(place &p, session holder);
  void release(const std::shared_ptr<place> &p) noexcept;
  std::size_t size() const; // users

private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::deque<std::shared_ptr<place>>> users_; // oldest first
};

} // namespace detail

} // namespace chorus
