#include "bench.hpp"

#include "bench_report.hpp"
#include "fleet.hpp"
#include "header_option.hpp"
#include "process.hpp"
#include "values.hpp"

#include <boost/asio/signal_set.hpp>
#include <spdlog/fmt/fmt.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <limits>

namespace cli {

namespace {

using chorus::task;
using namespace std::chrono_literals;

std::vector<std::string> server_arguments(const bench_settings &s) {
  // Everything that is outstanding may lie in the queue of one member.
  const auto outstanding = 4 * s.in_flight * (s.size + 14);
  const auto largest = std::max<std::size_t>(s.size, std::size_t{16} << 20);
  return {"--listen",          "127.0.0.1:0",
          "--log-level",       "warn",
          "--threads",         std::to_string(s.server_threads),
          "--max-message",     std::to_string(largest),
          "--queue-bytes",     std::to_string(std::max(std::size_t{1} << 20, outstanding)),
          "--max-connections", "0",
          "--compression",     s.compression ? "on" : "off"};
}

// A URL without a path means the endpoint of `chorus serve`.
std::string endpoint(const bench_settings &s, std::string url) {
  const auto authority = url.find("://");
  if (!url.starts_with("ws") || url.starts_with("ws+unix") || authority == url.npos)
    return url;
  const auto path = url.find_first_of("/?", authority + 3);
  if (path != url.npos && url.substr(path) != "/")
    return url;
  return url.substr(0, path) + (s.mode == "broadcast" ? "/broadcast" : "/echo");
}

struct sample {
  std::uint64_t time = now_ns();
  std::uint64_t messages, bytes;
  double own_cpu;
  std::optional<double> server_cpu;
};

sample take_sample(const fleet &all, pid_t server) {
  sample s{};
  s.time = now_ns();
  s.messages = all.messages();
  s.bytes = all.bytes();
  s.own_cpu = cpu_seconds(::getpid()).value_or(0);
  if (server != 0)
    s.server_cpu = cpu_seconds(server);
  return s;
}

task<> show_for(fleet &all, std::chrono::milliseconds d, std::string_view what) {
  live_line line;
  const auto until = std::chrono::steady_clock::now() + d;
  auto seen = all.messages();
  auto seen_at = now_ns();
  while (all.errors() == 0 && !all.interrupted()) {
    const auto left = until - std::chrono::steady_clock::now();
    if (left <= 0ns)
      break;
    co_await chorus::sleep(std::min<std::chrono::nanoseconds>(left, 100ms));
    const auto messages = all.messages();
    const auto time = now_ns();
    line.show(fmt::format(
        "{}: {:.0f} messages/s, {} connections, {:.1f} s left", what,
        static_cast<double>(messages - seen) * 1e9 /
            static_cast<double>(std::max<std::uint64_t>(1, time - seen_at)),
        all.open(),
        std::max(0.0,
                 std::chrono::duration<double>(until - std::chrono::steady_clock::now()).count())));
    seen = messages;
    seen_at = time;
  }
}

task<> bench_main(fleet &all, pid_t server, bench_report &r) {
  const auto &s = all.settings();
  const auto own_memory = private_memory(::getpid()).value_or(0);
  if (server != 0)
    r.server_memory_before = private_memory(server);
  co_await all.dial();
  if (all.errors() != 0 || all.interrupted())
    co_return;
  all.enter(phase::warming);
  if (s.mode == "echo")
    co_await start_echo(all);
  else if (s.mode == "broadcast")
    co_await start_broadcast(all);
  else
    co_await start_idle(all);
  co_await show_for(all, s.warmup, "warming up");
  if (all.interrupted())
    co_return;

  const auto begin = take_sample(all, server);
  all.enter(phase::measuring);
  co_await show_for(all, s.duration, s.mode);
  const auto end = take_sample(all, server);
  if (server != 0)
    r.server_memory = private_memory(server);
  const auto own_memory_now = private_memory(::getpid()).value_or(0);
  r.client_memory_growth = own_memory_now > own_memory ? own_memory_now - own_memory : 0;
  all.enter(phase::ending);
  r.interrupted = all.interrupted();

  r.seconds = static_cast<double>(end.time - begin.time) * 1e-9;
  r.messages = end.messages - begin.messages;
  r.bytes = end.bytes - begin.bytes;
  r.client_cpu = end.own_cpu - begin.own_cpu;
  if (begin.server_cpu && end.server_cpu)
    r.server_cpu = *end.server_cpu - *begin.server_cpu;
  co_await all.drain();
  r.unanswered = all.unanswered();
  co_await all.close();
}

} // namespace

CLI::App *add_bench(CLI::App &app, bench_settings &s) {
  auto *sub =
      app.add_subcommand("bench", "Measure a server under load from this library's clients");
  sub->add_option("LOAD", s.mode, "echo, broadcast or idle")
      ->required()
      ->check(CLI::IsMember({"echo", "broadcast", "idle"}));
  auto *url =
      sub->add_option("--url", s.url,
                      "Server to measure; without a path its /echo or /broadcast. Default: a "
                      "server of its own, in a process of its own");
  add_number(*sub, "--connections", s.connections, std::size_t{1}, std::size_t{10'000'000},
             "Connections; members for broadcast");
  add_size(*sub, "--size", s.size, "Payload of a message; latencies are measured from 16 bytes on");
  add_number(*sub, "--in-flight", s.in_flight, std::size_t{1}, std::size_t{1'000'000},
             "Outstanding messages per connection (echo) or broadcasts in all (broadcast)");
  add_duration(*sub, "--duration", s.duration, "How long to measure");
  add_duration(*sub, "--warmup", s.warmup, "How long to load before measuring");
  add_number(*sub, "--threads", s.threads, 1U, 1024U, "Threads of the load");
  add_number(*sub, "--server-threads", s.server_threads, 1U, 1024U, "Threads of the own server");
  add_number(*sub, "--server-pid", s.server_pid, pid_t{1}, std::numeric_limits<pid_t>::max(),
             "Process of the server behind --url, on this machine, to measure it too")
      ->needs(url)
      ->type_name("PID")
      ->default_str("");
  add_trust_options(*sub, s.tls, s.insecure);
  add_header_option(*sub, s.header_lines, s.headers);
  add_reach_options(*sub, s.reach, s.headers, s.tls);
  add_protocol_options(*sub, s.reach);
  add_switch(*sub, "--compression", s.compression, "permessage-deflate");
  sub->add_flag("--json", s.json, "One JSON object on standard output instead of a table");
  return sub;
}

status run_bench(const bench_settings &settings) {
  if (settings.duration.count() == 0) {
    complain("bench", "--duration: '0' leaves nothing to measure; say 500ms, 30s or 2m");
    return status::usage;
  }
  if (settings.server_pid != 0 && !cpu_seconds(settings.server_pid)) {
    complain("bench", fmt::format("--server-pid: there is no process {} that can be measured here; "
                                  "check the number",
                                  settings.server_pid));
    return status::usage;
  }
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);
  bench_report r;
  std::unique_ptr<child_server> own;
  std::string url = settings.url;
  pid_t server = settings.server_pid;
  if (url.empty()) {
    try {
      own = std::make_unique<child_server>(server_arguments(settings));
    } catch (const std::runtime_error &e) {
      complain("bench", e.what());
      return status::failed;
    }
    url = own->url();
    server = own->pid();
    r.own_server = true;
  }
  const auto target = endpoint(settings, url);
  r.url = without_secrets(target);

  chorus::runtime rt{{.threads = settings.threads}};
  fleet all(rt, settings, target);
  boost::asio::signal_set signals(rt.executor(0), SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code ec, int) {
    if (ec)
      return;
    all.interrupt();
    // A second signal gets the default treatment and ends the program at once.
    signals.clear();
  });
  rt.run(bench_main(all, server, r));
  r.errors = all.errors();
  if (r.seconds == 0 && r.errors == 0) {
    complain("bench", "interrupted before anything was measured");
    return status::failed;
  }
  if (r.seconds == 0) {
    const auto why = all.first_failure();
    complain("bench", fmt::format("only {} of {} connections: {}", all.open(), settings.connections,
                                  sentence_of(why)));
    return status_of(why) == status::ok ? status::failed : status_of(why);
  }
  for (const auto &l : all.lanes())
    r.latency.add(l->latency);
  const auto text = settings.json ? to_json(settings, r) : to_table(settings, r);
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  if (r.errors != 0) {
    complain("bench", fmt::format("{} connection(s) failed under the load, the first one: {}; "
                                  "the server's log may say why",
                                  r.errors, sentence_of(all.first_failure())));
    return status::failed;
  }
  if (r.unanswered != 0) {
    complain("bench", fmt::format("{} message(s) did not come back within 5 s after the last that "
                                  "did; is the server stuck, or does it drop messages?",
                                  r.unanswered));
    return status::failed;
  }
  return status::ok;
}

} // namespace cli
