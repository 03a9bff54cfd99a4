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
  for (const auto &room : rooms->rooms())
    all.push_back({{"name", room.name}, {"users", room.users}});
  const boost::json::object body{{"rooms", std::move(all)}};
  chorus::response out(boost::json::serialize(body), "application/json");
  out.set("Cache-Control", "no-store");
  out.set("X-Content-Type-Options", "nosniff");
  co_return out;
}

} // namespace

chorus::room_options web_room_options(std::string_view name) { return chat::options_of_room(name); }

void add_web_routes(chorus::server &srv) {
  const auto rooms = std::make_shared<chat>(srv);
  srv.route("/ws/chat/{room}", [rooms](chorus::session s, chorus::request r) {
    return rooms->serve(std::move(s), std::move(r));
  });
  srv.get("/chat/rooms.json", [rooms](chorus::request) { return list_rooms(rooms); });
  serve_stats(srv, "/dashboard/stats.json", rooms);

  serve_asset(srv, "/", "chat.html");
  serve_asset(srv, "/dashboard", "dashboard.html");
  serve_asset(srv, "/chorus.js", "chorus.js");
  for (const auto &file : web_assets())
    if (!file.name.ends_with(".html") && file.name != "chorus.js")
      serve_asset(srv, "/web/" + std::string(file.name), file.name);
}

} // namespace cli
