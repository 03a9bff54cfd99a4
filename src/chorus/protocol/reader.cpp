#include <chorus/protocol/mask.hpp>
#include <chorus/protocol/reader.hpp>
#include <chorus/protocol/reader_state.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

namespace chorus::protocol {

namespace {

// The smallest read in place that is worth a system call of its own.
constexpr std::size_t min_tail = std::size_t{16} << 10;

} // namespace

static_assert(sizeof(reader) <= 128, "a reader is part of what an idle connection costs");

reader::reader(const reader_options &options)
    : max_message_(options.max_message), max_frame_(options.max_frame),
      max_whole_(std::min(options.max_message, options.max_frame)),
      mask_bit_(options.side == role::server ? 0x80 : 0), check_utf8_(options.check_utf8),
      deflate_(options.deflate != nullptr) {
  if (options.deflate)
    inflater_ = inflater(options.side, *options.deflate);
}
reader::reader(reader &&) noexcept = default;
reader &reader::operator=(reader &&) noexcept = default;
reader::~reader() = default;

event reader::next(std::span<std::byte> &input) {
  // Nearly every frame is whole, unfragmented and short: no state is needed for those.
  std::byte *p = input.data();
  const std::size_t have = input.size();
  if (have < 8 || work_ || stashed_ != 0)
    return next_slow(input);
  const unsigned text = static_cast<unsigned>(p[0]) ^ 0x82U; // 3 for text, 0 for binary
  const unsigned form = static_cast<unsigned>(p[1]) ^ mask_bit_;
  std::size_t header = mask_bit_ ? 6 : 2;
  std::size_t size = form;
  if (form >= 126) {
    size = static_cast<std::size_t>(p[2]) << 8 | static_cast<std::size_t>(p[3]);
    header += 2;
    if (form > 126 || size < 126)
      return next_slow(input);
  }
  if ((text != 3 && text != 0) || size > have - header || size > max_whole_)
    return next_slow(input);

  // Everything is stored before the calls, so that little has to survive them.
  p += header;
  input = {p + size, have - header - size};
  payload_ = p;
  payload_size_ = size;
  kind_ = text ? message_kind::text : message_kind::binary;
  owned_ = false;
  if (mask_bit_) {
    std::uint32_t key;
    std::memcpy(&key, p - sizeof key, sizeof key);
    if (apply_mask_ascii(p, size, key))
      return event::message;
  }
  if (kind_ == message_kind::text && check_utf8_ && !is_valid_utf8(payload()))
    return fail(violation::invalid_utf8);
  return event::message;
}

event reader::next_slow(std::span<std::byte> &input) {
  forget_delivered();
  for (;;) {
    if (stashed_ == ended) {
      work_.reset();
      input = {};
      return event::need_more;
    }
    if (input.empty())
      return event::need_more;
    if (work_ && work_->in_frame) {
      const event e =
          is_control(work_->current.op) ? take_control(work_->current, input) : take_part(input);
      if (e != event::need_more)
        return e;
      continue;
    }

    frame f;
    std::size_t length = 0;
    violation v;
    if (stashed_ == 0) {
      v = read_header(input, f, length);
      if (length != 0)
        input = input.subspan(length);
    } else {
      const std::size_t added = std::min(input.size(), stash_.size() - stashed_);
      std::memcpy(stash_.data() + stashed_, input.data(), added);
      v = read_header(std::span(stash_).first(stashed_ + added), f, length);
      if (length != 0) {
        input = input.subspan(length - stashed_);
        stashed_ = 0;
      } else if (v == violation::none) {
        stashed_ = static_cast<std::uint8_t>(stashed_ + added);
        input = {};
        return event::need_more;
      }
    }
    if (v != violation::none) {
      input = {};
      return fail(v);
    }
    if (length == 0) {
      std::memcpy(stash_.data(), input.data(), input.size());
      stashed_ = static_cast<std::uint8_t>(input.size());
      input = {};
      return event::need_more;
    }

    event e;
    if (is_control(f.op)) {
      e = take_control(f, input);
    } else if (f.fin && f.op != opcode::continuation && f.size <= input.size()) {
      const auto payload = input.first(static_cast<std::size_t>(f.size));
      input = input.subspan(payload.size());
      e = take_whole(f, payload);
    } else {
      auto &w = working();
      w.current = f;
      w.remaining = f.size;
      w.phase = 0;
      w.wire += f.size;
      w.in_frame = true;
      if (!w.in_message) {
        w.in_message = true;
        w.kind = f.op == opcode::text ? message_kind::text : message_kind::binary;
        w.compressed = f.rsv1;
      }
      e = take_part(input);
    }
    if (e != event::need_more)
      return e;
  }
}

// A data message of one frame, whole in the input.
event reader::take_whole(const frame &f, std::span<std::byte> payload) {
  const auto kind = f.op == opcode::text ? message_kind::text : message_kind::binary;
  bool ascii = false;
  if (mask_bit_)
    ascii = apply_mask_ascii(payload.data(), payload.size(), f.key);
  if (f.rsv1)
    return inflate(payload, kind);
  if (kind == message_kind::text && !ascii && check_utf8_ && !is_valid_utf8(payload))
    return fail(violation::invalid_utf8);
  payload_ = payload.data();
  payload_size_ = payload.size();
  kind_ = kind;
  owned_ = false;
  return event::message;
}

// Takes what is there of the current data frame into the assembly, decompressed.
event reader::take_part(std::span<std::byte> &input) {
  auto &w = *work_;
  const std::size_t n =
      static_cast<std::size_t>(std::min<std::uint64_t>(w.remaining, input.size()));
  if (n != 0 && w.compressed) {
    const auto part = input.first(n);
    input = input.subspan(n);
    if (mask_bit_)
      apply_mask(part.data(), n, w.current.key, w.phase);
    w.phase = static_cast<unsigned>((w.phase + n) & 3U);
    w.remaining -= n;
    const bool text = w.kind == message_kind::text && check_utf8_;
    if (const auto v = inflater_.part(part, max_message_, text ? &w.text : nullptr, w.assembly);
        v != violation::none)
      return fail(v);
  } else if (n != 0) {
    std::byte *const to = w.assembly.grow(n);
    if (mask_bit_)
      mask_copy(to, input.data(), n, w.current.key, w.phase);
    else
      std::memcpy(to, input.data(), n);
    w.assembly.advance(n);
    w.phase = static_cast<unsigned>((w.phase + n) & 3U);
    w.remaining -= n;
    input = input.subspan(n);
    if (w.kind == message_kind::text && check_utf8_ && !w.text.feed({to, n}))
      return fail(violation::invalid_utf8);
  }
  return w.remaining == 0 ? end_of_frame() : event::need_more;
}

event reader::end_of_frame() {
  auto &w = *work_;
  w.in_frame = false;
  if (!w.current.fin)
    return event::need_more;
  w.in_message = false;
  const bool text = w.kind == message_kind::text && check_utf8_;
  if (w.compressed)
    if (const auto v = inflater_.finish(max_message_, text ? &w.text : nullptr, w.assembly);
        v != violation::none)
      return fail(v);
  if (text && !w.text.complete())
    return fail(violation::invalid_utf8);
  return deliver_assembled();
}

event reader::deliver_assembled() {
  auto &w = *work_;
  payload_ = w.assembly.data();
  payload_size_ = w.assembly.size();
  kind_ = w.kind;
  owned_ = payload_ != nullptr;
  w.delivered = true;
  return event::message;
}

event reader::inflate(std::span<const std::byte> compressed, message_kind kind) {
  auto &w = working();
  w.kind = kind;
  const bool text = kind == message_kind::text && check_utf8_;
  auto v = inflater_.inflate(compressed, max_message_, text ? &w.text : nullptr, w.assembly);
  if (v == violation::none && text && !w.text.complete())
    v = violation::invalid_utf8;
  return v == violation::none ? deliver_assembled() : fail(v);
}

event reader::take_control(const frame &f, std::span<std::byte> &input) {
  const bool begun = work_ && work_->in_frame;
  const auto size = static_cast<std::size_t>(f.size);
  if (!begun && size <= input.size()) {
    const auto payload = input.first(size);
    input = input.subspan(size);
    if (mask_bit_)
      apply_mask(payload.data(), size, f.key);
    return deliver_control(f.op, payload);
  }
  auto &w = working();
  if (!begun) {
    w.current = f;
    w.in_frame = true;
    w.control_size = 0;
  }
  const std::size_t n = std::min(size - w.control_size, input.size());
  if (n != 0)
    std::memcpy(w.control.data() + w.control_size, input.data(), n);
  w.control_size = static_cast<std::uint8_t>(w.control_size + n);
  input = input.subspan(n);
  if (w.control_size < size)
    return event::need_more;
  w.in_frame = false;
  w.delivered = true;
  if (mask_bit_)
    apply_mask(w.control.data(), size, w.current.key);
  return deliver_control(w.current.op, std::span(w.control).first(size));
}

event reader::deliver_control(opcode op, std::span<std::byte> payload) {
  owned_ = false;
  if (op != opcode::close) {
    payload_ = payload.data();
    payload_size_ = payload.size();
    return op == opcode::ping ? event::ping : event::pong;
  }
  close_code_ = protocol::close_code::no_status;
  if (payload.size() == 1)
    return fail(violation::close_payload_of_one);
  if (!payload.empty()) {
    const auto code = static_cast<std::uint16_t>(detail::big_endian(payload.data(), 2));
    if (!valid_on_wire(code))
      return fail(violation::close_code_invalid);
    payload = payload.subspan(2);
    if (!is_valid_utf8(payload))
      return fail(violation::close_reason_invalid_utf8);
    close_code_ = static_cast<protocol::close_code>(code);
  }
  payload_ = payload.data();
  payload_size_ = payload.size();
  stashed_ = ended;
  inflater_ = inflater(); // no more data will be read
  return event::close;
}

event reader::fail(violation v) noexcept {
  why_ = v;
  stashed_ = ended;
  work_.reset();
  inflater_ = inflater();
  payload_ = nullptr;
  payload_size_ = 0;
  owned_ = false;
  return event::violation;
}

// Called before anything else is read: the previous event's payload ends here. A control frame may
// have come inside a message, which then goes on.
void reader::forget_delivered() noexcept {
  if (!work_ || !work_->delivered)
    return;
  if (work_->in_message)
    work_->delivered = false;
  else
    work_.reset();
}

reader::work &reader::working() {
  if (!work_)
    work_ = std::make_unique<work>();
  return *work_;
}

buffer reader::take_storage() noexcept {
  owned_ = false;
  buffer storage = work_->assembly.take();
  work_.reset();
  return storage;
}

std::span<std::byte> reader::tail() {
  forget_delivered();
  if (!work_ || !work_->in_frame || is_control(work_->current.op) || work_->compressed ||
      work_->remaining < min_direct_read || work_->assembly.size() < min_tail)
    return {};
  auto &w = *work_;
  const auto remaining = static_cast<std::size_t>(w.remaining);
  const std::size_t size = w.assembly.size();
  // Twice what came is the most that may be held, so a buffer grows once it is full.
  if (w.assembly.storage().capacity() <= size)
    w.assembly.grow(std::min(remaining, std::bit_floor(2 * size) - size));
  const std::size_t room = std::min(remaining, w.assembly.storage().capacity() - size);
  if (room < min_tail)
    return {};
  return {w.assembly.data() + size, room};
}

event reader::commit(std::size_t n) {
  auto &w = *work_;
  std::byte *const at = w.assembly.data() + w.assembly.size();
  bool ascii = false;
  if (mask_bit_)
    ascii = apply_mask_ascii(at, n, w.current.key, w.phase);
  w.assembly.advance(n);
  w.phase = static_cast<unsigned>((w.phase + n) & 3U);
  w.remaining -= n;
  if (w.kind == message_kind::text && check_utf8_ && !(ascii && w.text.complete()) &&
      !w.text.feed({at, n}))
    return fail(violation::invalid_utf8);
  return w.remaining == 0 ? end_of_frame() : event::need_more;
}

bool reader::at_boundary() const noexcept {
  return (stashed_ == 0 || stashed_ == ended) &&
         (!work_ || (work_->delivered && !work_->in_message));
}

} // namespace chorus::protocol
