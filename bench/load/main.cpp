// chorus_load: a load for WebSocket servers that shares no code with any of them. One thread, raw epoll, its
// own few lines of framing. Exit status: 0 when every message came back right, 1 when one did not or the
// server failed, 2 for a wrong command line.

#include "link.hpp"
#include "modes.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char **argv) {
  load::report out;
  bool json = false;
  int status = 0;
  try {
    const load::settings s = load::parse_settings(argc, argv);
    json = s.json;
    out.add("mode", s.mode);
    bool good = false;
    if (s.mode == "echo")
      good = load::run_echo(s, out);
    else if (s.mode == "broadcast")
      good = load::run_broadcast(s, out);
    else if (s.mode == "slow")
      good = load::run_slow(s, out);
    else
      good = load::run_idle(s, out);
    out.add("ok", good);
    status = good ? 0 : 1;
  } catch (const load::failure &f) {
    std::fprintf(stderr, "chorus_load: %s: %s\n", f.kind().c_str(), f.what());
    if (f.kind() == "usage") {
      std::fputs(load::usage().c_str(), stderr);
      return 2;
    }
    out.add("ok", false);
    out.add("failure", f.kind());
    out.add("reason", std::string{f.what()});
    status = 1;
  } catch (const std::exception &e) {
    std::fprintf(stderr, "chorus_load: %s\n", e.what());
    return 1;
  }
  std::fputs((json ? out.json() : out.text()).c_str(), stdout);
  return status;
}
