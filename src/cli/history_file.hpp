#pragma once
// The lines that were typed, kept from one run to the next in $XDG_STATE_HOME/chorus/history (else
// ~/.local/state/...), for nobody but their owner (0600). Each is appended when it is typed, so that programs that
// run at the same time keep each other's.

#include <string>
#include <vector>

namespace cli {

class history_file {
public:
  static constexpr std::size_t most_lines = 1000;
  static constexpr std::size_t longest_line = 4096;

  // Where it is; empty when the environment names no place.
  static std::string usual_path();
  explicit history_file(std::string path) : path_(std::move(path)) {}

  // The newest lines, the oldest of them first. Shortens the file when it has grown to twice as many. Nothing when it
  // can't be read; `error` tells.
  std::vector<std::string> load();
  // Not one that begins with a blank, is too long, or repeats the last one.
  bool worth_keeping(const std::string &line) const;
  void append(const std::string &line);
  // Why lines are not kept; empty while they are.
  const std::string &error() const noexcept { return error_; }

private:
  void fail(const char *what);

  std::string path_;
  std::string last_;
  std::string error_;
};

} // namespace cli
