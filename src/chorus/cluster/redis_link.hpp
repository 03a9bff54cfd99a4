#pragma once
// One connection to Redis that is logged in: what is sent within one turn of the loop goes out with one
// gather write, what comes is told reply by reply. Knows nothing of what the replies answer. Belongs to the
// shard of its stream.

#include <chorus/async/shard.hpp>
#include <chorus/cluster/redis_protocol.hpp>
#include <chorus/transport/stream.hpp>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

namespace chorus::detail {

class redis_link final : ready_listener,
                         flushable,
                         public std::enable_shared_from_this<redis_link> {
public:
  // Told from the loop, never from within a call of the link, but for `read_now`.
  class user {
  public:
    virtual void on_reply(redis_reply r) = 0; // may close the link
    virtual void on_lost(const failure &why) = 0;

  protected:
    ~user() = default;
  };

  // `owner` outlives the link, or closes it.
  redis_link(std::unique_ptr<transport::stream> stream, user &owner);
  ~redis_link();
  redis_link(const redis_link &) = delete;
  redis_link &operator=(const redis_link &) = delete;
  void begin();

  void send(std::string_view bytes);
  // Bytes given to `send` since the beginning, and those of them that the system has taken.
  std::uint64_t given() const noexcept { return given_; }
  std::uint64_t taken() const noexcept { return taken_; }
  time_point last_heard() const noexcept { return heard_; }
  // What has come already is told now: before a connection is given up for its silence.
  void read_now();
  // Nothing is told any more.
  void close() noexcept;

private:
  void on_ready(unsigned what) noexcept override;
  void flush_turn() noexcept override;
  void write_out();
  void lose(const failure &why);

  std::unique_ptr<transport::stream> stream_;
  user *user_;
  redis_reader reader_;
  std::deque<std::string> out_; // the first one from `written_` on
  std::size_t written_ = 0;
  bool blocked_ = false; // until the stream is ready to write
  std::uint64_t given_ = 0;
  std::uint64_t taken_ = 0;
  time_point heard_;
};

} // namespace chorus::detail
