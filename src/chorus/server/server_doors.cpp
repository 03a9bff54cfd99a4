// Where a server listens: all of its addresses or none.

#include <chorus/server/server_core.hpp>

#include <chorus/async/remote.hpp>

#include <algorithm>
#include <set>
#include <utility>

namespace chorus::detail {

namespace {

using listener_ptr = std::unique_ptr<transport::listener>;

// A listener that is open but does not accept yet, and the shard that will.
struct opened {
  std::size_t shard = 0;
  listener_ptr listener;
  bool dealt = false;
};

bool is_inherited(std::string_view address) noexcept { return address.starts_with("fd:"); }

// Only tcp has a kernel that deals connections out among several listeners.
bool is_dealt(std::string_view address) noexcept {
  return address.starts_with("unix:") || is_inherited(address);
}

result<> check_addresses(const std::vector<std::string> &all) {
  std::set<std::string_view> seen;
  for (const auto &one : all)
    if (is_inherited(one) && !seen.insert(one).second)
      return failure(error::bad_option, stage::listen,
                     "\"" + one + "\" is given twice; a descriptor can be taken over once");
  return {};
}

task<result<>> begin_listening(std::shared_ptr<server_shard> s, listener_ptr l,
                               std::vector<std::weak_ptr<server_shard>> deal_to) {
  co_return s->listen(std::move(l), std::move(deal_to));
}

using copies = std::vector<socket_copy>;

task<result<copies>> copies_of(std::shared_ptr<server_shard> s) {
  co_return s->duplicate_listeners();
}

task<result<>> give_up(std::shared_ptr<server_shard> s) {
  s->release_listeners();
  co_return result<>();
}

} // namespace

task<result<copies>> server_core::duplicate_listeners(std::shared_ptr<server_core> self) {
  copies all;
  for (std::size_t i = 0; i < self->shards_.size(); ++i) {
    auto work = copies_of(self->shards_[i]);
    auto part = co_await on_shard(self->runtime_->shards[i], std::move(work));
    if (!part)
      co_return part.error();
    for (auto &one : *part)
      all.push_back(std::move(one));
  }
  co_return std::move(all);
}

task<result<>> server_core::release_listeners(std::shared_ptr<server_core> self) {
  for (std::size_t i = 0; i < self->shards_.size(); ++i) {
    auto work = give_up(self->shards_[i]);
    auto done = co_await on_shard(self->runtime_->shards[i], std::move(work));
    if (!done)
      co_return done;
  }
  co_return result<>();
}

void server_door::on_accept(int fd) noexcept { owner_.on_accept(*this, fd); }

void server_door::on_refused(int fd) noexcept { owner_.on_refused(*this, fd); }

std::shared_ptr<server_shard> server_door::next_in_turn() noexcept {
  if (deal_to_.empty())
    return nullptr;
  auto next = deal_to_[next_deal_++ % deal_to_.size()].lock();
  return next.get() == &owner_ ? nullptr : next;
}

std::uint64_t server_door::new_errors() noexcept {
  return listener_->stats().errors - std::exchange(told_errors_, listener_->stats().errors);
}

task<result<>> server_core::open_doors(std::shared_ptr<server_core> self) {
  const auto &options = self->setup_->options;
  const auto &shards = self->shards_;
  std::vector<std::string> wanted{options.listen};
  wanted.insert(wanted.end(), options.also_listen.begin(), options.also_listen.end());
  if (auto usable = check_addresses(wanted); !usable)
    co_return usable;

  // All are open before the first accepts: what fails here closes the others unseen.
  std::vector<opened> doors;
  std::vector<std::string> addresses;
  std::size_t inherited = 0;
  for (const auto &address : wanted) {
    const bool dealt = is_dealt(address);
    const std::size_t count = dealt ? 1 : shards.size();
    std::string where = address;
    for (std::size_t i = 0; i < count; ++i) {
      transport::listen_options how;
      how.share = i == 0 && count > 1;
      how.join = i > 0;
      how.reuse_port = options.reuse_port;
      how.file_mode = options.unix_socket_mode;
      // Several inherited ones may be siblings of one port: their acceptors are spread, too.
      const auto on = is_inherited(address) ? inherited++ % shards.size() : i;
      auto one = transport::listener::open(shards[on]->home(), where, how);
      if (!one)
        co_return one.error();
      where = (*one)->local_address();
      doors.push_back({on, std::move(*one), dealt});
    }
    if (std::find(addresses.begin(), addresses.end(), where) == addresses.end())
      addresses.push_back(where);
  }
  self->addresses_ = std::move(addresses);

  for (; !doors.empty(); doors.pop_back()) { // the first last: it alone has peers waiting by then
    auto &door = doors.back();
    std::vector<std::weak_ptr<server_shard>> deal_to;
    if (door.dealt && shards.size() > 1)
      deal_to.assign(shards.begin(), shards.end());
    auto work = begin_listening(shards[door.shard], std::move(door.listener), std::move(deal_to));
    auto begun = co_await on_shard(self->runtime_->shards[door.shard], std::move(work));
    if (!begun)
      co_return begun;
  }
  co_return result<>();
}

} // namespace chorus::detail
