#include <chorus/json/rpc.hpp>

#include <chorus/json/rpc_core.hpp>
#include <chorus/session/session_core.hpp>
#include <chorus/session/verbs.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include <optional>

namespace chorus {

namespace asio = boost::asio;
namespace json = boost::json;

using detail::rpc_channel;
using detail::rpc_core;

namespace {

class session_channel final : public rpc_channel {
public:
  explicit session_channel(session s)
      : session_(std::move(s)), home_(session_.core()->home_ptr()) {}

  const std::shared_ptr<detail::shard> &home() const noexcept override { return home_; }
  void attach(const std::shared_ptr<rpc_core> &to) override {
    auto end = [to, stop = stop_](const std::exception_ptr &e) {
      if (e && !to->over())
        std::rethrow_exception(e);
    };
    asio::co_spawn(home_->executor(), read(to, session_),
                   asio::bind_cancellation_slot(stop_->slot(), std::move(end)));
  }
  void detach() noexcept override {
    const auto keep = stop_;
    keep->emit(asio::cancellation_type::terminal);
  }
  result<> try_send(const message &m) override { return session_.try_send(m); }
  task<result<>> send(message m) override { return session_.send(std::move(m)); }
  void give_up_on_peer() noexcept override {
    session_.start_close(close_code::try_again_later, "answers not read");
  }

private:
  // `receive` takes nothing when it is cancelled, so whoever reads the session next misses nothing.
  static task<> read(std::shared_ptr<rpc_core> core, session s) {
    while (!core->over()) {
      auto m = co_await s.receive();
      if (m.has_error()) {
        core->on_ended(m.error());
        break;
      }
      core->on_message(*m);
    }
  }

  session session_;
  std::shared_ptr<detail::shard> home_;
  std::shared_ptr<asio::cancellation_signal> stop_ = std::make_shared<asio::cancellation_signal>();
};

failure no_peer() { return failure(error::not_open, stage::none, "this handle names no rpc"); }

failure unusable(const json::value &params) {
  const json::string_view kind = json::to_string(params.kind());
  return failure(error::bad_option, stage::configure,
                 "params of JSON-RPC are an array or an object, not a " +
                     std::string(kind.data(), kind.size()) + "; wrap it in an array");
}

bool usable(const json::value &params) noexcept {
  return params.is_null() || params.is_structured();
}

task<result<json::value>> single(task<result<detail::rpc_outcomes>> work) {
  auto all = co_await std::move(work);
  if (all.has_error())
    co_return all.error();
  co_return std::move(all->front());
}

// What keeps a JSON object from being a request to send.
std::optional<failure> not_a_call(const json::object &call) {
  const auto bad = [](std::string why) {
    return failure(error::bad_option, stage::configure, std::move(why));
  };
  const auto *method = call.if_contains("method");
  if (!method || !method->is_string())
    return bad(
        R"(a request is an object with the name of a method: {"method": "...", "params": ...})");
  for (const auto &[key, value] : call)
    if (key == "id")
      return bad("leave out \"id\": requests get their ids when they are sent");
    else if (key == "jsonrpc" && value != "2.0")
      return bad("only JSON-RPC \"2.0\" is spoken");
    else if (key != "method" && key != "params" && key != "jsonrpc")
      return bad("a request of JSON-RPC has no member \"" + std::string(key) + "\"");
  return std::nullopt;
}

task<failure> just(failure f) { co_return f; }

} // namespace

const json::object &detail::call_of(const json::value &call) noexcept {
  static const json::object none;
  const auto *object = call.if_object();
  return object ? *object : none;
}

std::size_t rpc_batch::request(std::string_view method, const json::value &params) {
  entries_.push_back({std::string(method), params, true});
  return requests_++;
}

void rpc_batch::notify(std::string_view method, const json::value &params) {
  entries_.push_back({std::string(method), params, false});
}

rpc rpc::over(std::unique_ptr<rpc_channel> channel, rpc_methods methods, rpc_options options) {
  // All handles share a token whose end means that nobody uses this rpc any more.
  struct token {
    explicit token(std::shared_ptr<rpc_core> c) noexcept : core(std::move(c)) {}
    token(const token &) = delete;
    token &operator=(const token &) = delete;
    ~token() { core->stop(); }
    std::shared_ptr<rpc_core> core;
  };
  auto core = std::make_shared<rpc_core>(std::move(channel), methods, std::move(options));
  auto shared = std::make_shared<token>(core);
  core->start();
  return rpc(std::shared_ptr<rpc_core>(std::move(shared), core.get()));
}

rpc::rpc(session s, rpc_methods methods, rpc_options options) {
  if (s)
    *this = over(std::make_unique<session_channel>(std::move(s)), std::move(methods),
                 std::move(options));
}

task<result<json::value>> rpc::request(const json::object &call, rpc_request_options options) {
  if (auto why = not_a_call(call))
    return detail::failed<json::value>(std::move(*why));
  const auto *params = call.if_contains("params");
  return request(call.at("method").as_string(), params ? *params : json::value(), options);
}

task<result<json::value>> rpc::request(std::string_view method, const json::value &params,
                                       rpc_request_options options) {
  if (!core_)
    return detail::failed<json::value>(no_peer());
  if (!usable(params))
    return detail::failed<json::value>(unusable(params));
  const auto id = core_->take_ids(1);
  return single(
      rpc_core::request(core_, message(detail::request_text(method, params, id)), id, 1, options));
}

task<result<std::vector<result<json::value>>>> rpc::request(rpc_batch batch,
                                                            rpc_request_options options) {
  using outcomes = detail::rpc_outcomes;
  if (!core_)
    return detail::failed<outcomes>(no_peer());
  if (batch.empty())
    return detail::failed<outcomes>(failure(error::bad_option, stage::configure,
                                            "an empty batch is no request; add one first"));
  const auto first = core_->take_ids(batch.requests());
  auto id = first;
  std::string text;
  for (const auto &e : batch.entries_) {
    if (!usable(e.params))
      return detail::failed<outcomes>(unusable(e.params));
    text += text.empty() ? '[' : ',';
    text += e.wants_answer ? detail::request_text(e.method, e.params, id++)
                           : detail::notification_text(e.method, e.params);
  }
  return rpc_core::request(core_, message(text += ']'), first, batch.requests(), options);
}

task<result<>> rpc::notify(std::string_view method, const json::value &params) {
  if (!core_)
    return detail::failed<void>(no_peer());
  if (!usable(params))
    return detail::failed<void>(unusable(params));
  return rpc_core::notify(core_, message(detail::notification_text(method, params)));
}

task<failure> rpc::ended() { return core_ ? rpc_core::ended(core_) : just(no_peer()); }

void rpc::stop() {
  if (core_)
    core_->stop();
}

rpc_stats rpc::stats() const { return core_ ? core_->stats() : rpc_stats(); }

rpc rpc_call::peer() const { return rpc(core_); }

bool rpc_methods::contains(std::string_view name) const {
  return table_ && table_->contains(std::string(name));
}

rpc_methods &rpc_methods::put(std::string_view name, detail::rpc_method method) {
  if (!table_)
    table_ = std::make_shared<detail::rpc_table>();
  else if (table_.use_count() != 1)
    table_ = std::make_shared<detail::rpc_table>(*table_);
  (*table_)[std::string(name)] = std::make_shared<const detail::rpc_method>(std::move(method));
  return *this;
}

namespace detail {
failure wrong_params(const failure &why) {
  const auto text = why.message();
  return rpc_failure(rpc_code::invalid_params, make_error_code(rpc_code::invalid_params).message(),
                     json::value(json::string_view(text.data(), text.size())));
}
} // namespace detail

} // namespace chorus
