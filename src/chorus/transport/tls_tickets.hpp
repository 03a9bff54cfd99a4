#pragma once
// The keys that a server's session tickets are sealed with (RFC 5077 section 4). Who learns one can
// read what was sent early under it and take part in sessions resumed by it, so none is used for long:
// a key seals for `period`, opens for another one, and is wiped then. They are in memory only.

#include <chorus/async/timer_wheel.hpp>

#include <array>
#include <chrono>
#include <mutex>
#include <optional>

namespace chorus::transport {

// May be used from any thread.
class ticket_keys {
public:
  static constexpr std::chrono::hours period{12};

  struct key {
    std::array<unsigned char, 16> name{};
    std::array<unsigned char, 32> cipher{}; // AES-256
    std::array<unsigned char, 32> mac{};    // HMAC-SHA-256
    bool current = false;
    ~key();
  };

  ticket_keys() = default;
  ticket_keys(const ticket_keys &) = delete;
  ticket_keys &operator=(const ticket_keys &) = delete;

  // The one to seal with; nothing when there is no randomness to make one from.
  std::optional<key> sealing(detail::time_point now);
  // The one of that name; nothing when it is unknown or too old.
  std::optional<key> opening(const unsigned char *name, detail::time_point now);
  // The current one only opens from here on; false when there is no randomness for another.
  bool renew(detail::time_point now);

private:
  struct dated {
    key k;
    detail::time_point until{}; // from when on it opens no more
  };
  bool renew_locked(detail::time_point now);
  bool catch_up(detail::time_point now);

  std::mutex mutex_;
  std::optional<dated> current_;
  std::optional<dated> previous_;
};

} // namespace chorus::transport
