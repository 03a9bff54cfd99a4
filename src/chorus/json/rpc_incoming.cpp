#include <chorus/json/rpc_core.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/json/error.hpp>

// What arrives: documents are told apart, answers matched, handlers run.

namespace chorus::detail {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

const char *text_of(const std::exception_ptr &e) noexcept {
  try {
    std::rethrow_exception(e);
  } catch (const std::exception &x) {
    return x.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

} // namespace

void rpc_core::on_published(const message &m) {
  if (over_)
    return;
  ++others_;
  if (options_.on_other)
    [&]() noexcept { options_.on_other(m); }();
}

void rpc_core::on_message(const message &m) {
  if (over_)
    return;
  auto document = parse_json(m.text(), options_.limits);
  if (options_.on_other && (document.has_error() || !is_rpc(*document))) {
    ++others_;
    [&]() noexcept { options_.on_other(m); }();
    return;
  }
  if (document.has_error()) {
    ++malformed_;
    // The peer can see for itself what is wrong with its syntax, but not what is allowed here.
    const auto code = document.error().code();
    const bool limit = code == error::message_too_big || code == json::error::too_deep;
    return answer_now(nullptr, 0,
                      error_text(rpc_code::parse_error, nullptr,
                                 limit ? document.error().message() : std::string()));
  }
  if (auto *batch = document->if_array(); batch && !batch->empty())
    return on_batch(std::move(*batch));
  on_entry(classify(std::move(*document)), nullptr, 0);
}

void rpc_core::on_batch(json::array &&entries) {
  if (entries.size() > options_.max_batch) {
    ++malformed_;
    return answer_now(
        nullptr, 0,
        error_text(rpc_code::invalid_request, nullptr,
                   "a batch has at most " + std::to_string(options_.max_batch) + " entries here"));
  }
  // The array may be answered before the last entry was looked at, if nothing held it open.
  const auto reply = std::make_shared<rpc_reply>();
  reply->parts.resize(entries.size() + 1);
  reply->missing = 1;
  for (std::size_t i = 0; i < entries.size() && !over_; ++i)
    on_entry(classify(std::move(entries[i])), reply, i);
  if (!over_)
    answer_now(reply, entries.size(), std::string());
}

void rpc_core::on_entry(rpc_entry &&entry, const std::shared_ptr<rpc_reply> &reply,
                        std::size_t index) {
  if (entry.kind == rpc_kind::answer)
    return on_answer(std::move(entry));
  const bool notification = entry.kind == rpc_kind::notification;
  if (reply && !notification)
    ++reply->missing;
  if (entry.kind == rpc_kind::invalid) {
    ++malformed_;
    return answer_now(reply, index, error_text(rpc_code::invalid_request, entry.id));
  }
  ++(notification ? notifications_received_ : requests_received_);
  std::shared_ptr<const rpc_method> method;
  if (methods_)
    if (const auto found = methods_->find(entry.method); found != methods_->end())
      method = found->second;
  if (method && running_.size() < options_.max_handlers)
    return run_handler(std::move(method), std::move(entry), reply, index);
  if (method)
    ++refused_;
  if (!notification)
    answer_now(reply, index,
               error_text(method ? rpc_code::busy : rpc_code::method_not_found, entry.id));
}

void rpc_core::on_answer(rpc_entry &&entry) {
  const auto id = own_id(entry.id);
  const auto found = pending_.find(id);
  if (found != pending_.end()) {
    ++answers_;
    const auto at = found->second;
    at.call->settle(at.index, std::move(entry.outcome));
  } else if (id != 0 && id < next_id_.load(std::memory_order_relaxed)) {
    ++answers_late_;
  } else {
    ++answers_stray_;
  }
}

void rpc_core::run_handler(std::shared_ptr<const rpc_method> method, rpc_entry &&entry,
                           const std::shared_ptr<rpc_reply> &reply, std::size_t index) {
  const auto slot = std::make_shared<rpc_running>();
  rpc_call call(std::move(entry.method), std::move(entry.params),
                entry.kind == rpc_kind::notification, shared_from_this());
  running_.insert(slot);
  ++running_now_;
  auto end = [slot](const std::exception_ptr &e) {
    if (e && !slot->cancelled)
      std::rethrow_exception(e);
  };
  asio::co_spawn(home()->executor(),
                 handle(shared_from_this(), slot, std::move(method), std::move(call),
                        std::move(entry.id), reply, index),
                 asio::bind_cancellation_slot(slot->cancel.slot(), std::move(end)));
}

task<> rpc_core::handle(std::shared_ptr<rpc_core> core, std::shared_ptr<rpc_running> slot,
                        std::shared_ptr<const rpc_method> method, rpc_call call, json::value id,
                        std::shared_ptr<rpc_reply> reply, std::size_t index) {
  struct place {
    rpc_core &core;
    const std::shared_ptr<rpc_running> &slot;
    place(rpc_core &c, const std::shared_ptr<rpc_running> &s) noexcept : core(c), slot(s) {}
    ~place() {
      core.running_.erase(slot);
      --core.running_now_;
    }
  };
  place held(*core, slot);
  const bool notification = call.is_notification();
  const auto name = call.method();
  std::string text;
  std::exception_ptr thrown;
  try {
    auto work = (*method)(std::move(call));
    auto outcome = co_await std::move(work);
    if (!notification)
      text = outcome.has_value() ? result_text(*outcome, id) : error_text(outcome.error(), id);
  } catch (...) {
    thrown = std::current_exception();
  }
  if (slot->cancelled || core->over_)
    co_return;
  if (thrown) {
    ++core->handlers_failed_;
    core->report(name, thrown);
    text = error_text(rpc_code::internal_error, id);
  }
  if (notification)
    co_return;
  auto answer = complete(reply, index, std::move(text));
  if (!answer)
    co_return;
  const auto sent = core->channel_->try_send(*answer);
  if (sent || sent.error() != error::queue_full)
    co_return;
  auto waiting = core->channel_->send(std::move(*answer));
  co_await std::move(waiting);
}

void rpc_core::report(std::string_view method, const std::exception_ptr &e) noexcept {
  if (options_.on_error)
    options_.on_error(method, text_of(e));
}

std::optional<message> rpc_core::complete(const std::shared_ptr<rpc_reply> &reply,
                                          std::size_t index, std::string text) {
  if (!reply)
    return message(text);
  reply->parts[index] = std::move(text);
  if (--reply->missing != 0)
    return std::nullopt;
  std::string all;
  for (auto &part : reply->parts)
    if (!part.empty()) {
      all.append(all.empty() ? "[" : ",").append(part);
      part = std::string();
    }
  if (all.empty())
    return std::nullopt; // nothing but notifications
  return message(all += ']');
}

void rpc_core::answer_now(const std::shared_ptr<rpc_reply> &reply, std::size_t index,
                          std::string text) {
  const auto answer = complete(reply, index, std::move(text));
  if (!answer)
    return;
  const auto sent = channel_->try_send(*answer);
  if (!sent && sent.error() == error::queue_full)
    channel_->give_up_on_peer();
}

} // namespace chorus::detail
