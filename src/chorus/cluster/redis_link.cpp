#include <chorus/cluster/redis_link.hpp>

#include <array>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::size_t joined_piece = 16 * 1024; // what is small is copied together up to here
constexpr std::size_t most_pieces = 32;         // of one write
constexpr int reads_of_a_turn = 4;

} // namespace

redis_link::redis_link(std::unique_ptr<transport::stream> stream, user &owner)
    : stream_(std::move(stream)), user_(&owner), heard_(stream_->home().now()) {}

redis_link::~redis_link() { close(); }

void redis_link::begin() {
  stream_->listen(this);
  stream_->set_interest(transport::ready_read);
}

void redis_link::close() noexcept {
  user_ = nullptr;
  if (!stream_)
    return;
  stream_->home().withdraw(*this);
  stream_->listen(nullptr);
  stream_->close(true);
  stream_.reset();
  out_.clear();
}

void redis_link::lose(const failure &why) {
  auto *told = user_;
  close();
  if (told)
    told->on_lost(why);
}

void redis_link::send(std::string_view bytes) {
  if (!stream_ || bytes.empty())
    return;
  given_ += bytes.size();
  if (out_.empty() || out_.back().size() + bytes.size() > joined_piece)
    out_.emplace_back();
  out_.back() += bytes;
  if (!blocked_)
    stream_->home().flush_later(*this);
}

void redis_link::flush_turn() noexcept {
  const auto self = shared_from_this();
  write_out();
}

void redis_link::write_out() {
  while (stream_ && !out_.empty()) {
    std::array<iovec, most_pieces> pieces;
    std::size_t count = 0;
    for (auto &piece : out_) {
      if (count == most_pieces)
        break;
      const auto skipped = count == 0 ? written_ : 0;
      pieces[count++] = {piece.data() + skipped, piece.size() - skipped};
    }
    const auto put = stream_->write_some({pieces.data(), count});
    if (put.status == transport::io_status::failed) {
      const auto why = stream_->why();
      read_now(); // answers that came before the end
      return lose(why);
    }
    if (put.status != transport::io_status::ok) {
      blocked_ = true;
      stream_->set_interest(transport::ready_read | transport::ready_write);
      return;
    }
    taken_ += put.bytes;
    for (auto left = put.bytes; left != 0;) {
      const auto whole = out_.front().size() - written_;
      if (left < whole) {
        written_ += left;
        break;
      }
      left -= whole;
      written_ = 0;
      out_.pop_front();
    }
  }
  if (stream_ && blocked_) {
    blocked_ = false;
    stream_->set_interest(transport::ready_read);
  }
}

void redis_link::read_now() {
  const auto self = shared_from_this();
  for (int turn = 0; turn != reads_of_a_turn && stream_; ++turn) {
    auto &shared = stream_->home().read_buffer();
    const auto got = stream_->read_some(shared.span());
    if (got.status == transport::io_status::would_block)
      return;
    if (got.status == transport::io_status::failed)
      return lose(stream_->why());
    if (got.status == transport::io_status::end)
      return lose(failure(error::lost, stage::open, "Redis closed the connection"));
    heard_ = stream_->home().now();
    reader_.feed({reinterpret_cast<const char *>(shared.data()), got.bytes});
    while (user_) {
      auto next = reader_.next();
      if (!next)
        return lose(next.error());
      if (!*next)
        break;
      user_->on_reply(std::move(**next));
    }
  }
}

void redis_link::on_ready(unsigned what) noexcept {
  const auto self = shared_from_this();
  if ((what & (transport::ready_read | transport::ready_hangup)) != 0)
    read_now();
  if (stream_ && (what & transport::ready_write) != 0)
    write_out();
}

} // namespace chorus::detail
