#pragma once
// The members of a room one by one: what is known of each, and how those that a message is for are
// told from the others.

#include <chorus/session/session.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace chorus {

// Bytes of a user's name.
inline constexpr std::size_t max_user_name = 1024;

namespace detail {
struct member_info {
  std::string user{};
  std::string data{};
  std::chrono::system_clock::time_point joined_at{};
  std::uint64_t listed = UINT64_MAX; // the change of presence as of which it was sent the list
};
} // namespace detail

// One member, as `only` filters see it: valid during the call. Stands for its session, too.
class member {
public:
  member(const chorus::session &s, const detail::member_info &info) noexcept
      : session_(&s), info_(&info) {}

  const chorus::session &session() const noexcept { return *session_; }
  operator const chorus::session &() const noexcept { return *session_; }
  session_id id() const noexcept { return session_->id(); }
  std::string_view user() const noexcept { return info_->user; } // empty: anonymous
  std::string_view data() const noexcept { return info_->data; } // JSON text; empty: none
  std::chrono::system_clock::time_point joined_at() const noexcept { return info_->joined_at; }
  std::chrono::nanoseconds uptime() const noexcept { return session_->uptime(); }
  // A header of the request that began the session; empty when there is none.
  std::string_view header(std::string_view name) const;
  std::string_view user_agent() const { return header("User-Agent"); }

private:
  const chorus::session *session_;
  const detail::member_info *info_;
};

// The same to keep.
struct member_entry {
  session_id id = 0;
  std::string user{};
  std::string data{};
  std::chrono::system_clock::time_point joined_at{};
};

// Who is left out: a session, an id, or a list of ids (copied when the verb is called).
class exclusion {
public:
  exclusion() noexcept = default;
  exclusion(const session &s) noexcept : one_(s.id()) {}
  exclusion(session_id id) noexcept : one_(id) {}
  exclusion(std::span<const session_id> ids) noexcept : many_(ids) {}
  exclusion(const std::vector<session_id> &ids) noexcept : many_(ids) {}

  session_id one() const noexcept { return one_; }
  std::span<const session_id> many() const noexcept { return many_; }

private:
  session_id one_ = 0;
  std::span<const session_id> many_;
};

// Who is meant: a predicate over members (`const member &`) or their sessions (`const session &`), run
// on each member's shard, usually once per member and message. Stored in place, so what it captures
// must be trivially copyable and at most 32 bytes (ids, pointers, views that outlive it). One that
// throws leaves that member out; it is counted in room_stats and told to the server's `on_error`.
class member_filter {
public:
  member_filter() noexcept = default;
  template <class Predicate>
  requires(std::is_trivially_copyable_v<Predicate> && sizeof(Predicate) <= 32 &&
           std::is_invocable_r_v<bool, const Predicate &, const member &>)
      member_filter(Predicate p)
  noexcept {
    ::new (static_cast<void *>(storage_)) Predicate(p);
    call_ = [](const void *f, const member &m) {
      return static_cast<bool>((*static_cast<const Predicate *>(f))(m));
    };
  }
  explicit operator bool() const noexcept { return call_ != nullptr; }
  bool operator()(const member &m) const { return !call_ || call_(storage_, m); }

private:
  alignas(std::max_align_t) unsigned char storage_[32] = {};
  bool (*call_)(const void *, const member &) = nullptr;
};

} // namespace chorus
