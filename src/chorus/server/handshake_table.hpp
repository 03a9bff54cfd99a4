#pragma once
// The connections of a server that are no sessions, at most max_handshakes of them. When it is full,
// who has been slow makes room: peers that open connections and say nothing must not lock out the
// others. Asked once per connection; may be used from any thread.

#include <chorus/async/timer_wheel.hpp>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace chorus::detail {

struct http_visit;

class handshake_table {
public:
  // Adds `v`, which must be shared and leaves before it ends; false when there is no room. `evicted` is
  // who had to go for it and counts no more:
  // - the oldest one of the address with the most, if that has at least two more than `v`'s, or else
  // - the oldest one of all, if it has been there for `grace`.
  // Only those are given up that the server waits for.
  bool enter(http_visit &v, const std::string &key, std::size_t limit, time_point now,
             duration grace, std::shared_ptr<http_visit> &evicted);
  // Its address turned out to be another.
  void rename(http_visit &v, const std::string &key);
  // It was given up, and goes on all the same: it counts again, though that makes one too many.
  void restore(http_visit &v);
  void leave(http_visit &v) noexcept;
  std::size_t size() const;

private:
  using queue = std::list<http_visit *>; // oldest first
  std::shared_ptr<http_visit> give_up(const std::string &key, time_point now, duration grace);
  void forget(http_visit &v) noexcept;

  mutable std::mutex mutex_;
  std::unordered_map<std::string, queue> by_address_;
  std::size_t size_ = 0;
};

} // namespace chorus::detail
