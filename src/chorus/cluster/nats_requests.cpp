// Requests of the core, each of which has a number, by which its answer comes to one inbox, and what comes in.

#include <chorus/cluster/nats_core.hpp>

#include <chorus/cluster/nats_leases.hpp>
#include <chorus/cluster/nats_rooms.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace chorus::detail {

namespace {

// Waits for a callback: a coroutine's own timer, which ends when it has come.
struct awaited {
  explicit awaited(boost::asio::io_context &io)
      : timer(io, boost::asio::steady_timer::time_point::max()) {}
  boost::asio::steady_timer timer;
  std::optional<nats_reply> reply;
};

task<nats_reply> outcome(std::shared_ptr<awaited> box) {
  boost::system::error_code ec;
  while (!box->reply)
    co_await box->timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  co_return std::move(*box->reply);
}

} // namespace

std::string nats_core::inbox(std::uint64_t token) const {
  return subject("r." + id_ + "." + std::to_string(token));
}

std::uint64_t nats_core::enlist(pending p) {
  const auto token = ++next_token_;
  p.until = clock::now() + options_.answer_timeout;
  look_at(p.until);
  pending_.emplace(token, std::move(p));
  return token;
}

void nats_core::finish(std::uint64_t token, nats_reply r) {
  const auto found = pending_.find(token);
  if (found == pending_.end())
    return;
  const auto p = std::move(found->second);
  pending_.erase(found);
  if (!p.consumer.empty())
    consumers_.erase(p.consumer);
  p.f(std::move(r));
}

void nats_core::fail_pending(const failure &why) {
  // They are over before anything new begins.
  auto all = std::exchange(pending_, {});
  consumers_.clear();
  for (auto &[token, p] : all)
    p.f({why, 0, {}, false});
}

void nats_core::request(const std::string &to, std::string_view body, const nats_headers &headers,
                        replied f) {
  ++commands_;
  const auto token = enlist({{}, std::move(f)});
  send(token, to, inbox(token), body, headers);
}

void nats_core::send(std::uint64_t token, const std::string &to, const std::string &reply,
                     std::string_view body, const nats_headers &headers) {
  const auto sent = way_ == way::closed
                        ? result<>(failure(error::lost, stage::none, "the broker was closed"))
                        : link_.publish(to, reply, body, headers);
  if (sent.has_error())
    boost::asio::post(io_, [this, token, why = sent.error()] {
      finish(token, {why, 0, {}, true});
    });
}

task<nats_reply> nats_core::ask(std::string to, std::string body, nats_headers headers) {
  const auto box = std::make_shared<awaited>(io_);
  request(to, body, headers, [box](nats_reply r) {
    box->reply = std::move(r);
    box->timer.cancel();
  });
  auto r = co_await outcome(box);
  co_return r;
}

task<std::vector<nats_reply>> nats_core::ask_all(std::vector<one_request> all) {
  const auto box = std::make_shared<awaited>(io_);
  const auto replies = std::make_shared<std::vector<nats_reply>>(all.size());
  const auto left = std::make_shared<std::size_t>(all.size());
  for (std::size_t i = 0; i < all.size(); ++i)
    request(all[i].subject, all[i].body, all[i].headers, [box, replies, left, i](nats_reply r) {
      (*replies)[i] = std::move(r);
      if (--*left == 0) {
        box->reply.emplace();
        box->timer.cancel();
      }
    });
  if (!all.empty())
    co_await outcome(box);
  co_return std::move(*replies);
}

std::string nats_core::echo(replied f) { return inbox(enlist({{}, std::move(f)})); }

void nats_core::send_echo(const std::string &to) {
  ++commands_;
  send(to_number(split(to, '.').back()), to, {}, {}, {});
}

task<result<std::vector<nats_entry>>> nats_core::pull(std::string consumer, std::string to,
                                                      std::string body, std::size_t most) {
  const auto box = std::make_shared<awaited>(io_);
  const auto entries = std::make_shared<std::vector<nats_entry>>();
  ++commands_;
  pending p;
  p.f = [box](nats_reply r) {
    box->reply = std::move(r);
    box->timer.cancel();
  };
  p.entries = entries;
  p.most = most;
  p.consumer = consumer;
  const auto token = enlist(std::move(p));
  consumers_[consumer] = token;
  send(token, to, inbox(token), body, {});
  const auto r = co_await outcome(box);
  if (r.why.code())
    co_return r.why;
  if (r.status == 503)
    co_return failure(error::lost, stage::none, "the NATS server has forgotten a consumer");
  co_return std::move(*entries);
}

void nats_core::take(nats_event &e) {
  switch (e.what) {
  case nats_event::kind::up:
    came_up();
    return;
  case nats_event::kind::down:
    went_down(std::move(e.subject));
    return;
  case nats_event::kind::ended:
    if (way_ == way::closed)
      return;
    if (way_ == way::ready || way_ == way::restoring)
      went_down(std::move(e.subject));
    ++generation_;
    boost::asio::post(io_, [self = shared_from_this(), mine = generation_] {
      if (mine == self->generation_)
        self->connect(); // at once: the next attempt says why
    });
    return;
  case nats_event::kind::missed:
    rooms_->missed();
    leases_->missed();
    return;
  case nats_event::kind::message:
    break;
  }
  if (!e.reply.empty() && e.reply.starts_with("$JS.ACK.")) {
    take_entry(e);
    return;
  }
  const auto parts = split(e.subject, '.');
  if (parts.size() < 3)
    return;
  if (parts[1] == "r" && parts.size() == 4)
    take_reply(e, parts[3]);
  else if (parts[1] == "o")
    rooms_->arrived(e, parts);
  else if (parts[1] == "x")
    rooms_->record_changed(parts[2], e);
  else if (parts[1] == "y")
    leases_->changed(parts[2], e);
}

void nats_core::take_reply(nats_event &e, std::string_view token) {
  finish(to_number(token), {{}, e.status, std::move(e.data), false});
}

// $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE…, or with domain and account before the stream.
void nats_core::take_entry(nats_event &e) {
  const auto parts = split(e.reply, '.');
  const std::size_t first = parts.size() >= 11 ? 4 : 2;
  if (parts.size() < 9)
    return;
  const auto found = consumers_.find(std::string(parts[first + 1]));
  if (found == consumers_.end())
    return;
  const auto token = found->second;
  auto &p = pending_.at(token);
  p.entries->push_back({to_number(parts[first + 3]), std::move(e.subject), std::move(e.data)});
  if (p.entries->size() >= p.most)
    finish(token, {});
}

} // namespace chorus::detail
