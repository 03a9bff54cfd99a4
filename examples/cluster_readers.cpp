#include "cluster_readers.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace cluster_demo {

namespace {

using chorus::task;
using namespace std::chrono_literals;

} // namespace

readers::readers(chorus::runtime &rt, account &books, const std::string &node, bool echo)
    : runtime_(rt), books_(books), echo_(echo) {
  clients_.reserve(books.rooms());
  for (std::size_t r = 0; r < books.rooms(); ++r) {
    chorus::client_options options;
    options.urls = {node + "/ws/room/r" + std::to_string(r)};
    options.backoff = {.initial = 50ms, .factor = 1.6, .cap = 1s, .spread = chorus::jitter::full};
    options.shard = static_cast<unsigned>(r % rt.size());
    clients_.emplace_back(rt, std::move(options));
  }
  for (std::size_t r = 0; r < clients_.size(); ++r) {
    ++running_;
    rt.spawn(listen(r), static_cast<unsigned>(r % rt.size()));
  }
}

task<> readers::listen(std::size_t r) {
  while (auto m = co_await clients_[r].receive()) {
    take(r, m->text());
    if (r == 0 && ++heard_ == 5 && echo_)
      take(r, m->text());
  }
  if (!closing_)
    books_.complain_of_reader(r, "its client ended: " + clients_[r].last_failure().message());
  --running_;
}

void readers::take(std::size_t r, std::string_view text) {
  message_id id;
  if (parse(text.substr(0, text.find('\n')), id))
    books_.overhear(r, id);
  else
    books_.complain_of_reader(r, "got what nobody sent: " + std::string(text.substr(0, 40)));
}

task<> readers::close_one(std::size_t r) {
  co_await clients_[r].close();
  --running_;
}

task<> readers::close() {
  closing_ = true;
  running_ += clients_.size();
  for (std::size_t r = 0; r < clients_.size(); ++r)
    runtime_.spawn(close_one(r), static_cast<unsigned>(r % runtime_.size()));
  while (running_ != 0)
    co_await chorus::sleep(20ms);
}

std::size_t readers::connected() const {
  return static_cast<std::size_t>(
      std::count_if(clients_.begin(), clients_.end(),
                    [](const auto &c) { return c.state() == chorus::client_state::open; }));
}

} // namespace cluster_demo
