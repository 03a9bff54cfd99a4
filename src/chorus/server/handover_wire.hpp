#pragma once
// The packets of a handover: unix sockets of type SOCK_SEQPACKET, so that each is whole or not there.
//
//   old -> new   "chorus-handover 1 TOTAL KIND" with up to `most_per_packet` descriptors, until TOTAL are
//                sent; KIND is "file" where they come with their socket files, else "plain"
//   new -> old   "taken", at once
//   new -> old   "ready"
//   old -> new   "yours"

#include <chorus/async/shard.hpp>
#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/descriptor.hpp>

#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <vector>

namespace chorus::detail::handover {

using transport::descriptor;

constexpr std::size_t most_per_packet = 200; // the kernel takes 253
constexpr std::size_t most_sockets = 4096;
constexpr std::string_view magic = "chorus-handover 1 ";
constexpr std::string_view with_file = " file";
constexpr std::string_view plain = " plain";
constexpr std::string_view taken = "taken";
constexpr std::string_view ready = "ready";
constexpr std::string_view yours = "yours";

bool same_user(int fd) noexcept; // as the process at the other end
// At most `most_per_packet`.
bool send(int fd, std::string_view text, const std::vector<int> &sockets = {}) noexcept;

enum class got : unsigned char { packet, nothing_yet, ended };
struct packet {
  std::string text;
  std::vector<descriptor> sockets;
};
got receive(int fd, packet &into) noexcept;

// Waits until there is something to read, or to accept; false at the deadline.
task<bool> readable(shard &home, int fd, time_point deadline);
// The next packet; fails with lost or timed_out.
task<result<packet>> next_packet(shard &home, int fd, time_point deadline);

} // namespace chorus::detail::handover
