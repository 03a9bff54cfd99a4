#pragma once
// Coroutine forms of a stream's readiness, for the phases before a session owns the stream:
// handshakes and HTTP. One waiter at a time.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/stream.hpp>

#include <string_view>

namespace chorus::transport {

// Completes when the stream is ready for what `ready_flags` names (or hung up) with true, or at
// `deadline` with false. Cancelling throws, by Asio's own rule. The stream must stay alive.
task<bool> wait_ready(stream &s, unsigned ready_flags, detail::time_point deadline);

// Reads at least one byte into `into`: the number, 0 at the end of the stream; or the stream's error,
// or `on_deadline`.
task<result<std::size_t>> read_some(stream &s, std::span<std::byte> into,
                                    detail::time_point deadline, error on_deadline);

// Writes all of `bytes`, which must stay valid.
task<result<>> write_all(stream &s, std::string_view bytes, detail::time_point deadline,
                         error on_deadline);

} // namespace chorus::transport
