#pragma once
// `routes`: what a server, or a part of one, answers on which path. A value to be filled, moved and
// mounted, so that parts of a service bring their own:
//
//   chorus::routes api;
//   api.get("/users/{id:int}", show_user);
//   api.del("/users/{id:int}", delete_user);
//   srv.mount("/api", std::move(api));
//
// A pattern is a path of segments: literals, or parameters of one whole segment each.
//
//   {name}                    any segment that is not empty
//   {name:int} {name:uint}    decimal digits, with or without a leading '-', of 64 bits; anything else,
//                             one that is too large included, is not on this path (404)
//   {name...} {name:path}     last only: all that is left, slashes included, perhaps nothing
//
// Segment by segment from the left a literal beats int beats uint beats {name} beats the rest. "/a" and
// "/a/" are different paths. Segments are percent-decoded one by one: "%2F" separates none, and does
// not match in a {name...}.

#include <chorus/async/task.hpp>
#include <chorus/server/admission.hpp>
#include <chorus/server/file_options.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/response.hpp>
#include <chorus/session/session.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chorus {

namespace detail {
class router;
}

class routes {
public:
  using handler = std::function<task<>(session, request)>;
  using page = std::function<task<response>(request)>;

  routes();
  routes(routes &&) noexcept;
  routes &operator=(routes &&) noexcept;
  ~routes();

  // All of these throw std::invalid_argument for a malformed pattern, an empty handler, and a pattern
  // that matches the same paths as an earlier one of the same kind and method.
  //
  // Sessions: WebSocket upgrades of the path.
  void route(std::string_view pattern, handler h, route_options options = {});
  // Plain HTTP. `get` serves HEAD, too. OPTIONS is answered with the methods that a path has; another
  // method than those with 405.
  void get(std::string_view pattern, page p);
  void post(std::string_view pattern, page p);
  void put(std::string_view pattern, page p);
  void patch(std::string_view pattern, page p);
  void del(std::string_view pattern, page p); // DELETE

  // The files below `directory`, on the paths below `prefix`: GET and HEAD, entity tags and dates with
  // 304, one byte range (206, 416). Never anything outside: names of dots are not looked up, and a
  // symbolic link that leaves the directory is not followed (before Linux 5.6 none is). A file is read
  // in pieces of 64 KiB as fast as its peer takes them, on the connection's thread: for local disks. What
  // is no regular file is not there (404). Throws std::invalid_argument when there is no such directory.
  void files(std::string_view prefix, const std::string &directory, file_options options = {});
  // The same from memory.
  void assets(std::string_view prefix, const std::vector<asset> &assets, file_options options = {});

  // Takes over `part`, with each of its patterns behind `prefix`, a path that may have parameters, too.
  // The root of a part, "/", is then `prefix` with a final slash.
  void mount(std::string_view prefix, routes &&part);

  // For the server.
  detail::router &table() noexcept { return *table_; }

private:
  std::unique_ptr<detail::router> table_;
};

struct mount_options {
  // Only for requests to this host, a name or an address without a port. What no route of the host
  // serves is looked up among the routes for any host.
  std::string host{};
};

} // namespace chorus
