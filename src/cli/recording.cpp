#include "recording.hpp"

#include "screen_text.hpp"
#include "script_names.hpp"
#include "values.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace cli {

namespace {

constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// What is wrong with this line, as a sentence; empty when nothing is.
std::string read_line(std::string_view line, std::chrono::milliseconds earliest, recorded &into) {
  boost::system::error_code ec;
  const auto value = boost::json::parse(line, ec);
  if (ec)
    return "it is no JSON (" + ec.message() + "); each line is one object";
  const auto *object = value.if_object();
  if (!object)
    return R"(it is no object; say {"dir":"out","ms":0,"text":"hello"})";
  for (const auto &member : *object) {
    const std::string_view name(member.key().data(), member.key().size());
    if (name != "dir" && name != "ms" && name != "text" && name != "base64")
      return "there is no '" + std::string(name.substr(0, 60)) + "'" +
             script::suggestion(name, {"dir", "ms", "text", "base64"});
  }
  const auto *dir = object->if_contains("dir");
  if (!dir || !dir->is_string() || (dir->get_string() != "out" && dir->get_string() != "in"))
    return R"("dir" has to be "out" or "in")";
  into.out = dir->get_string() == "out";

  const auto *ms = object->if_contains("ms");
  constexpr std::int64_t most = 87'600LL * 3'600'000;
  const auto at = ms && ms->is_int64() ? ms->get_int64() : -1;
  if (at < 0 || at > most)
    return R"("ms" has to be a whole number of milliseconds, 0 or more)";
  into.at = std::chrono::milliseconds(at);
  if (into.at < earliest)
    return "\"ms\" goes back from " + std::to_string(earliest.count()) + " to " +
           std::to_string(at) + "; the lines stand in the order of time";

  const auto *text = object->if_contains("text");
  const auto *base64 = object->if_contains("base64");
  if (!text == !base64)
    return R"(it needs one of "text" and "base64")";
  if (text) {
    if (!text->is_string())
      return R"("text" has to be a string)";
    if (into.out)
      into.content = chorus::message(std::string_view(text->get_string()));
    return {};
  }
  const auto bytes = base64->is_string() ? from_base64(std::string_view(base64->get_string()))
                                         : std::optional<std::string>();
  if (!bytes)
    return R"("base64" has to be a string in base64, with its padding)";
  if (into.out)
    into.content = chorus::message(chorus::message_kind::binary, bytes->data(), bytes->size());
  return {};
}

std::optional<std::string> read_file(const std::string &path, std::string &error) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat about {};
  if (fd < 0 || ::fstat(fd, &about) < 0) {
    error = path + ": " + std::strerror(errno);
    if (fd >= 0)
      ::close(fd);
    return {};
  }
  if (!S_ISREG(about.st_mode)) {
    ::close(fd);
    error = path + " is no file";
    return {};
  }
  if (static_cast<std::size_t>(about.st_size) > longest_recording) {
    ::close(fd);
    error = path + " is larger than " + to_text(longest_recording) + "; replay it in parts";
    return {};
  }
  std::string text(static_cast<std::size_t>(about.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const auto n = ::read(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      error = path + ": " + std::strerror(errno);
    if (n <= 0)
      break;
    done += static_cast<std::size_t>(n);
  }
  ::close(fd);
  if (!error.empty())
    return {};
  text.resize(done);
  return text;
}

} // namespace

std::string base64_of(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const auto left = std::min<std::size_t>(bytes.size() - at, 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (i < left ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i)
      out += i <= left ? alphabet[(bits >> (18 - 6 * i)) & 63] : '=';
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0)
    return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t at = 0; at < text.size(); at += 4) {
    const auto pads = at + 4 == text.size() ? padding : 0;
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      const auto digit = i < 4 - pads ? alphabet.find(text[at + i]) : 0;
      if (digit == alphabet.npos)
        return {};
      bits = bits << 6 | static_cast<std::uint32_t>(digit);
    }
    for (std::size_t i = 0; i < 3 - pads; ++i)
      out += static_cast<char>(static_cast<unsigned char>(bits >> (16 - 8 * i)));
    if (pads != 0 && (bits & ((1U << (8 * pads)) - 1)) != 0)
      return {};
  }
  return out;
}

recorder::recorder(const std::string &path, std::size_t bound) : path_(path), bound_(bound) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  // A file that was there has kept its mode.
  struct stat about {};
  if (fd >= 0 && ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode) &&
      (about.st_mode & 0777) != 0600)
    ::fchmod(fd, 0600);
  if (fd >= 0)
    file_.reset(::fdopen(fd, "w"));
  if (!file_)
    error_ = path + ": " + std::strerror(errno);
}

bool recorder::add(bool out, const chorus::message &m) {
  if (!error_.empty())
    return false;
  const auto now = std::chrono::steady_clock::now();
  boost::json::object line;
  line["dir"] = out ? "out" : "in";
  line["ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(now - start_).count();
  if (m.is_text() && is_utf8(m.text()))
    line["text"] = m.text();
  else
    line["base64"] = base64_of(m.text());
  const auto text = boost::json::serialize(line) + '\n';
  if (bound_ != 0 && text.size() > bound_ - written_) {
    error_ = path_ + " has reached " + to_text(bound_) + "; --record-limit allows more";
    return false;
  }
  written_ += text.size();
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() ||
      std::fflush(file_.get()) != 0) {
    error_ = "writing " + path_ + ": " + std::strerror(errno);
    return false;
  }
  return true;
}

std::optional<std::vector<recorded>> read_recording(const std::string &path, std::string &error) {
  const auto text = read_file(path, error);
  if (!text)
    return {};
  std::vector<recorded> all;
  std::chrono::milliseconds earliest{0};
  std::size_t number = 1;
  for (std::size_t at = 0; at < text->size(); ++number) {
    auto end = text->find('\n', at);
    end = end == text->npos ? text->size() : end;
    const auto line = std::string_view(*text).substr(at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == line.npos)
      continue;
    recorded one;
    if (const auto wrong = read_line(line, earliest, one); !wrong.empty()) {
      error = path + ":" + std::to_string(number) + ": " + wrong;
      return {};
    }
    earliest = one.at;
    all.push_back(std::move(one));
  }
  if (all.empty()) {
    error = path + " holds nothing to replay";
    return {};
  }
  return all;
}

} // namespace cli
