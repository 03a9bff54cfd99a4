#include "link.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace load {

long link::receive_some(std::vector<std::uint8_t> &shared) {
  if (state_ != link_state::open)
    return 0;
  const ssize_t n = ::recv(fd_, shared.data(), shared.size(), 0);
  if (n > 0)
    return n;
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return 0;
  if (n == 0) {
    state_ = link_state::ended;
    why_ = "the server closed the connection without a close frame";
  } else {
    fail(std::string{"receive: "} + std::strerror(errno));
  }
  return 0;
}

bool link::take_header() {
  const unsigned opcode = head_[0] & 15;
  const bool final = head_[0] & 0x80;
  std::uint64_t length = head_[1] & 127;
  if (length == 126) {
    length = static_cast<std::uint64_t>(head_[2]) << 8 | head_[3];
  } else if (length == 127) {
    length = 0;
    for (unsigned i = 2; i < 10; ++i)
      length = length << 8 | head_[i];
  }
  if (head_[1] & 0x80)
    fail("a masked frame from the server");
  else if (head_[0] & 0x70)
    fail("a frame with reserved bits that nobody negotiated");
  else if (opcode >= 8 && (length > 125 || !final || opcode > 10))
    fail("a bad control frame");
  else if (opcode > 2 && opcode < 8)
    fail("a frame with a reserved opcode");
  else if (opcode == 0 && !in_message_)
    fail("a continuation of nothing");
  else if ((opcode == 1 || opcode == 2) && in_message_)
    fail("a message within a message");
  if (state_ != link_state::open)
    return false;
  in_payload_ = true;
  left_ = length;
  if (opcode >= 8) {
    at_ = 0;
  } else if (opcode == 0) {
    at_ = message_at_;
  } else {
    at_ = message_at_ = 0;
    in_message_ = true;
    intact_ = true;
    std::memset(tag_, 0, sizeof tag_);
    kind_ = static_cast<std::uint8_t>(opcode);
  }
  return true;
}

void link::chunk(const std::uint8_t *p, std::size_t n, const payload &expected) {
  if (head_[0] & 8) {
    std::memcpy(control_ + at_, p, n);
  } else {
    if (kind_ != (expected.text() ? 1 : 2) || !expected.body_matches(p, n, at_))
      intact_ = false;
    if (at_ < tag_size) {
      const auto k = std::min<std::size_t>(n, tag_size - static_cast<std::size_t>(at_));
      std::memcpy(tag_ + at_, p, k);
    }
  }
  at_ += n;
}

void link::control_ended() {
  const unsigned opcode = head_[0] & 15;
  if (opcode == 8) {
    state_ = link_state::closed_by_frame;
    close_code_ = at_ >= 2 ? control_[0] << 8 | control_[1] : 1005;
    why_ = "the server closed with " + std::to_string(close_code_);
    if (at_ > 2)
      why_.append(": ").append(reinterpret_cast<const char *>(control_) + 2, at_ - 2);
  } else if (opcode == 9) {
    // A zero mask is legal and saves the work. It goes behind what is unfinished already.
    std::uint8_t pong[6 + 125] = {0x8a, static_cast<std::uint8_t>(0x80 | at_)};
    std::memcpy(pong + 6, control_, at_);
    rest_.insert(rest_.end(), pong, pong + 6 + at_);
    flush_rest();
  }
}

void link::judge(std::uint64_t tag, bool intact, const payload &expected, tally &sum) {
  ++sum.messages;
  sum.bytes += expected.size();
  const std::uint64_t wanted = make_tag(sender_, next_);
  if (intact && ((tag ^ wanted) & expected.tag_bits()) == 0) {
    next_ = (next_ + 1) & sequence_mask;
    return;
  }
  constexpr std::uint64_t sender_bits = ~std::uint64_t{0} << 40;
  if (!intact || expected.tag_bytes() < tag_size || ((tag ^ wanted) & sender_bits) != 0) {
    ++sum.corrupted;
    next_ = (next_ + 1) & sequence_mask;
    return;
  }
  const std::uint32_t ahead = (tag_sequence(tag) - next_) & sequence_mask;
  if (ahead < (sequence_mask >> 1)) {
    sum.lost += ahead;
    next_ = (next_ + ahead + 1) & sequence_mask;
  } else {
    ++sum.disordered;
  }
}

std::uint32_t link::send(std::vector<std::uint8_t> &scratch, const payload &what,
                         std::uint32_t sender, std::uint32_t first, std::uint32_t count) {
  constexpr std::size_t batch_bytes = 256 * 1024;
  const std::size_t frame = what.frame_size();
  const auto batch = static_cast<std::uint32_t>(std::max<std::size_t>(1, batch_bytes / frame));
  std::uint32_t begun = 0;
  while (begun < count && rest_.empty() && state_ == link_state::open) {
    const std::uint32_t k = std::min(batch, count - begun);
    if (scratch.size() < k * frame)
      scratch.resize(k * frame);
    for (std::uint32_t i = 0; i < k; ++i)
      what.write_frame(scratch.data() + i * frame, make_tag(sender, first + begun + i));
    begun += k;
    const std::size_t size = k * frame;
    const ssize_t sent = ::send(fd_, scratch.data(), size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      fail(std::string{"send: "} + std::strerror(errno));
      break;
    }
    const auto done = static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
    if (done < size)
      rest_.assign(scratch.data() + done, scratch.data() + size);
  }
  return begun;
}

void link::flush_rest() {
  while (rest_from_ < rest_.size()) {
    const ssize_t n =
        ::send(fd_, rest_.data() + rest_from_, rest_.size() - rest_from_, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN && errno != EINTR)
        fail(std::string{"send: "} + std::strerror(errno));
      return;
    }
    rest_from_ += static_cast<std::size_t>(n);
  }
  rest_.clear();
  rest_from_ = 0;
}

void link::say_goodbye() {
  if (fd_ < 0)
    return;
  if (rest_.empty() && state_ == link_state::open) {
    const std::uint8_t bye[] = {0x88, 0x82, 0, 0, 0, 0, 1000 >> 8, 1000 & 255};
    (void)!::send(fd_, bye, sizeof bye, MSG_NOSIGNAL);
  }
  ::close(fd_);
  fd_ = -1;
}

} // namespace load
