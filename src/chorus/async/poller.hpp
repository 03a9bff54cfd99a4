#pragma once
// Readiness of plain descriptors for one shard: an epoll set of our own, which the shard's
// io_context watches as a single descriptor. Against one Asio wait per connection this saves an
// epoll_ctl for every turn of every connection.
//
// Everything here belongs to the shard's thread.

#include <cstdint>
#include <memory>
#include <vector>

namespace chorus::detail {

enum ready : unsigned { ready_read = 1, ready_write = 2, ready_hangup = 4 };

// Told about readiness. Level-triggered: told again as long as the interest stays and the condition
// holds. May remove itself or any other entry while it is being told.
class ready_listener {
public:
  virtual void on_ready(unsigned what) noexcept = 0;

protected:
  ~ready_listener() = default;
};

struct poll_entry {
  ready_listener *listener = nullptr; // null once removed
  int descriptor = -1;
  unsigned interest = 0;
};

class poller {
public:
  poller(); // throws boost::system::system_error when the kernel refuses an epoll set
  ~poller();
  poller(const poller &) = delete;
  poller &operator=(const poller &) = delete;

  int descriptor() const noexcept { return set_; }
  // Watches `descriptor`, which stays the caller's to close, after `remove`. Null when the kernel
  // refuses (errno tells). Hang-ups and errors are told whatever the interest is: once when it is
  // empty, else each time.
  poll_entry *add(int descriptor, ready_listener &listener, unsigned interest) noexcept;
  void modify(poll_entry &entry, unsigned interest) noexcept;
  // The entry is invalid from here on and its listener is not told any more.
  void remove(poll_entry *entry) noexcept;

  // Tells the listeners what is ready now; true when there may be more.
  bool dispatch() noexcept;

  std::size_t size() const noexcept { return live_; }

private:
  int set_;
  bool dispatching_ = false;
  std::size_t live_ = 0;
  std::vector<poll_entry *> removed_; // kept until no event of this batch can name them
};

} // namespace chorus::detail
