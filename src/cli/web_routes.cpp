#include "web_routes.hpp"

#include "assets.hpp"
#include "chat.hpp"
#include "dashboard.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace cli {

namespace {

chorus::task<chorus::response> list_rooms(std::shared_ptr<chat> rooms) {
  boost::json::array all;
  const auto fullest = co_await rooms->rooms();
  for (const auto &room : fullest)
    all.push_back({{"name", room.name}, {"users", room.users}});
  const boost::json::object body{{"rooms", std::move(all)}};
  chorus::response out(boost::json::serialize(body), "application/json");
  out.set("Cache-Control", "no-store");
  out.set("X-Content-Type-Options", "nosniff");
  co_return out;
}

} // namespace

void add_web_routes(chorus::server &srv, const chat_options &options, const shared_engine &engine) {
  const auto rooms = std::make_shared<chat>(srv, options);
  const auto talk = [rooms](chorus::session s, chorus::request r) {
    return rooms->serve(std::move(s), std::move(r));
  };
  srv.route("/ws/chat/{room}", talk, {.authorize = chat::name_user});
  srv.get("/chat/rooms.json", [rooms](chorus::request) { return list_rooms(rooms); });
  serve_stats(srv, "/dashboard/stats.json", rooms, engine);

  serve_asset(srv, "/", "chat.html");
  serve_asset(srv, "/dashboard", "dashboard.html");
  serve_asset(srv, "/chorus.js", "chorus.js");
  for (const auto &file : web_assets())
    if (!file.name.ends_with(".html") && file.name != "chorus.js")
      serve_asset(srv, "/web/" + std::string(file.name), file.name);
}

} // namespace cli
