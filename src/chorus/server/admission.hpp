#pragma once
// `admission`: what an authorisation hook answers to a request for a session, before the upgrade.
//
//   options.authorize = [](chorus::request r) -> chorus::task<chorus::admission> {
//     const auto user = co_await lookup(r.query_param("token"));
//     if (user.empty())
//       co_return chorus::admission::accept_then_close("sign in first");
//     co_return chorus::admission::accept(user);
//   };
//
// Browsers show scripts nothing of a refused upgrade; a close frame they do show.

#include <chorus/async/task.hpp>
#include <chorus/protocol/close_code.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/response.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

namespace chorus {

namespace detail {

// Whom a hook has let in.
struct identity {
  std::string user;
  std::shared_ptr<const void> data;
  const std::type_info *type = nullptr; // of `data`
};

} // namespace detail

class admission {
public:
  enum class verdict : unsigned char { accepted, refused, closed };

  // Accepts a nobody.
  admission() = default;
  // The session is opened; `user` may be empty.
  static admission accept(std::string user = {});
  // No session: this answer goes out instead of the upgrade. A status that is not 400 to 599 throws
  // std::invalid_argument.
  static admission refuse(unsigned status, std::string body = {});
  static admission refuse(response answer);
  // The upgrade happens, and then the session is closed at once, without a handler. `reason`: UTF-8,
  // cut to 123 bytes. A code that must not be sent (RFC 6455 section 7.4) throws std::invalid_argument.
  static admission accept_then_close(std::string reason,
                                     close_code code = close_code::policy_violation);

  // Of an accepted one: what `request::data<T>()` gives to the handler, constant and shared.
  template <class T> admission &attach(T data) {
    data_ = std::make_shared<const T>(std::move(data));
    type_ = &typeid(T);
    return *this;
  }
  // Of an accepted one: the subprotocol to speak instead of the server's own choice. It must be one
  // that the client has offered.
  admission &subprotocol(std::string name);

  verdict what() const noexcept { return what_; }
  const std::string &user() const noexcept { return user_; }
  const std::string &subprotocol() const noexcept { return subprotocol_; }
  const response &answer() const noexcept { return answer_; }
  const std::string &reason() const noexcept { return reason_; }
  close_code code() const noexcept { return code_; }
  // Null when there is nothing to keep.
  std::unique_ptr<const detail::identity> who() const;

private:
  verdict what_ = verdict::accepted;
  close_code code_ = close_code::policy_violation;
  std::string user_;
  std::string subprotocol_;
  std::string reason_;
  std::shared_ptr<const void> data_;
  const std::type_info *type_ = nullptr;
  response answer_;
};

// Runs on the thread of the connection's shard, before anything is promised to the peer, only for
// requests that could be served otherwise. It is cancelled when the peer goes away, when the handshake
// deadline passes (503) and when the server stops, and must end then: until it does it counts as a
// handshake. One that throws is answered with 500 and told to `on_error`.
using authorize_hook = std::function<task<admission>(request)>;

// Of one route. Owning; members are only ever added at the end.
struct route_options {
  authorize_hook authorize{}; // instead of the server's
};

} // namespace chorus
