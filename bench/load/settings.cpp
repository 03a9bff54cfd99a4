#include "settings.hpp"

#include "link.hpp"

#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string_view>

namespace load {

std::string usage() {
  return R"(usage: chorus_load MODE --url ws://HOST:PORT/PATH [options]

  echo        every connection keeps messages in flight and checks what comes back
  broadcast   one member of the room keeps broadcasts in flight, all members count deliveries
  slow        a room at a steady rate while some members never read
  idle        open connections and measure the server's memory

  --connections N, --members N   connections in all                    (100; slow 200; idle 10000)
  --size B                       payload in bytes                      (128; slow 1024)
  --in-flight D                  outstanding per connection, or sender (16)
  --duration S, --warmup S       seconds that count, and before them   (5 and 1; slow 10 and 0)
  --messages N                   a fixed number instead of a duration
  --limit S                      seconds that a fixed number may take  (120)
  --drain S                      seconds for the outstanding at the end (10)
  --connect-timeout S            seconds for all connections           (60)
  --window all|sender            whose copy completes a broadcast      (all)
  --stalled N, --rate R          slow: members that never read, broadcasts per second (10, 2000)
  --touch                        idle: exchange one message on each connection first (/echo)
  --text                         text messages instead of binary ones
  --pid PID                      the server's, for its CPU time and memory
  --json                         one JSON object on standard output
)";
}

namespace {

double to_number(std::string_view name, const std::string &text, double low, double high) {
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || end != text.data() + text.size() || !(value >= low && value <= high))
    throw failure{"usage", std::string{name} + ": '" + text + "' is not a number within bounds"};
  return value;
}

} // namespace

settings parse_settings(int argc, char **argv) {
  if (argc < 2)
    throw failure{"usage", "no mode given"};
  settings s;
  s.mode = argv[1];
  if (s.mode == "slow") {
    s.connections = 200;
    s.size = 1024;
    s.duration = 10;
    s.warmup = 0;
  } else if (s.mode == "idle") {
    s.connections = 10000;
    s.duration = 1;
  } else if (s.mode != "echo" && s.mode != "broadcast") {
    throw failure{"usage", "no mode '" + s.mode + "'"};
  }

  const std::map<std::string_view, std::function<void()>> flags{
      {"--json", [&] { s.json = true; }},
      {"--text", [&] { s.text = true; }},
      {"--touch", [&] { s.touch = true; }},
  };
  std::string_view name;
  std::string value;
  const auto whole = [&](auto &to, double low, double high) {
    const double n = to_number(name, value, low, high);
    if (n != std::floor(n))
      throw failure{"usage", std::string{name} + " wants a whole number"};
    to = static_cast<std::remove_reference_t<decltype(to)>>(n);
  };
  const auto seconds = [&](double &to) { to = to_number(name, value, 0, 86400); };
  const auto connections = [&] { whole(s.connections, 1, 262143); };
  const std::map<std::string_view, std::function<void()>> options{
      {"--url", [&] { s.url = value; }},
      {"--connections", connections},
      {"--members", connections},
      {"--size", [&] { whole(s.size, 0, 256u << 20); }},
      {"--in-flight", [&] { whole(s.in_flight, 1, 65536); }},
      {"--duration", [&] { seconds(s.duration); }},
      {"--warmup", [&] { seconds(s.warmup); }},
      {"--messages", [&] { whole(s.messages, 1, 1e12); }},
      {"--limit", [&] { seconds(s.limit); }},
      {"--drain", [&] { seconds(s.drain); }},
      {"--connect-timeout", [&] { seconds(s.connect_timeout); }},
      {"--window",
       [&] {
         if (value != "all" && value != "sender")
           throw failure{"usage", "--window is all or sender"};
         s.sender_window = value == "sender";
       }},
      {"--stalled", [&] { whole(s.stalled, 0, 262143); }},
      {"--rate", [&] { s.rate = to_number(name, value, 0.1, 1e6); }},
      {"--pid", [&] { whole(s.pid, 1, std::numeric_limits<pid_t>::max()); }},
  };
  for (int i = 2; i < argc; ++i) {
    name = argv[i];
    if (const auto flag = flags.find(name); flag != flags.end()) {
      flag->second();
      continue;
    }
    const auto option = options.find(name);
    if (option == options.end())
      throw failure{"usage", "no option '" + std::string{name} + "'"};
    if (++i == argc)
      throw failure{"usage", std::string{name} + " wants a value"};
    value = argv[i];
    option->second();
  }
  if (s.url.empty())
    throw failure{"usage", "--url is missing"};
  if (s.mode == "slow" && s.stalled >= s.connections)
    throw failure{"usage", "at least one member has to read: --stalled is too large"};
  if (s.mode == "idle" && s.pid == 0)
    throw failure{"usage", "idle measures the memory of a process: --pid is missing"};
  return s;
}

} // namespace load
