#pragma once
// The decisions of an upgrade that need no I/O: which origins may connect, which subprotocol is
// spoken, and the text of the answer.

#include <chorus/server/http.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

// Whether a request with this Origin and this Host may open a session (RFC 6455 section 10.2). Its
// own origin is the same host and port, whatever the scheme: TLS may end in front of this server.
bool origin_allowed(std::string_view origin, std::string_view host,
                    std::span<const std::string> allowed) noexcept;

// The first of `supported` that was offered; empty when there is none (RFC 6455 section 4.2.2).
std::string_view choose_subprotocol(std::span<const std::string> supported,
                                    std::span<const std::string_view> offered) noexcept;

// The 101 answer; `subprotocol` and `extensions` may be empty.
std::string write_switching(std::string_view key, std::string_view subprotocol,
                            std::string_view extensions);

} // namespace chorus::detail
