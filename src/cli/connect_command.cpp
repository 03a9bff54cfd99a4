#include "connect_command.hpp"

#include "script_names.hpp"
#include "values.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace cli {

namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

typed wrong(std::string why) { return {typed::what::wrong, std::move(why), 0}; }

bool may_be_sent(std::uint64_t code) {
  const bool named = code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
  return named || (code >= 3000 && code <= 4999);
}

typed read_close(std::string_view rest) {
  typed out{typed::what::close, {}, 1000};
  if (rest.empty())
    return out;
  const auto end = rest.find_first_of(" \t");
  const auto number = rest.substr(0, end);
  const auto code = parse_number(number);
  if (!code || !may_be_sent(*code))
    return wrong("'" + std::string(number) +
                 "' is no code to close with; say /close 1000 REASON, or a code from 3000 to 4999");
  out.code = static_cast<std::uint16_t>(*code);
  if (end != rest.npos)
    out.text = trimmed(rest.substr(end));
  if (out.text.size() > 123)
    return wrong("the reason of a close has at most 123 bytes, this one has " +
                 std::to_string(out.text.size()));
  return out;
}

} // namespace

typed read_typed(std::string_view line) {
  if (line.starts_with("//"))
    return {typed::what::message, std::string(line.substr(1)), 0};
  if (!line.starts_with('/'))
    return {typed::what::message, std::string(line), 0};
  const auto end = std::min(line.find_first_of(" \t"), line.size());
  const auto name = line.substr(0, end);
  const auto rest = trimmed(line.substr(end));
  if (name == "/close")
    return read_close(rest);
  if (name == "/binary") {
    if (rest.empty())
      return wrong("/binary sends a file as one binary message; say /binary FILE");
    return {typed::what::binary, std::string(rest), 0};
  }
  static constexpr std::array<std::pair<std::string_view, typed::what>, 4> bare{
      {{"/ping", typed::what::ping},
       {"/headers", typed::what::headers},
       {"/stats", typed::what::stats},
       {"/help", typed::what::help}}};
  for (const auto &[command, kind] : bare) {
    if (name != command)
      continue;
    if (!rest.empty())
      return wrong(std::string(name) + " takes nothing behind it");
    return {kind, {}, 0};
  }
  return wrong(
      "no command '" + std::string(name.substr(0, 60)) + "'" +
      script::suggestion(name, {"/ping", "/close", "/headers", "/binary", "/stats", "/help"}) +
      " (// begins a message with a slash)");
}

std::string_view command_help() noexcept {
  return "/ping                 measure the round trip\n"
         "/close [CODE [REASON]]  close, with 1000 unless said otherwise\n"
         "/headers              the server's answer to the upgrade\n"
         "/binary FILE          send a file as one binary message\n"
         "/stats                what has passed on this connection\n"
         "//text                the message /text\n"
         "Ctrl-D closes, Ctrl-R completes from the history, Ctrl-C ends";
}

} // namespace cli
