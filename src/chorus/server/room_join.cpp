#include <chorus/server/room_join.hpp>

#include <chorus/async/parked.hpp>
#include <chorus/protocol/utf8.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/room_core.hpp>

#include <boost/json/stream_parser.hpp>

namespace chorus::detail {

result<> check_member_data(const room_core &room, std::string_view data) {
  const auto most = room.options().max_member_data;
  if (data.size() > most)
    return failure(error::bad_option, stage::configure,
                   "the member data has " + std::to_string(data.size()) +
                       " bytes; this room takes " + std::to_string(most) +
                       " (room_options::max_member_data)");
  if (data.empty())
    return {};
  boost::json::stream_parser parser;
  boost::json::error_code ec;
  const auto used = parser.write_some(data.data(), data.size(), ec);
  if (!ec && used < data.size())
    ec = boost::json::error::extra_data;
  if (!ec)
    parser.finish(ec);
  if (ec)
    return failure(error::bad_option, stage::configure,
                   "the member data is not valid JSON at byte " + std::to_string(used) + " of " +
                       std::to_string(data.size()) + ": " + ec.message());
  return {};
}

result<member_info> info_of(const room_core &room, const session &s, const join_options &options) {
  if (auto checked = check_member_data(room, options.data); checked.has_error())
    return checked.error();
  if (options.user.size() > max_user_name)
    return failure(error::bad_option, stage::configure,
                   "the member's user name has more than " + std::to_string(max_user_name) +
                       " bytes");
  member_info info;
  info.user = options.user.empty() ? s.user() : std::string(options.user);
  // It is shown to the others in text messages, and one that is no UTF-8 would end their connections.
  if (!protocol::is_valid_utf8(std::as_bytes(std::span(info.user))))
    return failure(error::bad_option, stage::configure, "the member's user name is not UTF-8");
  info.data = options.data;
  return info;
}

namespace {

task<result<>> ask(std::shared_ptr<room_core> room, const join_hook &hook, join_request request) {
  std::string what;
  try {
    auto asking = hook(std::move(request));
    auto answer = co_await std::move(asking);
    if (answer.has_value())
      co_return result<>();
    co_return failure(error::join_refused, stage::open,
                      "the join was refused: " + answer.error().message());
  } catch (const std::exception &x) {
    what = x.what();
  } catch (...) {
    what = "an exception of unknown type";
  }
  const bool cancelled = co_await was_cancelled(); // throws, unless the coroutine asked not to
  if (cancelled)
    co_return failure(error::cancelled);
  room->complain("A join hook of the room " + room->name() + " threw " + what, session());
  co_return failure(error::join_refused, stage::open,
                    "the join was refused: the hook that decides failed");
}

} // namespace

task<result<>> ask_to_join(std::shared_ptr<room_core> room, session s, member_info info) {
  const auto general = room->general_join_hook();
  if (general && *general) {
    join_request request{room->name(), s, info.user, info.data};
    auto asking = ask(room, *general, std::move(request));
    auto answer = co_await std::move(asking);
    if (answer.has_error())
      co_return answer;
  }
  if (room->options().on_join) {
    join_request request{room->name(), s, info.user, info.data};
    auto asking = ask(room, room->options().on_join, std::move(request));
    auto answer = co_await std::move(asking);
    if (answer.has_error())
      co_return answer;
  }
  co_return result<>();
}

} // namespace chorus::detail
