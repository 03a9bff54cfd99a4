#pragma once
// A connection's plain HTTP: one request whose head has been read, its body, its page, the answer.

#include <chorus/server/http.hpp>
#include <chorus/server/server_shard.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace chorus::detail {

enum class request_arrival : unsigned char { request, bad, ended, late };

// Reads until the head or all of a request is there; `progress` is where the reader stands.
task<request_arrival> read_on(server_shard &owner, transport::stream &carrier, http_reader &reader,
                              http_progress progress, time_point deadline);

class page_visit {
public:
  // `last`: no further request is read from this connection. `client`: the address whose request it is.
  // The others outlive the visit.
  page_visit(server_shard &owner, http_visit &visit, transport::stream &carrier,
             http_reader &reader, bool last, std::string client,
             std::shared_ptr<const tls_info> tls) noexcept
      : owner_(owner), setup_(*owner.setup()), visit_(visit), carrier_(carrier), reader_(reader),
        client_(std::move(client)), tls_(std::move(tls)), last_(last) {}

  enum class outcome : unsigned char {
    next, // another request may come
    last, // answered; the connection ends
    gone, // there is nobody to answer
  };
  task<outcome> answer(http_head head);

private:
  // The answer to a request that gets no page; empty when it gets one.
  std::string refusal_of(const http_head &head, const route_match &match, bool keep) const;
  task<outcome> take_body(bool keep_it, bool head_only);
  task<response> make_page(request r, std::shared_ptr<const chorus::detail::route> target,
                           const page_handler *make);
  task<bool> send_response(response page, std::string text, bool head_only);
  void failed(const chorus::detail::route &target, const std::string &why);
  task<bool> send(std::string_view text);
  task<bool> send_piece(std::string_view text, time_point deadline);

  server_shard &owner_;
  server_setup &setup_;
  http_visit &visit_;
  transport::stream &carrier_;
  http_reader &reader_;
  const std::string client_;
  const std::shared_ptr<const tls_info> tls_;
  const bool last_;
};

} // namespace chorus::detail
