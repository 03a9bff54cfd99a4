#pragma once
// The screen of `connect` at a terminal: messages with time and direction above the line that is being typed.
// For one thread; ends before the output it writes to.

#include "history_file.hpp"
#include "line_editor.hpp"
#include "log.hpp"
#include "screen_text.hpp"
#include "standard_io.hpp"

#include <boost/asio/signal_set.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace cli {

class terminal {
public:
  terminal(const boost::asio::any_io_executor &ex, byte_output &out, color_choice color);
  ~terminal();
  terminal(const terminal &) = delete;
  terminal &operator=(const terminal &) = delete;

  // Standard input and output are a terminal that can move its cursor.
  static bool usable() noexcept;

  void start();
  // The terminal's usual mode again; what is shown from here on is shown without a line being edited. Idempotent.
  void stop() noexcept;
  // The next line that was typed; nothing at the end of input or after `stop`. Throws
  // boost::system::system_error when reading fails.
  chorus::task<std::optional<std::string>> next();

  void received(const chorus::message &m) { show(paint::green, "<", content(m)); }
  void sent(const chorus::message &m) { show(paint::cyan, ">", content(m)); }
  void note(std::string_view text) { show(paint::yellow, "*", harmless(text, true)); }

private:
  void show(paint color, std::string_view mark, std::string text);
  std::string content(const chorus::message &m) const;
  void watch_size();

  byte_output &out_;
  painter paint_;
  readiness ready_;
  boost::asio::signal_set signals_;
  history_file history_;
  line_editor editor_;
  std::unique_ptr<log_redirection> log_;
  std::deque<line_editor::entered> entered_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(); // for what is still on its way
};

} // namespace cli
