#pragma once
// All links of a run, their epoll set, and the buffers that they share.

#include "link.hpp"
#include "settings.hpp"

#include <sys/epoll.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace load {

class fleet {
public:
  explicit fleet(const settings &s);
  ~fleet();
  fleet(const fleet &) = delete;
  fleet &operator=(const fleet &) = delete;

  // Dials one after another, within what is left of the connect timeout. Link i expects the messages of
  // sender i with `own_messages`, else those of sender 0.
  void open(std::uint32_t count, bool own_messages);
  // With a small receive buffer and outside the epoll set: nobody reads them.
  void open_stalled(std::uint32_t count);

  std::span<const std::unique_ptr<link>> links() const { return links_; }
  std::span<const std::unique_ptr<link>> stalled() const { return stalled_; }

  // The links with something to do; waits for at most `milliseconds`.
  std::span<const epoll_event> wait(int milliseconds);
  static link &of(const epoll_event &e) { return *static_cast<link *>(e.data.ptr); }
  void watch(link &l);  // asks for writability exactly while the link is blocked
  void forget(link &l); // no more events of it

  std::vector<std::uint8_t> incoming;
  std::vector<std::uint8_t> scratch;

private:
  void add(std::vector<std::unique_ptr<link>> &to, int receive_buffer, std::uint32_t sender);

  target target_;
  std::uint64_t deadline_ns_;
  int epoll_;
  std::vector<epoll_event> events_;
  std::vector<std::unique_ptr<link>> links_;
  std::vector<std::unique_ptr<link>> stalled_;
  std::vector<bool> wants_output_;
};

// Throws failure "connection_lost" that names the link and its reason, unless it is open.
void demand_open(const link &l);

} // namespace load
