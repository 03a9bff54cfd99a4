#pragma once
// What stands before a membership: what the member brings is checked, and hooks are asked.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/server/room.hpp>

#include <memory>
#include <string>

namespace chorus::detail {

class room_core;

// Copies what the options say; from any thread. Fails with bad_option.
result<member_info> info_of(const room_core &room, const session &s, const join_options &options);
// Fails with bad_option when it is longer than the room takes or no JSON (RFC 8259).
result<> check_member_data(const room_core &room, std::string_view data);

// Asks the server's hook, then the room's; on the session's shard. Fails with join_refused.
task<result<>> ask_to_join(std::shared_ptr<room_core> room, session s, member_info info);

} // namespace chorus::detail
