#include <chorus/cluster/redis_login.hpp>

#include <chorus/base/redact.hpp>
#include <chorus/base/text.hpp>
#include <chorus/cluster/redis_protocol.hpp>

#include <array>
#include <cstdlib>
#include <utility>

namespace chorus::detail {

namespace {

constexpr int oldest_redis = 7; // for SSUBSCRIBE, shebangs and EXPIRE's options

failure at_login(error e, std::string sentence) {
  return failure(e, stage::connect, std::move(sentence));
}

} // namespace

failure redis_refusal(const redis_reply &r, std::string_view command) {
  const auto said = " (" + one_line(r.text, 200) + ")";
  if (r.text.find("max number of clients") != r.text.npos)
    return at_login(error::limit_reached, "Redis has as many clients as its maxclients allows");
  if (is_redis_error(r, "NOAUTH"))
    return at_login(error::auth_refused, "Redis wants a password: write it into the URL, as in "
                                         "redis://:password@host");
  if (is_redis_error(r, "WRONGPASS") || (command == "AUTH" && r.is == redis_reply::type::error))
    return at_login(error::auth_refused, "Redis does not accept the user and password" + said);
  if (is_redis_error(r, "NOPERM"))
    return at_login(error::auth_refused, "this user of Redis may not use " + std::string(command) +
                                             ": its ACL has to allow it" + said);
  if (is_redis_error(r, "LOADING"))
    return at_login(error::not_open, "Redis is still loading its data");
  if (is_redis_error(r, "MASTERDOWN") || is_redis_error(r, "READONLY"))
    return at_login(error::not_open, "this Redis is a replica" + said);
  if (is_redis_error(r, "BUSY"))
    return at_login(error::not_open, "Redis is busy with a script" + said);
  if (r.is == redis_reply::type::error)
    return at_login(error::protocol, "Redis refuses " + std::string(command) + said);
  return at_login(error::protocol, "what answers there is no Redis: its answer to " +
                                       std::string(command) + " is none");
}

redis_login::redis_login(redis_login_options options) : options_(std::move(options)) {
  if (!options_.password.empty())
    ask(step::auth);
  if (!options_.name.empty())
    ask(step::name);
  ask(step::id);
  if (options_.database != 0)
    ask(step::select);
  for (const auto s : {step::info, step::role, step::ping})
    ask(s);
  welcome_.before_ended = options_.before.run.empty();
}

void redis_login::ask(step s) {
  steps_.push_back(s);
  switch (s) {
  case step::auth:
    if (options_.user.empty())
      return write_redis_command(out_, {"AUTH", options_.password});
    return write_redis_command(out_, {"AUTH", options_.user, options_.password});
  case step::name:
    return write_redis_command(out_, {"CLIENT", "SETNAME", options_.name});
  case step::id:
    return write_redis_command(out_, {"CLIENT", "ID"});
  case step::select:
    return write_redis_command(out_, {"SELECT", std::to_string(options_.database)});
  case step::info:
    return write_redis_command(out_, {"INFO", "server"});
  case step::role:
    return write_redis_command(out_, {"ROLE"});
  case step::ping: // refused while it loads, where the others are not
    return write_redis_command(out_, {"PING"});
  case step::end_before:
    return write_redis_command(out_,
                               {"CLIENT", "KILL", "ID", std::to_string(options_.before.number)});
  }
}

failure redis_login::refused(step s, const redis_reply &r) const {
  static constexpr std::array<std::string_view, 8> names{
      "AUTH", "CLIENT SETNAME", "CLIENT ID", "SELECT", "INFO", "ROLE", "PING", "CLIENT KILL"};
  const std::array<std::string_view, 1> secrets{options_.password};
  redis_reply shown = r;
  shown.text = redact_text(r.text, secrets);
  return redis_refusal(shown, names[static_cast<std::size_t>(s)]);
}

result<> redis_login::take_info(std::string_view text) {
  welcome_.id.run = redis_info(text, "run_id");
  welcome_.version = redis_info(text, "redis_version");
  if (welcome_.id.run.empty() || welcome_.version.empty())
    return at_login(error::protocol, "what answers there is no Redis: it names no version");
  if (std::atoi(welcome_.version.c_str()) < oldest_redis)
    return at_login(error::not_open, "this is Redis " + one_line(welcome_.version, 20) +
                                         ", but version 7.0 or later is needed");
  const auto mode = redis_info(text, "redis_mode");
  if (mode == "sentinel")
    return at_login(error::not_open,
                    "this is a Sentinel: write redis+sentinel:// and ?master=name");
  if ((mode == "cluster") != options_.clustered)
    return at_login(error::not_open,
                    options_.clustered
                        ? "this Redis is not in cluster mode: write redis://, or rediss://"
                        : "this is a node of a Redis Cluster: write redis+cluster://");
  if (!options_.before.run.empty() && options_.before.run != welcome_.id.run)
    welcome_.before_ended = true; // with that process, or what it still does is not seen here
  else if (options_.before.number > 0)
    ask(step::end_before);
  return {};
}

result<> redis_login::take(const redis_reply &r) {
  if (done())
    return at_login(error::protocol, "Redis said something that it was not asked");
  using type = redis_reply::type;
  const auto s = steps_[next_];
  bool fine = false;
  switch (s) {
  case step::auth:
  case step::select:
  case step::ping:
    fine = r.is == type::status;
    break;
  case step::name:
    fine = r.is == type::status || is_redis_error(r, "NOPERM"); // it is only shown
    break;
  case step::id:
    fine = r.is == type::number;
    welcome_.id.number = r.number;
    break;
  case step::info:
    if (r.is == type::text) {
      if (auto good = take_info(r.text); !good)
        return good;
      fine = true;
    }
    break;
  case step::role:
    fine = r.is == type::list && !r.items.empty();
    if (fine && r.items.front().text != "master")
      return at_login(error::not_open, "this Redis is a replica, and only a master is of use");
    break;
  case step::end_before: // 0: it has gone already
    fine = true;
    welcome_.before_ended = r.is == type::number;
    break;
  }
  if (!fine)
    return refused(s, r);
  ++next_;
  return {};
}

} // namespace chorus::detail
