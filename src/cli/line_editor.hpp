#pragma once
// Editing a line at a terminal, with history, by libedit: keys come in as bytes and what is to be shown goes
// out as bytes, so that the loop that connections live on never waits for the terminal. What else is to be
// shown is put between `hide` and `show`, which take the line being edited off the screen and bring it back.
//
// For one thread, one at a time in a process: the terminal is standard input and output.

#include <cstdio>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

struct editline;
struct history;

namespace cli {

class line_editor {
public:
  // `write` takes the bytes for the terminal. Throws std::runtime_error when there is none.
  line_editor(std::string prompt, std::function<void(std::string_view)> write);
  ~line_editor();
  line_editor(const line_editor &) = delete;
  line_editor &operator=(const line_editor &) = delete;

  // A typed line has at most so many characters; what is beyond is dropped.
  static constexpr std::size_t longest = 16 * 1024;

  // Takes the terminal into its mode for editing, and shows the prompt.
  void start();
  // Takes prompt and line off the screen and gives the terminal its usual mode back. Idempotent.
  void stop() noexcept;
  bool active() const noexcept { return active_; }

  struct entered {
    std::string line;
    bool end = false; // of input (Ctrl-D)
    bool cut = false; // it was longer than `longest`
  };
  // Takes what was typed; the lines that it ended. Each has gone from the screen, for the caller to show it as it
  // likes. Keys behind the end of input are dropped. A paste takes several turns, for the loop to do other things
  // in between: while `busy`, feed nothing more but "".
  std::vector<entered> feed(std::string_view bytes);
  bool busy() const noexcept { return active_ && !keys_.empty(); }
  void hide();
  void show();
  // The terminal's size has changed, or its mode may have (after a stop by job control).
  void resize();
  void restart();

  void remember(const std::string &line);

  // Of the terminal.
  static std::size_t columns() noexcept;

private:
  static int next_key(struct editline *e, wchar_t *into);
  static char *prompt_of(struct editline *e);
  static ssize_t take(void *self, const char *bytes, std::size_t count);
  // How much of `bytes` are whole keys, which are appended to the queue.
  std::size_t split(std::string_view bytes);
  void put(std::string_view text) { write_(text); }
  std::size_t rows_above(const wchar_t *from, const wchar_t *to) const;
  // Inserts the printable keys next in the queue, at most so many, with one change of the screen; how many.
  std::size_t insert_run(std::size_t most);

  std::string prompt_;
  std::function<void(std::string_view)> write_;
  std::FILE *out_ = nullptr;
  struct editline *editor_ = nullptr;
  struct history *history_ = nullptr;
  std::deque<wchar_t> keys_;
  std::string partial_; // of a key
  bool active_ = false;
  bool hidden_ = false;
  bool cut_ = false;
};

} // namespace cli
