#include <chorus/transport/tls_tickets.hpp>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <cstring>

namespace chorus::transport {

namespace {

template <std::size_t N> bool draw(std::array<unsigned char, N> &into) noexcept {
  return RAND_priv_bytes(into.data(), static_cast<int>(into.size())) == 1;
}

} // namespace

ticket_keys::key::~key() {
  OPENSSL_cleanse(cipher.data(), cipher.size());
  OPENSSL_cleanse(mac.data(), mac.size());
}

std::optional<ticket_keys::key> ticket_keys::sealing(detail::time_point now) {
  std::lock_guard lock(mutex_);
  if (!catch_up(now))
    return std::nullopt;
  return current_->k;
}

std::optional<ticket_keys::key> ticket_keys::opening(const unsigned char *name,
                                                     detail::time_point now) {
  std::lock_guard lock(mutex_);
  if (!catch_up(now))
    return std::nullopt;
  for (const auto *one : {&current_, &previous_})
    if (*one && std::memcmp((*one)->k.name.data(), name, (*one)->k.name.size()) == 0)
      return (*one)->k;
  return std::nullopt;
}

bool ticket_keys::renew(detail::time_point now) {
  std::lock_guard lock(mutex_);
  return catch_up(now) && renew_locked(now);
}

bool ticket_keys::renew_locked(detail::time_point now) {
  dated next;
  if (!draw(next.k.name) || !draw(next.k.cipher) || !draw(next.k.mac))
    return false;
  next.k.current = true;
  next.until = now + 2 * period;
  previous_ = current_;
  if (previous_)
    previous_->k.current = false;
  current_ = next;
  return true;
}

// Nobody asks on the hour: what is due is done when somebody asks.
bool ticket_keys::catch_up(detail::time_point now) {
  if (previous_ && now >= previous_->until)
    previous_.reset();
  if (current_ && now >= current_->until)
    current_.reset();
  return (current_ && now < current_->until - period) || renew_locked(now);
}

} // namespace chorus::transport
