#include "probe.hpp"

#include "examination.hpp"
#include "header_option.hpp"
#include "values.hpp"

#include <csignal>
#include <cstdio>

namespace cli {

namespace {

chorus::task<> probe_main(examination &all, status &outcome) { outcome = co_await all.run(); }

} // namespace

CLI::App *add_probe(CLI::App &app, probe_settings &s) {
  auto *sub = app.add_subcommand(
      "probe", "Examine URL stage by stage: times, certificate, headers, and what to do");
  sub->add_option("URL", s.url,
                  "ws://, wss://, ws+unix://PATH:/TARGET, tcp://, tls:// or unix://PATH")
      ->required();
  add_header_option(*sub, s.header_lines, s.headers);
  sub->add_option("--subprotocol", s.subprotocols, "Offer a subprotocol; repeatable, best first")
      ->allow_extra_args(false)
      ->type_name("NAME");
  add_trust_options(*sub, s.tls, s.insecure);
  sub->add_option("--alpn", s.tls.alpn, "Offer an ALPN protocol; repeatable, best first")
      ->allow_extra_args(false)
      ->type_name("NAME");
  add_switch(*sub, "--compression", s.compression, "Offer permessage-deflate");
  add_reach_options(*sub, s.reach, s.headers, s.tls);
  add_number(*sub, "--pings", s.pings, 1U, 1000U, "Round trips to measure");
  add_duration(*sub, "--timeout", s.timeout, "Bound of each stage");
  sub->add_flag("--json", s.json, "One JSON object on standard output instead of the report");
  add_color(*sub, s.color);
  return sub;
}

status run_probe(const probe_settings &given) {
  auto settings = given;
  if (settings.timeout.count() == 0) {
    complain("probe", "--timeout: '0' would wait for ever; say 500ms, 30s or 2m");
    return status::usage;
  }
  if (settings.insecure)
    settings.tls.verify = chorus::tls_verify::insecure_accept_any_certificate;
  const auto where = chorus::url::parse(settings.url);
  if (!where) {
    complain("probe", sentence_of(where.error()));
    return status::usage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  settings.url = without_query(*where);
  probe_report report(settings);
  examination all(settings, report, *where, given.url);
  auto outcome = status::failed;
  chorus::runtime rt;
  rt.run(probe_main(all, outcome));
  if (std::ferror(stdout) != 0 && outcome == status::ok) {
    complain("probe", "writing to standard output failed");
    return status::failed;
  }
  return outcome;
}

} // namespace cli
