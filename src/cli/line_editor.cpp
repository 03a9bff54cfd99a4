#include "line_editor.hpp"

#include <histedit.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <clocale>
#include <cstring>
#include <cwchar>
#include <cwctype>
#include <stdexcept>
#include <utility>

namespace cli {

namespace {

constexpr wchar_t control(char c) { return static_cast<wchar_t>(c & 0x1f); }

// How many bytes the character has that begins with this one; 1 for what begins none.
std::size_t length_of(unsigned char first) {
  return first >= 0xf0 && first <= 0xf4 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
}

wchar_t decode(std::string_view bytes) {
  std::mbstate_t state{};
  wchar_t c = 0;
  const auto n = std::mbrtowc(&c, bytes.data(), bytes.size(), &state);
  return n == bytes.size() ? c : n == 0 ? L'\0' : L'\ufffd';
}

std::string encode(const wchar_t *from, const wchar_t *to) {
  std::string out;
  std::array<char, MB_LEN_MAX> bytes;
  std::mbstate_t state{};
  for (; from != to; ++from) {
    const auto n = std::wcrtomb(bytes.data(), *from, &state);
    if (n == static_cast<std::size_t>(-1))
      state = {};
    else
      out.append(bytes.data(), n);
  }
  return out;
}

// What only inserts itself, whatever was typed before it.
bool is_plain(wchar_t c) { return c >= 0x20 && c != 0x7f && std::iswprint(static_cast<wint_t>(c)); }

// How many keys are worth drawing the line afresh for, and how many one turn takes.
constexpr std::size_t shortest_run = 16;
constexpr std::size_t most_keys = 256;

std::size_t width_of(wchar_t c) {
  const int w = ::wcwidth(c);
  return w >= 0 ? static_cast<std::size_t>(w) : 2; // "^X"
}

// What a key's escape sequence means, in the editor's own keys; empty for those that mean nothing here.
std::wstring meaning(std::string_view sequence) {
  using std::string_view;
  struct key {
    string_view sequence;
    wchar_t meaning;
  };
  static constexpr std::array<key, 14> plain{{{"[A", control('P')},
                                              {"OA", control('P')},
                                              {"[B", control('N')},
                                              {"OB", control('N')},
                                              {"[C", control('F')},
                                              {"OC", control('F')},
                                              {"[D", control('B')},
                                              {"OD", control('B')},
                                              {"[H", control('A')},
                                              {"OH", control('A')},
                                              {"[1~", control('A')},
                                              {"[F", control('E')},
                                              {"OF", control('E')},
                                              {"[4~", control('E')}}};
  for (const auto &k : plain)
    if (k.sequence == sequence)
      return {k.meaning};
  if (sequence == "[3~")
    return L"\x1b[3~"; // bound below
  if (sequence == "[1;5C" || sequence == "[1;3C")
    return L"\x1b"
           L"f";
  if (sequence == "[1;5D" || sequence == "[1;3D")
    return L"\x1b"
           L"b";
  // Of the keys with Meta those that need no further key.
  if (sequence.size() == 1 && std::strchr("bfdculpntw<>\x7f\b", sequence[0]) && sequence[0] != 0)
    return {L'\x1b', static_cast<wchar_t>(sequence[0])};
  return {};
}

} // namespace

line_editor::line_editor(std::string prompt, std::function<void(std::string_view)> write)
    : prompt_(std::move(prompt)), write_(std::move(write)) {
  // libedit works on wide characters.
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0)
    std::setlocale(LC_CTYPE, "C.UTF-8");
  cookie_io_functions_t functions{};
  functions.write = [](void *self, const char *bytes, std::size_t count) {
    return take(self, bytes, count);
  };
  out_ = ::fopencookie(this, "w", functions);
  editor_ =
      out_ ? ::el_init_fd("chorus", stdin, out_, out_, STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO)
           : nullptr;
  history_ = ::history_init();
  if (!editor_ || !history_) {
    if (history_)
      ::history_end(history_);
    if (editor_)
      ::el_end(editor_);
    if (out_)
      std::fclose(out_);
    throw std::runtime_error("the terminal can't be used for editing lines");
  }
  HistEvent event;
  ::history(history_, &event, H_SETSIZE, 1000);
  ::history(history_, &event, H_SETUNIQUE, 1);
  ::el_set(editor_, EL_CLIENTDATA, this);
  ::el_set(editor_, EL_EDITOR, "emacs");
  ::el_set(editor_, EL_PROMPT, prompt_of);
  ::el_set(editor_, EL_HIST, ::history, history_);
  ::el_set(editor_, EL_SIGNAL, 0);
  ::el_set(editor_, EL_GETCFN, next_key);
  // An output stopped by Ctrl-S would stop the loop's writing with it.
  ::el_set(editor_, EL_SETTY, "-d", "-ixon", nullptr);
  ::el_set(editor_, EL_BIND, "\\e[3~", "ed-delete-next-char", nullptr);
  // The usual search asks for further keys while it runs, for which nobody waits here.
  ::el_set(editor_, EL_BIND, "^R", "ed-search-prev-history", nullptr);
  ::el_set(editor_, EL_BIND, "^V", "ed-unassigned", nullptr);
}

std::size_t line_editor::columns() noexcept {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : 80;
}

line_editor::~line_editor() {
  stop();
  ::el_end(editor_);
  ::history_end(history_);
  std::fclose(out_);
}

ssize_t line_editor::take(void *self, const char *bytes, std::size_t count) {
  static_cast<line_editor *>(self)->put({bytes, count});
  return static_cast<ssize_t>(count);
}

int line_editor::next_key(struct editline *e, wchar_t *into) {
  line_editor *self = nullptr;
  ::el_get(e, EL_CLIENTDATA, &self);
  if (self->keys_.empty())
    return 0;
  *into = self->keys_.front();
  self->keys_.pop_front();
  return 1;
}

char *line_editor::prompt_of(struct editline *e) {
  line_editor *self = nullptr;
  ::el_get(e, EL_CLIENTDATA, &self);
  return self->prompt_.data();
}

void line_editor::start() {
  if (std::exchange(active_, true))
    return;
  ::el_set(editor_, EL_UNBUFFERED, 1);
  std::fflush(out_);
}

void line_editor::stop() noexcept {
  if (!active_)
    return;
  hide();
  active_ = false;
  hidden_ = false;
  ::el_set(editor_, EL_UNBUFFERED, 0);
  std::fflush(out_);
}

std::size_t line_editor::split(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto rest = bytes.substr(at);
    const auto first = static_cast<unsigned char>(rest[0]);
    std::size_t length = length_of(first);
    if (first == 0x1b) {
      if (rest.size() < 2)
        return at;
      length = 2;
      if (rest[1] == 'O') {
        length = 3;
      } else if (rest[1] == '[') {
        constexpr std::size_t most = 32;
        const auto end = std::find_if(rest.begin() + 2, rest.end(), [](char c) {
          return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x3f;
        });
        if (end == rest.end() && rest.size() < most)
          return at;
        length =
            std::min<std::size_t>(static_cast<std::size_t>(end - rest.begin()) + 1, rest.size());
      }
      if (rest.size() < length)
        return at;
      for (const auto c : meaning(rest.substr(1, length - 1)))
        keys_.push_back(c);
    } else {
      if (rest.size() < length)
        return at;
      keys_.push_back(decode(rest.substr(0, length)));
    }
    at += length;
  }
  return at;
}

std::size_t line_editor::rows_above(const wchar_t *from, const wchar_t *to) const {
  std::size_t width = prompt_.size();
  for (; from != to; ++from)
    width += width_of(*from);
  return width / columns();
}

std::size_t line_editor::insert_run(std::size_t most) {
  const auto last = keys_.begin() + static_cast<std::ptrdiff_t>(std::min(most, keys_.size()));
  const auto end = std::find_if_not(keys_.begin(), last, is_plain);
  const std::wstring run(keys_.begin(), end);
  if (run.size() < shortest_run)
    return 0;
  hide();
  const bool inserted = ::el_winsertstr(editor_, run.c_str()) == 0;
  show();
  if (!inserted)
    return 0;
  keys_.erase(keys_.begin(), end);
  return run.size();
}

std::vector<line_editor::entered> line_editor::feed(std::string_view bytes) {
  std::vector<entered> out;
  if (!active_)
    return out;
  partial_ += bytes;
  partial_.erase(0, split(partial_));
  const bool was_hidden = hidden_;
  if (was_hidden)
    show();
  bool plain = false; // the last key was, so that none has begun something that takes more
  for (std::size_t done = 0; !keys_.empty() && done < most_keys; ++done) {
    const auto *before = ::el_wline(editor_);
    const auto used = static_cast<std::size_t>(before->lastchar - before->buffer);
    const auto key = keys_.front();
    if (used >= longest && key >= 0x20 && key != 0x7f) {
      cut_ = true;
      keys_.pop_front();
      continue;
    }
    if (plain) {
      if (const auto some = insert_run(std::min(longest - used, most_keys - done)); some != 0) {
        done += some - 1;
        continue;
      }
    }
    plain = is_plain(key);
    int count = 0;
    const wchar_t *line = ::el_wgets(editor_, &count);
    if (!line || count <= 0)
      continue;
    const bool end = count == 1 && line[0] == 4;
    const bool whole = line[count - 1] == L'\n' || line[count - 1] == L'\r';
    if (!end && !whole)
      continue;
    plain = false;
    entered one;
    one.end = end;
    if (!end)
      one.line = encode(line, line + count - 1);
    one.cut = std::exchange(cut_, false);
    // The cursor stands below the line, or where Ctrl-D was typed behind the prompt.
    std::fflush(out_);
    const auto rows = end ? 0 : rows_above(line, line + count - 1) + 1;
    if (rows != 0)
      put("\x1b[" + std::to_string(rows) + "A");
    put("\r\x1b[J");
    ::el_set(editor_, EL_UNBUFFERED, 0);
    active_ = false;
    if (!end)
      start();
    out.push_back(std::move(one));
    if (end) {
      keys_.clear();
      partial_.clear();
      return out;
    }
  }
  std::fflush(out_);
  return out;
}

void line_editor::hide() {
  if (!active_ || std::exchange(hidden_, true))
    return;
  std::fflush(out_);
  const auto *line = ::el_wline(editor_);
  const auto rows = rows_above(line->buffer, line->cursor);
  if (rows != 0)
    put("\x1b[" + std::to_string(rows) + "A");
  put("\r\x1b[J");
}

void line_editor::show() {
  if (!active_ || !std::exchange(hidden_, false))
    return;
  ::el_set(editor_, EL_REFRESH, nullptr);
  std::fflush(out_);
}

void line_editor::resize() {
  if (!active_)
    return;
  hide();
  ::el_resize(editor_);
  show();
}

void line_editor::restart() {
  if (!active_)
    return;
  ::el_set(editor_, EL_PREP_TERM, 0);
  ::el_set(editor_, EL_PREP_TERM, 1);
  hidden_ = true;
  put("\r\x1b[J");
  show();
}

void line_editor::remember(const std::string &line) {
  HistEvent event;
  ::history(history_, &event, H_ENTER, line.c_str());
}

} // namespace cli
