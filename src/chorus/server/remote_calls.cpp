#include <chorus/server/remote_calls.hpp>

#include <chorus/async/parked.hpp>
#include <chorus/server/hub.hpp>

#include <boost/asio/co_spawn.hpp>

#include <charconv>
#include <optional>
#include <utility>

namespace chorus::detail {

namespace {

// Sending for others: beyond it queue_full.
constexpr std::size_t most_served = 4096;
constexpr std::chrono::milliseconds answer_wait{10'000};

// The next word of `text`, as a number; false when it is none.
template <class T> bool take_number(std::string_view &text, T &n) {
  const auto *const end = text.data() + text.size();
  const auto r = std::from_chars(text.data(), end, n);
  if (r.ec != std::errc() || (r.ptr != end && *r.ptr != ' '))
    return false;
  text.remove_prefix(static_cast<std::size_t>(r.ptr - text.data()));
  if (!text.empty())
    text.remove_prefix(1);
  return true;
}

} // namespace

// Enrolled while somebody waits.
struct remote_calls::call final : resident {
  explicit call(std::shared_ptr<shard> h) : home(std::move(h)), late(*this) {}
  struct deadline final : timer {
    explicit deadline(call &c) noexcept
        : timer([](timer &t) noexcept { static_cast<deadline &>(t).of.sleeper.wake_later(); }),
          of(c) {}
    call &of;
  };
  void on_shard_gone() noexcept override { late.cancel(); }

  std::shared_ptr<shard> home;
  deadline late;
  parked sleeper;
  std::optional<result<>> answer;
};

remote_calls::remote_calls(std::shared_ptr<broker_node> node, std::weak_ptr<hub> rooms,
                           find_session find)
    : node_(std::move(node)), rooms_(std::move(rooms)), find_(std::move(find)) {}

void remote_calls::listen() {
  node_->listen([weak = weak_from_this()](const broker_message &m) {
    if (const auto self = weak.lock())
      self->attend(m);
  });
}

task<result<>> remote_calls::send(std::shared_ptr<remote_calls> self, std::shared_ptr<letter> l) {
  if (self->calls_.size() >= self->most_calls)
    co_return failure(error::queue_full, stage::none,
                      "too many messages to sessions of other servers wait for an answer");
  const auto number = ++self->number_;
  self->calls_.emplace(number, std::make_shared<call>(self->node_->home()));
  broker_message m;
  m.content = std::move(l->content);
  m.key = std::move(l->key);
  m.time_to_live = l->time_to_live;
  m.command = "send " + std::to_string(number) + " " + std::to_string(l->to) + " " +
              std::to_string(static_cast<unsigned>(l->how));
  self->node_->tell(l->node, std::move(m),
                    [weak = self->weak_from_this(), number](const result<> &r) {
                      if (const auto held = weak.lock(); held && r.has_error())
                        held->settle(number, r);
                    });
  auto waiting = wait_for(self, number);
  co_return co_await std::move(waiting);
}

task<result<>> remote_calls::disconnect(std::shared_ptr<remote_calls> self, std::string user,
                                        close_code code, std::string reason) {
  if (self->calls_.size() >= self->most_calls)
    co_return failure(error::queue_full, stage::none,
                      "too much that other servers were asked for waits for an answer");
  const auto number = ++self->number_;
  self->calls_.emplace(number, std::make_shared<call>(self->node_->home()));
  broker_message m;
  m.content = message(user + reason);
  m.command = "disconnect " + std::to_string(static_cast<unsigned>(code)) + " " +
              std::to_string(user.size());
  self->node_->tell({}, std::move(m), [weak = self->weak_from_this(), number](const result<> &r) {
    if (const auto held = weak.lock())
      held->settle(number, r);
  });
  auto waiting = wait_for(self, number);
  co_return co_await std::move(waiting);
}

task<result<>> remote_calls::wait_for(std::shared_ptr<remote_calls> self, std::uint64_t number) {
  struct entry {
    entry(std::shared_ptr<remote_calls> o, std::uint64_t n)
        : of(std::move(o)), number(n), one(of->calls_.at(n)) {
      one->home->enroll(*one);
      one->home->start_after(one->late, answer_wait);
    }
    ~entry() {
      one->late.cancel();
      one->home->leave(*one);
      of->calls_.erase(number);
    }
    entry(const entry &) = delete;
    entry &operator=(const entry &) = delete;
    std::shared_ptr<remote_calls> of;
    std::uint64_t number;
    std::shared_ptr<call> one;
  };
  entry here(self, number);
  auto &mine = *here.one;
  while (!mine.answer && mine.late.active()) {
    co_await mine.sleeper.park();
    if (co_await was_cancelled())
      co_return failure(error::cancelled);
  }
  if (mine.answer)
    co_return *mine.answer;
  co_return failure(error::timed_out, stage::none,
                    "the other server did not answer in time; whether the message was sent is "
                    "unknown");
}

void remote_calls::settle(std::uint64_t number, result<> r) {
  const auto found = calls_.find(number);
  if (found == calls_.end() || found->second->answer)
    return;
  found->second->answer = std::move(r);
  found->second->sleeper.wake_later();
}

void remote_calls::attend(const broker_message &m) {
  std::string_view rest = m.command;
  const auto space = rest.find(' ');
  const auto verb = rest.substr(0, space);
  rest.remove_prefix(space == rest.npos ? rest.size() : space + 1);
  const std::string_view asker(m.origin.data(), std::min(m.origin.rfind(':'), m.origin.size()));
  if (verb == "send")
    attend_send(asker, rest, m);
  else if (verb == "sent")
    attend_answer(rest, m.content);
  else if (verb == "disconnect") {
    unsigned code = 0;
    std::size_t name = 0;
    const auto text = m.content.text();
    const auto rooms = rooms_.lock();
    if (rooms && take_number(rest, code) && take_number(rest, name) && name <= text.size())
      rooms->disconnect_user(text.substr(0, name), static_cast<close_code>(code),
                             text.substr(name));
  } else if (verb == "oust") {
    std::uint64_t claim = 0;
    if (const auto rooms = rooms_.lock(); rooms && take_number(rest, claim))
      rooms->claims().oust(claim);
  }
}

namespace {

task<result<>> send_here(session to, message m, std::string key, std::chrono::milliseconds ttl,
                         lane how) {
  send_options options;
  options.key = key;
  options.time_to_live = ttl;
  options.lane = how;
  auto sending = to.send(std::move(m), options);
  co_return co_await std::move(sending);
}

} // namespace

void remote_calls::attend_send(std::string_view asker, std::string_view rest,
                               const broker_message &m) {
  std::uint64_t number = 0;
  session_id id = 0;
  unsigned how = 0;
  if (!take_number(rest, number) || !take_number(rest, id) || !take_number(rest, how) ||
      how > static_cast<unsigned>(lane::latest))
    return;
  auto reply = [self = shared_from_this(), number, to = std::string(asker)](const result<> &r) {
    broker_message answer;
    int code = 0;
    if (r.has_error()) {
      const auto &why = r.error();
      code = why.code().category() == error_category() ? why.code().value()
                                                       : static_cast<int>(error::lost);
      answer.content = message(why.message());
    }
    answer.command = "sent " + std::to_string(number) + " " + std::to_string(code);
    self->node_->tell(to, std::move(answer), nullptr);
  };
  auto found = find_(id);
  if (!found) {
    reply(failure(error::not_open, stage::none,
                  "the server " + node_->name() + " has no open session " + std::to_string(id)));
    return;
  }
  if (serving_ >= most_served) {
    reply(failure(error::queue_full, stage::none,
                  "the server " + node_->name() + " sends as much for others as it takes"));
    return;
  }
  ++serving_;
  auto work = send_here(std::move(found), m.content, m.key, m.time_to_live, static_cast<lane>(how));
  auto done = [self = shared_from_this(), reply = std::move(reply)](std::exception_ptr e,
                                                                    result<> r) {
    --self->serving_;
    reply(e ? result<>(failure(error::aborted)) : r);
  };
  boost::asio::co_spawn(node_->home()->executor(), std::move(work), std::move(done));
}

void remote_calls::attend_answer(std::string_view rest, const message &sentence) {
  std::uint64_t number = 0;
  int code = 0;
  if (!take_number(rest, number) || !take_number(rest, code))
    return;
  if (code == 0)
    settle(number, {});
  else
    settle(number, failure(static_cast<error>(code), stage::none, std::string(sentence.text())));
}

} // namespace chorus::detail
