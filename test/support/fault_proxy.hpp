#pragma once
// A proxy on loopback that does to connections what networks do to them: cuts them at a byte, lets
// them go silent, slows them down, refuses them or never answers. What happens to a connection is said
// before it comes (`next`, `always`) or while it lasts (`cut_all`, `stall_all` and so on).
//
// Everything, the destructor included, belongs to the one thread that runs `executor`, but for the
// constructor. Tests wait for what the proxy has done (`seen`, `passed`), not for time.

#include <chorus/async/task.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace test_support {

enum class way : std::uint8_t { up, down }; // to the server, to the client
enum class ending : std::uint8_t { reset, fin };
enum class welcome : std::uint8_t {
  pass,
  reset,      // at once, without a byte
  black_hole, // stays open and takes what comes; nobody ever answers, and the server knows nothing
};

inline constexpr std::size_t never = SIZE_MAX;

// What happens to one connection. Bytes are counted in each direction from its beginning.
struct faults {
  welcome first = welcome::pass;
  // So many bytes pass, then both sides are cut. With 0 the first byte that would have passed cuts.
  std::size_t cut_up = never;
  std::size_t cut_down = never;
  ending how = ending::reset;
  // So many bytes pass, then nothing does any more, in either direction. Both sides stay open.
  std::size_t stall_up = never;
  std::size_t stall_down = never;
  std::size_t bytes_per_second = 0; // in each direction; 0 for no limit
};

enum class event : std::uint8_t {
  accepted,
  cut,     // by a fault; a side that ended by itself is none
  stalled, // by a fault of its own or by `stall_all`
  ended,   // both sides are closed
};

class fault_proxy {
public:
  // Passes connections on to 127.0.0.1:`to`.
  fault_proxy(const boost::asio::any_io_executor &executor, std::uint16_t to);
  // Closes every connection.
  ~fault_proxy();
  fault_proxy(const fault_proxy &) = delete;
  fault_proxy &operator=(const fault_proxy &) = delete;

  std::uint16_t port() const;
  std::string url(const std::string &target = "/") const;

  // For one connection each, in the order of the calls; then what `always` said (nothing at first).
  void next(const faults &f);
  void always(const faults &f);

  // All connections there are.
  void cut_all(ending how);
  void stall_all();
  void stall_all(way only); // the other way goes on
  void resume_all();        // what had stalled flows again, and its own stall is over
  void throttle_all(std::size_t bytes_per_second);

  // Nobody listens from here on, as if the server's process had gone; the port stays this proxy's.
  void refuse();
  void listen_again();

  std::size_t count(event e) const;
  std::uint64_t bytes(way w) const; // passed on, by all connections
  // Completes when it has happened so often since the beginning.
  chorus::task<> seen(event e, std::size_t times = 1);
  chorus::task<> passed(way w, std::uint64_t bytes);

private:
  class core;
  std::shared_ptr<core> core_;
};

} // namespace test_support
