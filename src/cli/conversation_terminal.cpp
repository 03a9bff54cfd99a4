// What a person at a terminal does with a conversation.

#include "connect_command.hpp"
#include "conversation.hpp"
#include "remedy.hpp"
#include "values.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <spdlog/fmt/fmt.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cli {

using chorus::task;

namespace {

// The file as a message; nothing when it can't be sent, and then why.
std::optional<chorus::message> read_message(const std::string &path, std::size_t longest,
                                            std::string &why) {
  // O_NONBLOCK: nobody may be writing to a named pipe.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat about {};
  std::string bytes;
  if (fd < 0 || ::fstat(fd, &about) < 0) {
    why = path + ": " + std::strerror(errno);
  } else if (!S_ISREG(about.st_mode)) {
    why = path + " is no file";
  } else if (static_cast<std::size_t>(about.st_size) > longest) {
    why = path + " is larger than " + to_text(longest) + "; --max-message raises the bound";
  } else {
    bytes.resize(static_cast<std::size_t>(about.st_size));
    std::size_t done = 0;
    while (done < bytes.size()) {
      const auto n = ::read(fd, bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        why = path + ": " + std::strerror(errno);
      if (n <= 0)
        break;
      done += static_cast<std::size_t>(n);
    }
    bytes.resize(done);
  }
  if (fd >= 0)
    ::close(fd);
  if (!why.empty())
    return {};
  return chorus::message(chorus::message_kind::binary, bytes.data(), bytes.size());
}

std::string milliseconds(std::chrono::nanoseconds d) {
  return fmt::format("{:.2f} ms", static_cast<double>(d.count()) / 1e6);
}

} // namespace

void conversation::answer_kept::on_upgraded(
    unsigned code, std::span<const std::pair<std::string, std::string>> headers) {
  text = "status " + std::to_string(code);
  for (const auto &[name, value] : headers)
    text += '\n' + name + ": " + value;
}

task<> conversation::measure_ping() {
  const auto self = shared_from_this();
  auto session = link_->session();
  const auto trip = co_await session.ping();
  if (!terminal_ || over_)
    co_return;
  if (trip)
    terminal_->note("pong after " + milliseconds(*trip));
  else if (trip.error() == chorus::error::not_open && session.is_open())
    terminal_->note("framed connections have no pings");
  else
    terminal_->note("no pong: " + sentence_of(trip.error()));
}

std::string conversation::statistics() const {
  const auto session = link_->session();
  const auto s = session.stats();
  auto text =
      fmt::format("connected to {} for {:.1f} s, from {}\n"
                  "received {} messages, {} bytes on the wire; sent {} messages, {} bytes\n"
                  "waiting to be sent: {} messages, {} bytes; last round trip: {}\n"
                  "subprotocol: {}; compression: {}",
                  session.remote_address(), static_cast<double>(session.uptime().count()) / 1e9,
                  session.local_address(), s.messages_received, s.bytes_received, s.messages_sent,
                  s.bytes_sent, s.queued_messages, s.queued_bytes,
                  s.last_round_trip.count() == 0 ? "not measured" : milliseconds(s.last_round_trip),
                  session.subprotocol().empty() ? "none" : session.subprotocol(),
                  session.compressed() ? "on" : "off");
  if (!session.is_open())
    text = "not connected now\n" + text;
  return text;
}

// False when the conversation is over.
task<bool> conversation::obey(std::string line) {
  const auto self = shared_from_this();
  auto command = read_typed(line);
  using what = typed::what;
  switch (command.kind) {
  case what::message: {
    const auto kind = settings_.binary ? chorus::message_kind::binary : chorus::message_kind::text;
    const auto sent = co_await deliver({kind, command.text.data(), command.text.size()});
    co_return sent;
  }
  case what::binary: {
    std::string why;
    auto m = read_message(command.text, longest_message(), why);
    if (m) {
      const auto sent = co_await deliver(*std::move(m));
      co_return sent;
    }
    terminal_->note(why);
    break;
  }
  case what::ping:
    co_spawn(
        executor_, [](std::shared_ptr<conversation> c) { return c->measure_ping(); }(self),
        boost::asio::detached);
    break;
  case what::close:
    co_await link_->flush();
    close(static_cast<chorus::close_code>(command.code), command.text);
    co_return false;
  case what::headers:
    terminal_->note(answer_->text.empty() ? "there was no upgrade: framed connections have none"
                                          : answer_->text);
    break;
  case what::stats:
    terminal_->note(statistics());
    break;
  case what::help:
    terminal_->note(command_help());
    break;
  case what::wrong:
    terminal_->note(command.text);
    break;
  }
  co_return true;
}

task<> conversation::converse() {
  const auto self = shared_from_this();
  try {
    while (auto line = co_await terminal_->next()) {
      const bool on = co_await obey(*std::move(line));
      if (!on)
        co_return;
    }
  } catch (const boost::system::system_error &e) {
    fail(status::failed, "reading the terminal: " + e.code().message());
    close();
    co_return;
  }
  if (settings_.count != 0 || closing_ || over_)
    co_return;
  co_await link_->flush();
  close();
}

} // namespace cli
