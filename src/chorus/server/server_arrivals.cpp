// What a server's listeners bring: connections to serve, to deal out to other shards, or to refuse.

#include <chorus/server/http.hpp>
#include <chorus/server/server_shard.hpp>

#include <algorithm>
#include <string>
#include <sys/socket.h>
#include <utility>

namespace chorus::detail {

bool http_visit::admit(const std::shared_ptr<server_setup> &setup, std::shared_ptr<shard> where,
                       std::string_view address) {
  home = std::move(where);
  std::shared_ptr<http_visit> gone;
  const auto grace = std::chrono::duration_cast<duration>(setup->options.handshake_timeout) / 8;
  if (!setup->handshakes.enter(*this, address_key(address), setup->options.max_handshakes,
                               home->now(), grace, gone))
    return false;
  counted_in = setup;
  if (gone) {
    auto &there = *gone->home;
    there.post([one = std::move(gone)] { one->evict(); });
  }
  return true;
}

void http_visit::evict() noexcept {
  if (interrupted)
    return;       // it goes anyway
  if (!waits()) { // it has come a step further: let it
    try {
      counted_in->handshakes.restore(*this);
    } catch (const std::exception &) { // no memory to count it in
    }
    return;
  }
  evicted = true;
  cancel.emit(boost::asio::cancellation_type::terminal);
}

http_visit::~http_visit() {
  if (counted_in)
    counted_in->handshakes.leave(*this);
}

bool connection_permit::take(server_setup &setup) noexcept {
  const std::size_t limit = setup.options.max_connections;
  if (setup.admitted.fetch_add(1, std::memory_order_relaxed) >= limit && limit != 0) {
    setup.admitted.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  setup_ = &setup;
  return true;
}

further_places &connection_permit::further() {
  if (!further_)
    further_ = std::make_unique<further_places>(*setup_);
  return *further_;
}

bool connection_permit::take_address(std::string_view address) {
  const auto limit = setup_->options.max_connections_per_address;
  auto key = limit == 0 ? std::string() : address_key(address);
  if (key.empty())
    return true;
  auto &all = further();
  if (!setup_->addresses.take(key, limit))
    return false;
  all.address = std::move(key);
  return true;
}

bool connection_permit::take_user(const std::string &user, session &ousted) {
  const auto limit = setup_->options.max_connections_per_user;
  if (limit == 0 || user.empty())
    return true;
  auto &all = further();
  all.user = setup_->users.take(user, limit, setup_->options.on_user_limit, ousted);
  return all.user != nullptr;
}

std::size_t connection_permit::most_farewells(std::size_t max_connections) noexcept {
  constexpr std::size_t fewest = 16;
  constexpr std::size_t most = 1024;
  return max_connections == 0 ? most : std::clamp(max_connections / 8, fewest, most);
}

bool connection_permit::take_farewell(server_setup &setup) {
  auto place = std::make_unique<further_places>(setup);
  const auto before = setup.farewells.fetch_add(1, std::memory_order_relaxed);
  place->farewell = true; // it gives back what has been counted, also when there are too many
  if (before >= most_farewells(setup.options.max_connections))
    return false;
  further_ = std::move(place);
  return true;
}

bool connection_permit::open(const session &s) {
  if (further_ && further_->claim && !further_->claim->open(s))
    return false;
  return !further_ || !further_->user || setup_->users.open(*further_->user, s);
}

void connection_permit::release() noexcept {
  further_.reset();
  if (auto *setup = std::exchange(setup_, nullptr))
    setup->admitted.fetch_sub(1, std::memory_order_relaxed);
}

further_places::~further_places() {
  if (!address.empty())
    setup.addresses.release(address);
  if (user)
    setup.users.release(user);
  if (farewell)
    setup.farewells.fetch_sub(1, std::memory_order_relaxed);
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
  turn_away(std::move(socket), refusal::descriptors,
            "This server has run out of file descriptors; try again later.");
}

// Says why in one write, or not at all.
void server_shard::turn_away(transport::descriptor socket, refusal reason,
                             std::string_view why) noexcept {
  refused(reason, setup_->tls ? 0 : 503, next_session_id(), nullptr, {});
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
