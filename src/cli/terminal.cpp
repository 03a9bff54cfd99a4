#include "terminal.hpp"

#include "json_display.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>

namespace cli {

using chorus::task;

namespace {

constexpr std::size_t most_text = 64 * 1024;
constexpr std::size_t most_dumped = 256;
constexpr std::size_t margin = 15; // time and direction

std::string now() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  std::tm parts{};
  ::localtime_r(&t.tv_sec, &parts);
  char text[32];
  const auto size = std::strftime(text, sizeof text, "%H:%M:%S", &parts);
  const auto ms = std::to_string(1000 + t.tv_nsec / 1'000'000);
  return std::string(text, size) + '.' + ms.substr(1);
}

// Up to 16 bytes behind what stands there already, more in rows of 16 with their ASCII.
std::string in_hex(std::string_view bytes) {
  static constexpr std::string_view digits = "0123456789abcdef";
  constexpr std::size_t row = 16;
  const bool rows = bytes.size() > row;
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += row) {
    const auto part = bytes.substr(at, row);
    if (rows)
      out += '\n';
    std::string ascii;
    for (const char c : part) {
      const auto byte = static_cast<unsigned char>(c);
      if (!rows || !ascii.empty())
        out += ' ';
      out += digits[byte >> 4];
      out += digits[byte & 15];
      ascii += byte >= 0x20 && byte < 0x7f ? c : '.';
    }
    if (rows)
      out += std::string(3 * (row - part.size()) + 1, ' ') + ascii;
  }
  return out;
}

std::string counted(std::size_t bytes) {
  return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

} // namespace

bool terminal::usable() noexcept {
  const char *term = std::getenv("TERM");
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1 && term && *term &&
         std::string_view(term) != "dumb";
}

terminal::terminal(const boost::asio::any_io_executor &ex, byte_output &out, color_choice color)
    : out_(out), paint_(wants_color(color, STDOUT_FILENO)), ready_(ex, STDIN_FILENO, EPOLLIN),
      signals_(ex), history_(history_file::usual_path()),
      editor_("> ", [this](std::string_view bytes) {
        out_.add(bytes);
        out_.added();
      }) {
  for (const auto &line : history_.load())
    editor_.remember(line);
  signals_.add(SIGWINCH);
  signals_.add(SIGCONT);
}

terminal::~terminal() { stop(); }

void terminal::start() {
  editor_.start();
  if (::isatty(STDERR_FILENO) == 1)
    log_ = std::make_unique<log_redirection>([this](std::string_view line) { note(line); });
  if (!history_.error().empty())
    note("history is not kept: " + history_.error());
  watch_size();
}

void terminal::stop() noexcept {
  log_.reset();
  ready_.cancel();
  boost::system::error_code ignored;
  signals_.cancel(ignored);
  editor_.stop();
}

void terminal::watch_size() {
  signals_.async_wait(
      [this, token = std::weak_ptr(alive_)](boost::system::error_code ec, int number) {
        if (ec || token.expired())
          return;
        if (number == SIGCONT)
          editor_.restart();
        else
          editor_.resize();
        watch_size();
      });
}

task<std::optional<std::string>> terminal::next() {
  for (;;) {
    if (!entered_.empty()) {
      auto one = std::move(entered_.front());
      entered_.pop_front();
      if (one.cut)
        note(
            "only the first " + std::to_string(line_editor::longest) +
            " characters of the line were taken; pipe longer ones in, or send a file with /binary");
      if (one.end)
        co_return std::nullopt;
      if (history_.worth_keeping(one.line)) {
        editor_.remember(one.line);
        history_.append(one.line);
      }
      co_return std::move(one.line);
    }
    if (!editor_.active())
      co_return std::nullopt;
    std::array<char, 4096> keys;
    ssize_t n = 0;
    if (editor_.busy()) {
      co_await boost::asio::post(boost::asio::use_awaitable);
    } else {
      const bool readable = co_await ready_.wait();
      if (!readable)
        co_return std::nullopt;
      n = ::read(STDIN_FILENO, keys.data(), keys.size());
      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (n < 0 && errno != EIO) // the terminal has gone
        throw boost::system::system_error(errno, boost::system::system_category(), "read");
      if (n <= 0)
        co_return std::nullopt;
    }
    for (auto &one : editor_.feed({keys.data(), static_cast<std::size_t>(n)}))
      entered_.push_back(std::move(one));
  }
}

std::string terminal::content(const chorus::message &m) const {
  const auto text = m.text();
  if (m.is_binary() || !is_utf8(text)) {
    std::string out =
        paint_(paint::dim, counted(m.size()) + ":") + in_hex(text.substr(0, most_dumped));
    if (text.size() > most_dumped)
      out += paint_(paint::dim, "\nand " + counted(text.size() - most_dumped) + " more");
    return out;
  }
  const auto columns = line_editor::columns();
  if (auto json = lay_out_json(text, paint_, columns > 60 ? columns - margin : 60))
    return *std::move(json);
  auto out = harmless(text.substr(0, most_text), true);
  if (text.size() > most_text)
    out += paint_(paint::dim, " and " + counted(text.size() - most_text) + " more");
  return out;
}

void terminal::show(paint color, std::string_view mark, std::string text) {
  const bool active = editor_.active();
  editor_.hide();
  const auto time = now();
  out_.add(paint_(paint::dim, time) + ' ' + paint_(color, mark) + ' ');
  for (std::size_t at = 0;;) {
    const auto end = std::min(text.find('\n', at), text.size());
    out_.add(std::string_view(text).substr(at, end - at));
    out_.add("\r\n");
    if (end == text.size())
      break;
    out_.add(std::string(margin, ' '));
    at = end + 1;
  }
  out_.added();
  if (active)
    editor_.show();
}

} // namespace cli
