#include "script_table.hpp"

#include <algorithm>

namespace cli::script {

namespace {

constexpr std::int64_t most_bytes = std::int64_t{1} << 30;

field connection() {
  return {"connection", kind::text, "The connection's name; \"main\" unless given"};
}
field timeout(std::string_view help) { return {"timeout", kind::duration, help}; }
field port() {
  return {"port", kind::integer, "The port of a host without a scheme", false, 1, 65535};
}
field index(std::string_view help) { return {"index", kind::name, help}; }
field steps(std::string_view help) { return {"steps", kind::steps, help, true}; }
field close_code(std::string_view name, std::string_view help, std::int64_t lowest) {
  return {name, kind::integer, help, false, lowest, 4999};
}

command connect_gate() {
  return {
      verb::connect_gate,
      "connect_gate",
      "Opens a connection: WebSocket by ws:// and wss://, framed TCP by tcp://, tls:// or a host "
      "and "
      "a port",
      {{"host", kind::text, "A URL, a host with \"port\", or host:port", true},
       port(),
       connection(),
       {"headers", kind::headers, "Headers of the upgrade"},
       {"subprotocols", kind::texts, "Subprotocols to offer, best first"},
       timeout("Bound of resolving, connecting, TLS and upgrade together; \"10s\" unless given"),
       {"fails",
        kind::choice,
        "The step passes when the connection fails in this way, and only then",
        false,
        0,
        0,
        {"refused", "tls", "timeout", "protocol", "any"}},
       {"framing",
        kind::choice,
        "How messages are told apart on TCP: by a length of 32 bits unless given",
        false,
        0,
        0,
        {"length32", "lines", "raw"}},
       {"compression", kind::boolean, "Offer permessage-deflate; false unless given"},
       {"ca", kind::text, "Trust these authorities (a PEM file) instead of the system's"},
       {"tls_cert", kind::text, "Client certificate (a PEM file)"},
       {"tls_key", kind::text, "Private key of tls_cert (a PEM file)"},
       {"server_name", kind::text, "The name to verify instead of the URL's host"},
       {"insecure", kind::boolean, "Accept any certificate: no protection, for tests only"},
       {"max_message", kind::size, "Largest message taken from the peer; 16M unless given", false,
        1, most_bytes},
       {"ping_interval", kind::duration, "How often the peer is pinged; \"30s\" unless given"}}};
}

command expect() {
  return {
      verb::expect,
      "expect",
      "Receives a message, or takes a value, and fails unless it is as said",
      {connection(),
       timeout("How long to wait; \"5s\" unless given"),
       {"value", kind::any, "What to look at instead of the next message"},
       {"equals", kind::any, "The whole text, or the whole value for what is no string"},
       {"contains", kind::text, "A part of the text"},
       {"matches", kind::regex, "A regular expression that fits some part of the text"},
       {"json", kind::any,
        "JSON of which the message has at least these members, with these values"},
       {"hex", kind::hex, "All bytes"},
       {"type", kind::choice, "The kind of the message", false, 0, 0, {"text", "binary"}},
       close_code("close", "No message: the connection ends with this close code", 1000),
       {"nothing", kind::boolean, "true: no message and no close for all of the timeout"},
       {"skip", kind::boolean, "true: messages that do not fit are passed over until one does"}},
      {},
      {{"equals", "contains", "matches", "json", "hex", "type", "close", "nothing"}},
      {{"close", "equals"},     {"close", "contains"},  {"close", "matches"},
       {"close", "json"},       {"close", "hex"},       {"close", "type"},
       {"close", "nothing"},    {"close", "skip"},      {"nothing", "equals"},
       {"nothing", "contains"}, {"nothing", "matches"}, {"nothing", "json"},
       {"nothing", "hex"},      {"nothing", "type"},    {"nothing", "skip"},
       {"value", "close"},      {"value", "nothing"},   {"value", "skip"},
       {"value", "type"},       {"value", "hex"},       {"value", "connection"},
       {"value", "timeout"}}};
}

std::vector<command> make_commands() {
  std::vector<command> all;
  all.push_back(connect_gate());
  all.push_back({verb::send,
                 "send",
                 "Sends a message, and waits until it is with the kernel",
                 {connection(),
                  {"text", kind::text, "A text message"},
                  {"json", kind::any, "A text message with this value as JSON"},
                  {"hex", kind::hex, "A binary message with these bytes"},
                  timeout("How long to wait for room in the queue; \"5s\" unless given")},
                 {{"text", "json", "hex"}}});
  all.push_back({verb::receive,
                 "receive",
                 "Waits for the next message",
                 {connection(),
                  timeout("How long to wait; \"5s\" unless given"),
                  {"as",
                   kind::choice,
                   "What it must be, and what of it is kept",
                   false,
                   0,
                   0,
                   {"text", "json", "hex"}}}});
  all.push_back(expect());
  all.push_back({verb::ping,
                 "ping",
                 "Sends a WebSocket ping and waits for the pong",
                 {connection(), timeout("How long to wait; \"5s\" unless given")}});
  all.push_back({verb::close,
                 "close",
                 "Closes a connection in order, and waits until it is gone",
                 {connection(),
                  close_code("code", "1000 unless given", 1000),
                  {"reason", kind::text, "Up to 123 bytes"},
                  timeout("How long the peer may take to answer; \"5s\" unless given")}});
  all.push_back(
      {verb::wait_closed,
       "wait_closed",
       "Waits until the connection has ended, in any way",
       {connection(), close_code("code", "Fails unless it ended with this close code", 1000),
        timeout("How long to wait; \"5s\" unless given")}});
  all.push_back({verb::reconnect,
                 "reconnect",
                 "Closes the connection if it is open, and opens it again as connect_gate did",
                 {connection(),
                  {"attempts", kind::integer, "How often to try; 1 unless given", false, 1, 1000},
                  {"delay", kind::duration, "Time between attempts; \"500ms\" unless given"},
                  timeout("Bound of each attempt; that of connect_gate unless given")}});
  all.push_back({verb::print,
                 "print",
                 "Prints a line on standard output",
                 {{"message", kind::any, "A string, or any value as JSON", true}}});
  all.push_back({verb::set,
                 "set",
                 "Sets a variable, which is then var[\"name\"]",
                 {{"name", kind::name, "The variable's name", true},
                  {"value", kind::any, "Its value"},
                  {"default", kind::any, "Its value unless it has one, by --set for example"}},
                 {{"value", "default"}}});
  all.push_back({verb::sleep, "sleep", "Waits", {{"duration", kind::duration, "How long", true}}});
  all.push_back({verb::repeat,
                 "repeat",
                 "Runs steps several times, one after another",
                 {{"times", kind::integer, "How often", true, 0, 1'000'000},
                  steps("What to run"),
                  index("The variable that counts from 0; \"i\" unless given")}});
  all.push_back({verb::parallel,
                 "parallel",
                 "Runs several copies of steps at the same time, each with results, variables and "
                 "connections of its own",
                 {{"copies", kind::integer, "How many", true, 1, 10'000},
                  steps("What each copy runs"),
                  index("The variable with the copy's number from 0; \"copy\" unless given")}});
  all.push_back({verb::include,
                 "include",
                 "Runs the steps of another file",
                 {{"file", kind::file, "Its path, relative to this file", true}}});
  return all;
}

} // namespace

const std::vector<command> &commands() {
  static const auto all = make_commands();
  return all;
}

const std::vector<field> &common_fields() {
  static const std::vector<field> all{
      {"cmd", kind::name, "The command", true},
      {"comment", kind::text, "For people to read; shown in progress and reports"},
      {"save", kind::name, "The result is also ret[\"this name\"]"}};
  return all;
}

const command *find_command(std::string_view name) noexcept {
  const auto &all = commands();
  const auto it =
      std::find_if(all.begin(), all.end(), [&](const command &c) { return c.name == name; });
  return it == all.end() ? nullptr : &*it;
}

std::vector<std::string_view> command_names() {
  std::vector<std::string_view> names;
  for (const auto &c : commands())
    names.push_back(c.name);
  return names;
}

const field *command::find(std::string_view wanted) const noexcept {
  for (const auto *some : {&fields, &common_fields()})
    for (const auto &f : *some)
      if (f.name == wanted)
        return &f;
  return nullptr;
}

std::vector<std::string_view> command::field_names() const {
  std::vector<std::string_view> names;
  for (const auto *some : {&fields, &common_fields()})
    for (const auto &f : *some)
      names.push_back(f.name);
  return names;
}

} // namespace cli::script
