#include "cluster_options.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iterator>
#include <string_view>

namespace cluster_demo {

void usage() {
  std::fprintf(stderr, "%s", R"(usage: chorus_cluster_demo [OPTION VALUE]...
  --clients 1500  --rooms 30  --seconds 30  --rate 150 (messages per second)  --seed 1
  --redis-server PATH, --chorus PATH    the programs
  --when-away refuse|buffer             what the nodes do with messages while Redis is away
  --calm         nothing is killed
  --alone        one node without Redis, and nothing is killed
  --patience 60  seconds, for whatever everybody waits for
  --forget       Redis comes back without its data: all clients must be told so, and go on
  --fault drop|twice|swap               of what the first client gets: the account must say so
  --fault echo   what the first plain reader gets comes twice: the same
  --fault crash  a node ends that nobody has told to: the demo must say so
  --fault away   Redis does not come back: the same
  --self-check   whether the account finds what it is there for
)");
}

bool parse_words(int argc, char **argv, settings &s) {
  const struct {
    const char *name;
    std::uint64_t &value;
    std::uint64_t least, most;
  } numbers[] = {{"--clients", s.clients, 2, 100'000}, {"--rooms", s.rooms, 1, 10'000},
                 {"--seconds", s.seconds, 1, 3'600},   {"--patience", s.patience, 1, 3'600},
                 {"--rate", s.rate, 1, 100'000},       {"--seed", s.seed, 0, ~std::uint64_t{0}}};
  const std::string_view faults[] = {"", "drop", "twice", "swap", "echo", "crash", "away"};
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--calm" || word == "--alone" || word == "--self-check" || word == "--forget") {
      s.calm = s.calm || word == "--calm" || word == "--alone";
      s.forget = s.forget || word == "--forget";
      s.nodes.alone = s.nodes.alone || word == "--alone";
      s.self_check = s.self_check || word == "--self-check";
      continue;
    }
    const std::string_view text = ++i < argc ? argv[i] : "";
    if (text.empty())
      return false;
    if (word == "--redis-server") {
      s.nodes.redis_server = text;
    } else if (word == "--chorus") {
      s.nodes.chorus = text;
    } else if (word == "--when-away" && (text == "refuse" || text == "buffer")) {
      s.nodes.when_away = text;
    } else if (const auto *f = std::find(std::begin(faults), std::end(faults), text);
               word == "--fault" && f != std::end(faults)) {
      s.wrong = static_cast<fault>(f - std::begin(faults));
    } else {
      const auto *n = std::find_if(std::begin(numbers), std::end(numbers),
                                   [&](const auto &o) { return word == o.name; });
      const char *end = text.data() + text.size();
      if (n == std::end(numbers) || std::from_chars(text.data(), end, n->value).ptr != end ||
          n->value < n->least || n->value > n->most)
        return false;
    }
  }
  // A loss is among what happens to others, so nobody is told of one when nothing happens.
  return s.rooms <= s.clients && !(s.calm && s.forget);
}

} // namespace cluster_demo
