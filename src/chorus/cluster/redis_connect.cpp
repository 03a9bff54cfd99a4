#include <chorus/cluster/redis_connect.hpp>

#include <chorus/transport/dial.hpp>
#include <chorus/transport/tls.hpp>
#include <chorus/transport/waiter.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <array>
#include <optional>
#include <utility>
#include <variant>

namespace chorus::detail {

namespace {

using boost::asio::experimental::awaitable_operators::operator||;
using stream_owner = std::unique_ptr<transport::stream>;

// Looks up, connects and secures: each within the limit, and all of it by the deadline.
task<result<stream_owner>> dial_redis(std::shared_ptr<shard> home, redis_dial to,
                                      time_point deadline) {
  transport::dial_target target;
  target.host = to.where.host;
  target.port = to.where.port;
  target.path = to.where.path;
  const bool secure = to.tls != nullptr;
  target.tls = secure;
  transport::dial_options options;
  options.resolve_timeout = to.limit;
  options.connect_timeout = to.limit;
  options.tls_timeout = to.limit;
  options.ready_context = to.tls;
  auto dialling = transport::dial(*home, std::move(target), std::move(options));
  transport::waiter limit(*home);
  auto either = std::move(dialling) || limit.wait(deadline);
  auto first = co_await std::move(either);
  if (first.index() != 0)
    co_return at_address(failure(error::connect_timeout, stage::connect,
                                 secure ? "not connected, with TLS, within "
                                          "redis_options::connect_timeout; does it speak TLS there?"
                                        : "not connected within redis_options::connect_timeout"),
                         to.where);
  auto &made = std::get<0>(first);
  if (!made)
    co_return at_address(made.error(), to.where);
  co_return std::move(*made);
}

// The next reply. What a Redis sends unasked before it closes (too many clients) comes as one, too.
task<result<redis_reply>> read_reply(transport::stream &s, redis_reader &reader,
                                     time_point deadline) {
  std::array<std::byte, 4096> block;
  for (;;) {
    auto next = reader.next();
    if (!next)
      co_return next.error();
    if (*next)
      co_return std::move(**next);
    auto reading = transport::read_some(s, block, deadline, error::connect_timeout);
    auto got = co_await std::move(reading);
    if (!got)
      co_return got.error();
    if (*got == 0)
      co_return failure(error::lost, stage::connect, "Redis closed the connection at the login");
    reader.feed({reinterpret_cast<const char *>(block.data()), *got});
  }
}

task<result<>> write_bytes(transport::stream &s, std::string bytes, time_point deadline) {
  auto writing = transport::write_all(s, bytes, deadline, error::connect_timeout);
  auto done = co_await std::move(writing);
  co_return done;
}

task<result<redis_welcome>> log_in(transport::stream &s, redis_login_options options,
                                   time_point deadline) {
  redis_login login(std::move(options));
  redis_reader reader;
  while (!login.done()) {
    if (auto out = login.take_output(); !out.empty()) {
      auto writing = write_bytes(s, std::move(out), deadline);
      auto written = co_await std::move(writing);
      if (!written)
        co_return written.error();
    }
    auto reading = read_reply(s, reader, deadline);
    auto reply = co_await std::move(reading);
    if (!reply)
      co_return reply.error();
    if (auto fine = login.take(*reply); !fine)
      co_return fine.error();
  }
  co_return login.welcome();
}

} // namespace

failure at_address(const failure &why, const redis_address &where) {
  auto detail = why.detail();
  const auto address = to_string(where);
  if (detail.where == stage::none)
    detail.where = stage::connect;
  if (detail.address.empty())
    detail.address = address;
  auto said = detail.sentence.empty() ? why.code().message() : detail.sentence;
  if (said.find(address) == said.npos)
    said = "Redis at " + address + ": " + said;
  detail.sentence = std::move(said);
  return failure(why.code(), std::move(detail));
}

task<result<redis_connected>> redis_connect(std::shared_ptr<shard> home, redis_dial to,
                                            redis_login_options options) {
  const auto deadline = home->now() + to.limit;
  const auto where = to.where;
  auto dialling = dial_redis(home, std::move(to), deadline);
  auto stream = co_await std::move(dialling);
  if (!stream)
    co_return stream.error();
  auto logging = log_in(**stream, std::move(options), deadline);
  auto welcome = co_await std::move(logging);
  if (!welcome)
    co_return at_address(welcome.error(), where);
  redis_connected made;
  made.stream = std::move(*stream);
  made.welcome = std::move(*welcome);
  co_return made;
}

task<result<redis_reply>> redis_ask_once(std::shared_ptr<shard> home, redis_dial to,
                                         std::string user, std::string password,
                                         std::vector<std::string> words) {
  const auto deadline = home->now() + to.limit;
  const auto where = to.where;
  auto dialling = dial_redis(home, std::move(to), deadline);
  auto stream = co_await std::move(dialling);
  if (!stream)
    co_return stream.error();
  redis_reader reader;
  std::string question;
  write_redis_command(question, words);
  // A Sentinel often wants no password where its Redis does, and then refuses every one.
  for (bool asked_for_password = false;; asked_for_password = true) {
    std::string out;
    if (asked_for_password) {
      if (user.empty())
        write_redis_command(out, {"AUTH", password});
      else
        write_redis_command(out, {"AUTH", user, password});
    }
    auto writing = write_bytes(**stream, out + question, deadline);
    auto written = co_await std::move(writing);
    if (!written)
      co_return at_address(written.error(), where);
    if (asked_for_password) {
      auto reading = read_reply(**stream, reader, deadline);
      auto agreed = co_await std::move(reading);
      if (!agreed)
        co_return at_address(agreed.error(), where);
      if (agreed->is != redis_reply::type::status)
        co_return at_address(redis_refusal(*agreed, "AUTH"), where);
    }
    auto reading = read_reply(**stream, reader, deadline);
    auto reply = co_await std::move(reading);
    if (!reply)
      co_return at_address(reply.error(), where);
    if (is_redis_error(*reply, "NOAUTH") && !asked_for_password && !password.empty())
      continue;
    if (reply->is == redis_reply::type::error)
      co_return at_address(redis_refusal(*reply, words.front()), where);
    co_return std::move(*reply);
  }
}

} // namespace chorus::detail
