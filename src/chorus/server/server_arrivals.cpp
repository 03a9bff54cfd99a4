// What a server's listeners bring: connections to serve, to deal out to other shards, or to refuse.

#include <chorus/server/http.hpp>
#include <chorus/server/server_shard.hpp>

#include <string>
#include <sys/socket.h>
#include <utility>

namespace chorus::detail {

bool http_visit::admit(const std::shared_ptr<server_setup> &setup) noexcept {
  const std::size_t limit = setup->options.max_handshakes;
  if (setup->handshakes.fetch_add(1, std::memory_order_relaxed) >= limit && limit != 0) {
    setup->handshakes.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  counted_in = setup;
  return true;
}

http_visit::~http_visit() {
  if (counted_in)
    counted_in->handshakes.fetch_sub(1, std::memory_order_relaxed);
}

void server_shard::note_accept_errors(server_door &door) noexcept {
  count.accept_errors.fetch_add(door.new_errors(), std::memory_order_relaxed);
}

void server_shard::on_accept(server_door &door, int fd) noexcept {
  transport::descriptor socket(fd);
  note_accept_errors(door);
  count.accepted.fetch_add(1, std::memory_order_relaxed);
  if (const auto next = door.next_in_turn()) {
    next->home().post([next, s = std::move(socket)]() mutable { next->serve(std::move(s)); });
    return;
  }
  serve(std::move(socket));
}

void server_shard::on_refused(server_door &door, int fd) noexcept {
  transport::descriptor socket(fd);
  note_accept_errors(door);
  count.accepted.fetch_add(1, std::memory_order_relaxed);
  turn_away(std::move(socket), "This server has run out of file descriptors; try again later.");
}

// Says why in one write, or not at all.
void server_shard::turn_away(transport::descriptor socket, std::string_view why) noexcept {
  count.refused_limit.fetch_add(1, std::memory_order_relaxed);
  if (setup_->tls)
    return; // an answer would cost a handshake
  static constexpr header_field retry[] = {{"Retry-After", "5"}};
  const std::string answer = write_refusal(503, why, retry);
  (void)::send(socket.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  // Unread bytes at the close would take the answer with them.
  (void)::shutdown(socket.get(), SHUT_WR);
  char request[4096];
  (void)::recv(socket.get(), request, sizeof request, MSG_DONTWAIT);
}

} // namespace chorus::detail
