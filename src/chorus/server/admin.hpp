#pragma once
// The pages that `server::mount_admin` mounts.

#include <chorus/server/router.hpp>
#include <chorus/server/server.hpp>

#include <memory>

namespace chorus::detail {

class server_core;

// Throws std::invalid_argument for a token that is empty or that no client could send.
void add_admin(router &into, std::string_view prefix, std::weak_ptr<server_core> core,
               admin_options options);

// Compares in a time that depends on the length of `given` only.
bool same_secret(std::string_view given, std::string_view secret) noexcept;

} // namespace chorus::detail
