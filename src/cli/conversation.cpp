#include "conversation.hpp"

#include "remedy.hpp"
#include "values.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

namespace cli {

using chorus::task;

namespace {

// What `serve` takes by default; who expects larger messages may send larger ones too.
std::size_t longest_line(const connect_settings &s) {
  return std::max(std::size_t{16} << 20, s.session.max_message);
}

} // namespace

void client_link::start_close(chorus::close_code code, std::string_view reason) {
  runtime_.spawn(
      [](std::shared_ptr<chorus::client> c, chorus::close_code with, std::string why) -> task<> {
        co_await c->close(with, why);
      }(client_, code, std::string(reason)));
}

conversation::conversation(const boost::asio::any_io_executor &ex, const connect_settings &settings,
                           std::vector<recorded> replay, std::unique_ptr<recorder> record)
    : settings_(settings), executor_(ex), input_(ex, STDIN_FILENO, longest_line(settings)),
      output_(ex, STDOUT_FILENO), signals_(ex), interruption_(ex), silence_(ex), pace_(ex),
      replay_(std::move(replay)), recorder_(std::move(record)) {}

void conversation::watch_signals() {
  signals_.add(SIGINT);
  signals_.add(SIGTERM);
  signals_.async_wait([self = weak_from_this()](boost::system::error_code ec, int) {
    const auto c = self.lock();
    if (ec || !c)
      return;
    c->signals_.clear();
    c->stopped_ = true;
    c->interruption_.cancel();
    if (c->link_)
      c->close();
  });
}

task<> conversation::interruption(std::chrono::milliseconds limit) {
  if (stopped_)
    co_return;
  if (limit.count() != 0)
    interruption_.expires_after(limit);
  else
    interruption_.expires_at(std::chrono::steady_clock::time_point::max());
  boost::system::error_code ignored;
  co_await interruption_.async_wait(
      boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
}

void conversation::close(chorus::close_code code, std::string_view reason) {
  if (over_ || std::exchange(closing_, true))
    return;
  input_.cancel();
  pace_.cancel();
  if (terminal_)
    terminal_->stop();
  closed_ = link_->session();
  link_->start_close(code, reason);
}

void conversation::fail(status why, std::string sentence) {
  if (failed_ == status::ok) {
    failed_ = why;
    sentence_ = std::move(sentence);
  }
}

task<status> conversation::run(std::unique_ptr<link> with) {
  const auto self = shared_from_this();
  link_ = std::move(with);
  last_message_ = std::chrono::steady_clock::now();
  co_spawn(executor_, output_.run(), boost::asio::detached);
  if (recorder_)
    recorder_->begin();
  if (!settings_.echo && replay_.empty() && terminal::usable()) {
    terminal_ = std::make_unique<terminal>(executor_, output_, settings_.color);
    terminal_->start();
    terminal_->note("connected to " + link_->session().remote_address() + "; /help lists commands");
  }
  if (!settings_.echo)
    co_spawn(
        executor_,
        [](std::shared_ptr<conversation> c) {
          return !c->replay_.empty() ? c->replay() : c->terminal_ ? c->converse() : c->pump();
        }(self),
        boost::asio::detached);
  if (settings_.timeout.count() != 0)
    co_spawn(
        executor_, [](std::shared_ptr<conversation> c) { return c->watch_clock(); }(self),
        boost::asio::detached);
  if (stopped_)
    close();

  chorus::failure end;
  for (;;) {
    auto m = co_await link_->receive();
    if (!m) {
      end = m.error();
      over_ = true;
      break;
    }
    last_message_ = std::chrono::steady_clock::now();
    const bool enough = settings_.count != 0 && taken_ == settings_.count;
    if (enough || failed_ != status::ok || !record(false, *m))
      continue;
    taking_ = true;
    const bool taken = co_await take(std::move(*m));
    taking_ = false;
    last_message_ = std::chrono::steady_clock::now();
    if (taken && ++taken_ == settings_.count) {
      if (settings_.echo)
        co_await link_->flush();
      close();
    }
  }
  input_.cancel();
  silence_.cancel();
  pace_.cancel();
  if (terminal_)
    terminal_->stop();
  const bool written = co_await output_.finish();
  if (!written)
    fail(status::failed,
         std::string("writing to standard output: ") + std::strerror(output_.error()));
  co_return verdict(end);
}

// False when this message could not be dealt with.
task<bool> conversation::take(chorus::message m) {
  if (!settings_.echo) {
    if (terminal_)
      terminal_->received(m);
    else
      write(m);
    if (co_await output_.room())
      co_return true;
    close(chorus::close_code::going_away);
    co_return false;
  }
  const auto sent = co_await deliver(std::move(m));
  co_return sent;
}

task<bool> conversation::deliver(chorus::message m) {
  if (terminal_)
    terminal_->sent(m);
  const auto kept = recorder_ ? m : chorus::message();
  const auto sent = co_await link_->send(std::move(m));
  co_return sent.has_value() && (!recorder_ || record(true, kept));
}

bool conversation::record(bool out, const chorus::message &m) {
  if (!recorder_ || recorder_->add(out, m))
    return true;
  fail(status::failed, "--record: " + recorder_->error());
  close(chorus::close_code::going_away);
  return false;
}

std::size_t conversation::longest_message() const noexcept { return longest_line(settings_); }

void conversation::write(const chorus::message &m) {
  if (m.is_text() || settings_.binary) {
    output_.add(m.text());
  } else {
    static constexpr std::string_view digits = "0123456789abcdef";
    auto &out = output_.buffer();
    out.reserve(out.size() + 2 * m.size() + 1);
    for (const auto b : m.bytes()) {
      out += digits[static_cast<unsigned>(b) >> 4];
      out += digits[static_cast<unsigned>(b) & 15];
    }
  }
  output_.add("\n");
  output_.added();
}

task<> conversation::pump() {
  const auto self = shared_from_this();
  try {
    const auto kind = settings_.binary ? chorus::message_kind::binary : chorus::message_kind::text;
    while (const auto line = co_await input_.next()) {
      chorus::message m(kind, line->data(), line->size());
      const auto sent = co_await deliver(std::move(m));
      if (!sent)
        co_return; // the connection has ended, and `receive` says how
    }
  } catch (const boost::system::system_error &e) {
    if (e.code() == boost::system::errc::message_size)
      fail(status::usage, "a line of standard input is longer than " +
                              to_text(longest_line(settings_)) +
                              "; send it in pieces, or raise --max-message");
    else
      fail(status::failed, "reading standard input: " + e.code().message());
    close();
    co_return;
  }
  if (settings_.count != 0 || closing_ || over_)
    co_return;
  co_await link_->flush();
  close();
}

task<> conversation::replay() {
  const auto self = shared_from_this();
  const auto start = std::chrono::steady_clock::now();
  for (auto &one : replay_) {
    if (settings_.replay_speed > 0) {
      const std::chrono::duration<double, std::milli> after(static_cast<double>(one.at.count()) /
                                                            settings_.replay_speed);
      pace_.expires_at(start + std::chrono::ceil<std::chrono::milliseconds>(after));
      boost::system::error_code ec;
      co_await pace_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
    }
    if (closing_ || over_)
      co_return;
    if (!one.out) // its time has passed, which is all that it is for
      continue;
    const auto sent = co_await deliver(std::move(one.content));
    if (!sent)
      co_return;
  }
  if (settings_.count != 0 || closing_ || over_)
    co_return;
  co_await link_->flush();
  close();
}

task<> conversation::watch_clock() {
  const auto self = shared_from_this();
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    // What waits for this side's own output, or for the peer to read an echo, is no silence of the peer.
    const auto due = (taking_ ? now : last_message_) + settings_.timeout;
    if (now >= due)
      break;
    silence_.expires_at(due);
    boost::system::error_code ec;
    co_await silence_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
    if (ec || closing_ || over_)
      co_return;
  }
  fail(status::timeout,
       "no message for " + to_text(settings_.timeout) + "; --timeout sets how long to wait");
  close(chorus::close_code::going_away, "no message in time");
}

status conversation::verdict(const chorus::failure &end) const {
  if (failed_ != status::ok) {
    complain("connect", sentence_);
    return failed_;
  }
  // A client that has closed says no more than that; its last session has what the peer answered.
  const auto last = closed_.end();
  const bool answered = last == chorus::error::closed && !last.detail().by_peer;
  if (answered && status_of(last) != status::ok) {
    if (stopped_) // whoever interrupts does not ask any more
      return status::ok;
    complain("connect", explain(last, settings_));
    return status_of(last);
  }
  auto outcome = status_of(end);
  // After an own close it does not matter how the peer went, as long as it went.
  if (closing_ && (end == chorus::error::lost || end == chorus::error::not_open ||
                   end == chorus::error::cancelled))
    outcome = status::ok;
  if (closing_ && end == chorus::error::aborted)
    outcome = status::timeout;
  if (outcome != status::ok) {
    complain("connect", explain(end, settings_));
  } else if (settings_.count != 0 && taken_ < settings_.count && !stopped_) {
    complain("connect", "the peer closed after " + std::to_string(taken_) + " of " +
                            std::to_string(settings_.count) + " messages (--count)");
    return status::failed;
  }
  return outcome;
}

} // namespace cli
