#pragma once
// A connection while it speaks HTTP. The coroutine and all it holds are gone once a session is open:
// an idle session keeps its own state, its request and its handler, nothing of the handshake.

#include <chorus/server/authorize.hpp>
#include <chorus/server/pages.hpp>
#include <chorus/server/server_shard.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace chorus::detail {

inline constexpr std::string_view stopping_sentence =
    "This server is stopping; try again elsewhere or later.";

class http_connection {
public:
  http_connection(server_shard &owner, http_visit &visit,
                  std::unique_ptr<transport::stream> carrier)
      : owner_(owner), setup_(*owner.setup()), visit_(visit), carrier_(std::move(carrier)),
        reader_({.max_header_bytes = setup_.options.max_header_bytes,
                 .max_body = setup_.options.max_body_bytes}) {}

  task<> run();

private:
  task<bool> read_proxy_header();
  task<bool> secure();
  std::string client_of(const http_head &head) const {
    const auto fields = head.fields();
    return client_behind(peer_, fields, setup_.proxies);
  }
  task<request_arrival> read_request(bool first);
  task<request_arrival> read_past_body();
  // connection_upgrade.cpp
  task<> upgrade(http_head head);
  bool origin_passes(const http_head &head) const;
  void open_session(http_head head, route_match match, std::string remote, session_setup &made,
                    const chorus::admission &admitted, std::string_view lacking);
  std::unique_ptr<session_terms> make_terms(const chorus::admission &admitted);
  // connection_authorise.cpp
  enum class hook_wait : unsigned char { over, late, gone, interrupted };
  task<std::optional<chorus::admission>> authorise(const http_head &head, const route_match &match);
  task<hook_wait> await_hook(std::shared_ptr<hook_run> run);
  task<> end_hook(std::shared_ptr<hook_run> run, hook_wait why, const http_head &head,
                  const std::string &pattern);
  task<> hook_failed(std::string why, const http_head &head, const std::string &pattern);
  bool read_ahead() noexcept;
  void complain(const std::string &what, const http_head &head);
  // connection.cpp
  task<bool> answer_page(http_head head);
  task<bool> write(std::string text);
  task<bool> claim_place(std::string user, session &ousted);
  void oust(session s) noexcept;
  // Says why, and waits a little for the peer to read it and go.
  task<> refuse(std::string text);
  void say_at_once(std::string_view text) noexcept;
  void set_deadline() noexcept {
    deadline_ = owner_.home().now() + setup_.options.handshake_timeout;
  }
  // Status 101: it is upgraded, and then closed. An empty target: no request was read.
  void refused(refusal why, unsigned status, std::string_view target = {}) noexcept {
    owner_.refused(why, status, visit_.id, carrier_.get(), target);
  }
  void failed(std::string_view why) noexcept;

  server_shard &owner_;
  server_setup &setup_;
  http_visit &visit_;
  std::unique_ptr<transport::stream> carrier_;
  http_reader reader_;
  std::shared_ptr<const tls_info> tls_; // once the handshake is done
  time_point deadline_{};
  connection_permit permit_;
  std::string peer_;  // whose connection it is, as far as that can be known without a request
  std::string early_; // of a peer that did not wait for the answer to its upgrade
  std::size_t requests_ = 0;
};

} // namespace chorus::detail
