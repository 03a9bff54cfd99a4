#include <chorus/server/server.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/server/admin.hpp>
#include <chorus/server/server_core.hpp>
#include <chorus/server/static_files.hpp>

#include <charconv>
#include <stdexcept>

namespace chorus {

namespace {

detail::route_table &routes_of(const detail::server_core &core) {
  if (core.now() != detail::server_core::phase::idle)
    throw std::logic_error("chorus: add routes before the server starts");
  return core.setup()->routes;
}

task<stop_report> stop_server(std::shared_ptr<detail::server_core> core,
                              std::chrono::milliseconds deadline) {
  auto work = detail::server_core::stop(core, deadline);
  const auto done = co_await detail::on_shard(core->conductor(), std::move(work));
  co_return done ? *done : stop_report{};
}

std::string url_of(const detail::server_core &core, const std::string &where) {
  const std::string scheme = core.setup()->options.tls.certificate_file.empty() ? "ws" : "wss";
  if (where.starts_with("unix:"))
    return scheme + "+unix://" + where.substr(5);
  return scheme + "://" + where;
}

task<std::vector<session>> list_sessions(std::shared_ptr<detail::server_core> core) {
  co_return core->sessions();
}

} // namespace

server::server(runtime &rt, server_options options)
    : core_(std::make_shared<detail::server_core>(rt.core(), std::move(options))) {}

server::~server() { core_->abandon(); }

void server::route(std::string_view pattern, handler h, route_options options) {
  routes_of(*core_).everywhere().add(pattern, std::move(h), std::move(options));
}

void server::get(std::string_view pattern, page p) {
  routes_of(*core_).everywhere().add(pattern, "GET", std::move(p));
}

void server::post(std::string_view pattern, page p) {
  routes_of(*core_).everywhere().add(pattern, "POST", std::move(p));
}

void server::put(std::string_view pattern, page p) {
  routes_of(*core_).everywhere().add(pattern, "PUT", std::move(p));
}

void server::patch(std::string_view pattern, page p) {
  routes_of(*core_).everywhere().add(pattern, "PATCH", std::move(p));
}

void server::del(std::string_view pattern, page p) {
  routes_of(*core_).everywhere().add(pattern, "DELETE", std::move(p));
}

void server::files(std::string_view prefix, const std::string &directory, file_options options) {
  detail::add_files(routes_of(*core_).everywhere(), prefix, directory, std::move(options));
}

void server::assets(std::string_view prefix, const std::vector<asset> &assets,
                    file_options options) {
  detail::add_assets(routes_of(*core_).everywhere(), prefix, assets, std::move(options));
}

void server::mount_admin(std::string_view prefix, admin_options options,
                         const mount_options &where) {
  auto &all = routes_of(*core_);
  auto &into = where.host.empty() ? all.everywhere() : all.on(where.host);
  detail::add_admin(into, prefix, core_, std::move(options));
}

void server::mount(std::string_view prefix, routes &&part, const mount_options &options) {
  auto &all = routes_of(*core_);
  auto &into = options.host.empty() ? all.everywhere() : all.on(options.host);
  into.absorb(prefix, std::move(part.table()));
}

task<result<>> server::start() {
  return detail::on_shard(core_->conductor(), detail::server_core::start(core_));
}

task<stop_report> server::stop(std::chrono::milliseconds deadline) {
  return stop_server(core_, deadline);
}

task<result<drain_report>> server::drain(drain_options options) {
  return detail::on_shard(core_->conductor(), detail::server_core::drain(core_, options));
}

task<result<>> server::reload_tls() {
  return detail::on_shard(core_->conductor(), detail::server_core::reload_tls(core_));
}

bool server::ready() const noexcept { return core_->ready(); }

std::uint16_t server::port() const noexcept { return core_->port(); }

std::string server::address() const { return core_->address(); }

std::string server::url() const {
  const std::string &where = core_->address();
  return where.empty() ? where : url_of(*core_, where);
}

std::vector<std::string> server::addresses() const { return core_->addresses(); }

std::vector<std::string> server::urls() const {
  auto all = core_->addresses();
  for (auto &one : all)
    one = url_of(*core_, one);
  return all;
}

chorus::room server::room(std::string_view name) { return core_->setup()->rooms->get(name); }

chorus::room server::everyone() { return core_->setup()->rooms->everyone(); }

chorus::room server::user(std::string_view name) { return core_->setup()->rooms->user(name); }

std::size_t server::send_to_user(std::string_view name, message m, publish_options options) {
  auto &rooms = *core_->setup()->rooms;
  const bool shared = core_->calls() && !name.empty();
  auto connections = shared ? rooms.user(name) : rooms.known_user(name);
  const auto known = connections.size();
  if (known != 0 || shared)
    connections.publish(std::move(m), options);
  return known;
}

session server::find(session_id id) const { return core_->find(id); }

namespace {
task<result<>> unknown_session(session_id id) {
  co_return failure(error::not_open, stage::none,
                    "this server has no open session " + std::to_string(id));
}
} // namespace

task<result<>> server::send_to(session_id id, message m, send_options options) {
  auto found = find(id);
  return found ? found.send(std::move(m), options) : unknown_session(id);
}

std::string server::node() const {
  return core_->calls() ? core_->calls()->node()->name() : std::string();
}

std::string server::id_of(const session &s) const {
  const auto own = node();
  return own.empty() ? std::to_string(s.id()) : own + ":" + std::to_string(s.id());
}

namespace {

task<result<>> bad_id(std::string text) {
  co_return failure(error::bad_option, stage::configure,
                    "\"" + text + "\" names no session: it has to be what server::id_of gave");
}

task<result<std::size_t>> disconnect_everywhere(std::shared_ptr<detail::server_core> core,
                                                std::string user, close_code code,
                                                std::string reason) {
  if (!protocol::valid_on_wire(static_cast<std::uint16_t>(code)))
    co_return failure(error::bad_option, stage::configure,
                      "close code " + std::to_string(static_cast<unsigned>(code)) +
                          " must not be sent (RFC 6455 section 7.4)");
  const auto known = core->setup()->rooms->disconnect_user(user, code, reason);
  if (const auto &calls = core->calls(); calls && !user.empty()) {
    auto work = detail::remote_calls::disconnect(calls, std::move(user), code, std::move(reason));
    const auto told = co_await detail::on_shard<result<>>(calls->node()->home(), std::move(work));
    if (told.has_error())
      co_return told.error();
  }
  co_return known;
}

} // namespace

task<result<>> server::send_to(std::string_view id, message m, send_options options) {
  const auto colon = id.rfind(':');
  const auto digits = id.substr(colon == id.npos ? 0 : colon + 1);
  session_id number = 0;
  const auto *const end = digits.data() + digits.size();
  const auto r = std::from_chars(digits.data(), end, number);
  if (r.ec != std::errc() || r.ptr != end || colon == 0)
    return bad_id(std::string(id));
  const auto where = colon == id.npos ? std::string() : std::string(id.substr(0, colon));
  if (where.empty() || where == node())
    return send_to(number, std::move(m), options);
  const auto &calls = core_->calls();
  if (!calls)
    return unknown_session(number);
  auto letter = std::make_shared<detail::remote_calls::letter>();
  letter->node = where;
  letter->to = number;
  letter->content = std::move(m);
  letter->key = options.key;
  letter->time_to_live = options.time_to_live;
  letter->how = options.lane;
  return detail::on_shard<result<>>(calls->node()->home(),
                                    detail::remote_calls::send(calls, std::move(letter)));
}

task<result<std::size_t>> server::disconnect_user(std::string_view name, close_code code,
                                                  std::string_view reason) {
  return disconnect_everywhere(core_, std::string(name), code, std::string(reason));
}

std::size_t server::size() const noexcept { return core_->open_sessions(); }

task<std::vector<session>> server::sessions() { return list_sessions(core_); }

server_stats server::stats() const { return core_->stats(); }

} // namespace chorus
