#pragma once
// `client_group`: named clients over one runtime that are started, sent to and closed together.
//
//   chorus::client_group gates{rt};
//   gates.create("lobby", {.urls = {"wss://a.example/lobby"}});
//   gates.create("arena", {.urls = {"wss://a.example/arena"}});
//   auto opened = co_await gates.connect_all({.concurrency = 16, .jitter = 500ms});
//
// A member starts with the first `connect_all` after its creation. From then on it is a `client` like
// any other and comes back by itself. Members are dealt out over the runtime's shards unless their
// options name one. Verbs may be called from any thread.

#include <chorus/async/runtime.hpp>
#include <chorus/client/client.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace chorus {

namespace detail {
class client_group_core;
}

struct client_outcome {
  std::string name;
  result<> outcome;
};

struct client_standing {
  std::string name;
  client_state state = client_state::disconnected; // also of a member that was never started
};

struct connect_all_options {
  std::size_t concurrency = 32; // members that are being connected at a time; 1 or more
  // Each member starts after a random time of at most so long, once it is its turn.
  std::chrono::milliseconds jitter{0};
  // So many failed attempts are a member's outcome; it goes on trying all the same. 0: a member that
  // is neither open nor ended is waited for.
  unsigned attempts = 1;
  // Members that are not open by then have timed_out as their outcome: those that were started go on,
  // the others stay unstarted. Zero: no deadline.
  std::chrono::milliseconds deadline{0};
};
static_assert(std::is_trivially_destructible_v<connect_all_options>);

struct send_all_options {
  // Members whose outbox is full under overflow::wait are waited for until then; what they have not
  // taken by then they won't send: timed_out. Zero: no deadline.
  std::chrono::milliseconds deadline{0};
};
static_assert(std::is_trivially_destructible_v<send_all_options>);

class client_group {
public:
  explicit client_group(runtime &rt);
  // Aborts every member without blocking, but those that somebody still holds (`find`). Verbs that
  // wait complete; what was not done yet has the outcome `aborted`. From any thread.
  ~client_group();
  client_group(client_group &&) noexcept;
  client_group &operator=(client_group &&) noexcept;

  // Adds a member, not started. Fails with bad_option when there is one of this name, when the name
  // is empty or when `urls` is. What else is wrong with the options is the outcome of connecting it.
  result<> create(std::string name, client_options options);
  // Takes the member out and aborts its client, unless somebody holds that. False: no such member.
  bool erase(std::string_view name);
  // The client of this name; null when there is no such member, or when it has not been started yet.
  // Who holds it keeps it alive. A member that has ended gets a new client when it is started again.
  std::shared_ptr<client> find(std::string_view name) const;
  std::size_t size() const;
  // Sorted by name, as all that follows.
  std::vector<client_standing> states() const;

  // Starts the members that were never started or have ended, hurries those that wait for their next
  // attempt, and completes when each of those that belong to the group at the call is open or has an
  // outcome: why its attempts failed (see `attempts`), why it has ended, bad_option with a sentence,
  // timed_out, not_open (`close_all` meanwhile), or aborted (`erase`, or the group's end, meanwhile).
  // Overlaps with any verb, itself included. Fails with bad_option or shut_down. Cancelling throws, by
  // Asio's own rule: who has not begun is not started, the others go on by themselves.
  task<result<std::vector<client_outcome>>> connect_all(connect_all_options options = {});
  // The same for one member; not_open when there is none of this name.
  task<result<>> connect(std::string_view name);
  // Has every member send the message, now or when it is connected again. Completes when each has taken
  // it or refused: see client::send for why; not_open where the member was not started. One with a full
  // outbox holds nobody else up. Order per member is that of the calls, if each begins after the one
  // before has completed. Cancelling throws, by Asio's own rule; who still waited has queued nothing.
  task<result<std::vector<client_outcome>>> send_all(message m, send_all_options options = {});
  // Closes every member at once, in order: see client::close. Always completes, within the longest of
  // their close_timeouts. They stay members and can be connected again. Who was not started stays so.
  // Fails with shut_down. Cancelling throws, by Asio's own rule, and stops waiting, not closing.
  task<result<std::vector<client_outcome>>> close_all(close_code code = close_code::normal,
                                                      std::string_view reason = {});

private:
  std::shared_ptr<detail::client_group_core> core_;
};

} // namespace chorus
