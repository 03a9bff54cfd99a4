#pragma once
// `connect --record FILE` and `--replay FILE`: what passed, one JSON object a line:
//
//   {"dir":"out","ms":0,"text":"hello"}
//   {"dir":"in","ms":12,"base64":"AP9B"}
//
// "dir": sent by this side (out) or received (in). "ms": milliseconds since the connection was open. Text
// messages have "text", binary ones "base64" (RFC 4648 section 4).

#include <chorus/chorus.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

std::string base64_of(std::string_view bytes);
// Nothing for what is not in canonical form, padding included.
std::optional<std::string> from_base64(std::string_view text);

class recorder {
public:
  // Creates or empties the file, for its owner alone. `bound`: bytes of it.
  recorder(const std::string &path, std::size_t bound);

  void begin() noexcept { start_ = std::chrono::steady_clock::now(); }
  // False when it could not be written; then, and ever after, `error` tells. Each line is written whole at once.
  bool add(bool out, const chorus::message &m);
  const std::string &error() const noexcept { return error_; }

private:
  struct closer {
    void operator()(std::FILE *f) const noexcept { std::fclose(f); }
  };
  std::string path_;
  std::size_t bound_;
  std::size_t written_ = 0;
  std::unique_ptr<std::FILE, closer> file_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::string error_;
};

struct recorded {
  bool out = true;
  std::chrono::milliseconds at{0};
  chorus::message content;
};

// The largest file that is replayed, in bytes: it is held in memory.
constexpr std::size_t longest_recording = std::size_t{256} << 20;

// All of a recording, in its order; of what was received only the times. Nothing when it can't be used: `error`
// then names the file, the line and what is wrong there.
std::optional<std::vector<recorded>> read_recording(const std::string &path, std::string &error);

} // namespace cli
