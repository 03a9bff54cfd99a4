#include "bench_report.hpp"

#include "values.hpp"

#include <spdlog/fmt/fmt.h>

#include <iterator>

namespace cli {

namespace {

struct figures {
  double rate, mb_per_s;
  std::optional<double> cpu_per_message, cpu_percent, memory_per_connection;
  double client_cpu_per_message;
};

double divide(double a, double b) { return b == 0 ? 0 : a / b; }

figures derive(const bench_settings &s, const bench_report &r) {
  const auto messages = static_cast<double>(r.messages);
  figures f{};
  f.rate = divide(messages, r.seconds);
  f.mb_per_s = divide(static_cast<double>(r.bytes), r.seconds * 1e6);
  f.client_cpu_per_message = divide(r.client_cpu * 1e6, messages);
  if (r.server_cpu) {
    f.cpu_percent = divide(*r.server_cpu * 100, r.seconds);
    if (r.messages != 0)
      f.cpu_per_message = *r.server_cpu * 1e6 / messages;
  }
  if (r.server_memory && r.server_memory_before)
    f.memory_per_connection =
        (static_cast<double>(*r.server_memory) - static_cast<double>(*r.server_memory_before)) /
        static_cast<double>(s.connections);
  return f;
}

double us(std::uint64_t ns) { return static_cast<double>(ns) / 1000; }

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out + '"';
}

template <class T> std::string or_null(const std::optional<T> &value) {
  if (!value)
    return "null";
  if constexpr (std::is_floating_point_v<T>)
    return fmt::format("{:.3f}", *value);
  else
    return fmt::format("{}", *value);
}

} // namespace

std::string to_table(const bench_settings &s, const bench_report &r) {
  const auto f = derive(s, r);
  std::string out;
  const auto line = [&out](std::string_view name, const std::string &value) {
    fmt::format_to(std::back_inserter(out), "{:<22}{}\n", name, value);
  };
  line("load", s.mode + " at " + r.url + (r.own_server ? " (own server)" : ""));
  line("connections", fmt::format("{} on {} thread(s)", s.connections, s.threads));
  if (s.mode != "idle") {
    line("messages", fmt::format("{} of {} bytes, {} in flight{}", r.messages, s.size, s.in_flight,
                                 s.mode == "echo" ? " per connection" : ""));
    line("rate", fmt::format("{:.0f} {}/s", f.rate, s.mode == "echo" ? "messages" : "deliveries"));
    if (s.mode == "broadcast")
      line("broadcasts",
           fmt::format("{:.0f} broadcasts/s", divide(f.rate, static_cast<double>(s.connections))));
    line("throughput", fmt::format("{:.2f} MB/s of payload", f.mb_per_s));
    if (r.latency.total() != 0)
      line("latency", fmt::format("p50 {:.0f} us, p99 {:.0f} us, p99.9 {:.0f} us, max {:.0f} us",
                                  us(r.latency.percentile(0.5)), us(r.latency.percentile(0.99)),
                                  us(r.latency.percentile(0.999)), us(r.latency.highest())));
  }
  if (f.cpu_per_message)
    line("server CPU", fmt::format("{:.3f} us per message, {:.0f}% of a core", *f.cpu_per_message,
                                   *f.cpu_percent));
  else if (f.cpu_percent)
    line("server CPU", fmt::format("{:.1f}% of a core", *f.cpu_percent));
  if (f.memory_per_connection)
    line("server memory",
         fmt::format("{:.0f} bytes per connection, {:.1f} MiB in all", *f.memory_per_connection,
                     static_cast<double>(*r.server_memory) / (1 << 20)));
  if (s.mode != "idle")
    line("client CPU", fmt::format("{:.3f} us per message", f.client_cpu_per_message));
  else
    line("client memory",
         fmt::format("{:.0f} bytes per connection", static_cast<double>(r.client_memory_growth) /
                                                        static_cast<double>(s.connections)));
  if (r.interrupted)
    line("interrupted", fmt::format("after {:.1f} s", r.seconds));
  if (r.unanswered != 0)
    line("unanswered", std::to_string(r.unanswered));
  if (r.errors != 0)
    line("errors", std::to_string(r.errors));
  return out;
}

std::string to_json(const bench_settings &s, const bench_report &r) {
  const auto f = derive(s, r);
  std::string latency = "null";
  if (r.latency.total() != 0)
    latency = fmt::format(R"({{"p50":{:.3f},"p99":{:.3f},"p99_9":{:.3f},"max":{:.3f}}})",
                          us(r.latency.percentile(0.5)), us(r.latency.percentile(0.99)),
                          us(r.latency.percentile(0.999)), us(r.latency.highest()));
  std::string server = "null";
  if (r.server_cpu)
    server = fmt::format(
        R"({{"cpu_us_per_message":{},"cpu_percent":{},"memory_bytes":{},"memory_per_connection":{}}})",
        or_null(f.cpu_per_message), or_null(f.cpu_percent), or_null(r.server_memory),
        or_null(f.memory_per_connection));
  return fmt::format(
      R"({{"mode":{},"url":{},"own_server":{},"connections":{},"size":{},"in_flight":{},)"
      R"("threads":{},"compression":{},"seconds":{:.3f},"messages":{},"rate":{:.1f},)"
      R"("mb_per_s":{:.3f},"latency_us":{},"server":{},"client_cpu_us_per_message":{:.3f},)"
      R"("client_memory_per_connection":{:.0f},"unanswered":{},"errors":{}}})"
      "\n",
      json_text(s.mode), json_text(r.url), r.own_server, s.connections, s.size, s.in_flight,
      s.threads, s.compression, r.seconds, r.messages, f.rate, f.mb_per_s, latency, server,
      f.client_cpu_per_message,
      static_cast<double>(r.client_memory_growth) / static_cast<double>(s.connections),
      r.unanswered, r.errors);
}

} // namespace cli
