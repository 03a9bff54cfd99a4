// The editor of lines, at a terminal that takes the place of standard input and output meanwhile.

#include "../../../src/cli/line_editor.hpp"

#include <boost/test/unit_test.hpp>

#include <pty.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

class terminal_in_place {
public:
  terminal_in_place() : input_(::dup(STDIN_FILENO)), output_(::dup(STDOUT_FILENO)) {
    ::setenv("TERM", "xterm", 1);
    const winsize size{24, 80, 0, 0};
    int slave = -1;
    BOOST_REQUIRE(::openpty(&master_, &slave, nullptr, nullptr, &size) == 0);
    ::dup2(slave, STDIN_FILENO);
    ::dup2(slave, STDOUT_FILENO);
    ::close(slave);
  }
  ~terminal_in_place() {
    ::dup2(input_, STDIN_FILENO);
    ::dup2(output_, STDOUT_FILENO);
    ::close(input_);
    ::close(output_);
    ::close(master_);
  }
  terminal_in_place(const terminal_in_place &) = delete;
  terminal_in_place &operator=(const terminal_in_place &) = delete;

private:
  int input_;
  int output_;
  int master_ = -1;
};

// The lines that came of it, and in how many turns.
std::vector<std::string> lines_of(cli::line_editor &editor, const std::string &typed,
                                  std::size_t &turns) {
  std::vector<std::string> lines;
  turns = 0;
  for (auto all = editor.feed(typed);; all = editor.feed("")) {
    ++turns;
    for (const auto &one : all)
      lines.push_back(one.line);
    if (!editor.busy())
      return lines;
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(line_editor)

BOOST_AUTO_TEST_CASE(a_paste_takes_turns) {
  const terminal_in_place terminal;
  std::size_t shown = 0;
  cli::line_editor editor("> ", [&](std::string_view bytes) { shown += bytes.size(); });
  editor.start();
  std::string text;
  std::size_t keys = 0;
  for (; keys < 8000; ++keys)
    text += keys % 100 == 0 ? "\xe2\x82\xac" : std::string(1, static_cast<char>('a' + keys % 26));
  std::size_t turns = 0;
  const std::vector<std::string> whole{text};
  const bool arrived = lines_of(editor, text + '\r', turns) == whole;
  BOOST_TEST(arrived);
  BOOST_TEST(turns >= keys / 256);
  // Drawn afresh by the run and not by the key.
  BOOST_TEST(shown < 200'000U);
  editor.stop();
}

BOOST_AUTO_TEST_CASE(runs_and_other_keys) {
  const terminal_in_place terminal;
  cli::line_editor editor("> ", [](std::string_view) {});
  editor.start();
  std::size_t turns = 0;
  const std::string a(20, 'a');
  const std::string b(20, 'b');
  const std::string c(300, 'c');
  const std::vector<std::string> wanted{b + a, "", a + b + c, a.substr(1) + "xa"};
  const bool as_typed =
      lines_of(editor,
               a + "\x01" + b + "\r" + c + "\x17\r" + c + "\x01" + a + b + "\r" + a + "\x1b[Dx\r",
               turns) == wanted;
  BOOST_TEST(as_typed);
  editor.stop();
}

BOOST_AUTO_TEST_CASE(a_line_has_an_end) {
  const terminal_in_place terminal;
  cli::line_editor editor("> ", [](std::string_view) {});
  editor.start();
  auto all = editor.feed(std::string(cli::line_editor::longest + 100, 'x') + "\r");
  while (editor.busy())
    all = editor.feed("");
  BOOST_REQUIRE(all.size() == 1U);
  BOOST_TEST(all[0].line.size() == cli::line_editor::longest);
  BOOST_TEST(all[0].cut);
  editor.stop();
}

BOOST_AUTO_TEST_SUITE_END()
