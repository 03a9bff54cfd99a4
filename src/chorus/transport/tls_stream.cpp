#include <chorus/transport/tls_stream.hpp>

#include <chorus/transport/tls_pins.hpp>
#include <chorus/transport/waiting.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <new>
#include <stdexcept>

namespace chorus::transport {

namespace {

constexpr std::size_t read_ahead = 64 * 1024;
constexpr std::size_t record_size = 16 * 1024; // plaintext; RFC 8446 section 5.1
// A peer that asks for answers (key updates) and never reads them is not read any more beyond this.
constexpr std::size_t most_pending = 64 * 1024;

tls_stream &owner_of(BIO *bio) noexcept { return *static_cast<tls_stream *>(BIO_get_data(bio)); }

int bio_read(BIO *bio, char *into, int size) noexcept {
  BIO_clear_retry_flags(bio);
  const int n = owner_of(bio).pull(into, size);
  if (n < 0 && !owner_of(bio).below_ended())
    BIO_set_retry_read(bio);
  return n;
}

int bio_write(BIO *bio, const char *from, int size) noexcept {
  BIO_clear_retry_flags(bio);
  return owner_of(bio).push(from, size);
}

long bio_control(BIO *bio, int command, long, void *) noexcept {
  switch (command) {
  case BIO_CTRL_EOF:
    return owner_of(bio).below_ended() ? 1 : 0;
  case BIO_CTRL_FLUSH:
  case BIO_CTRL_PUSH:
  case BIO_CTRL_POP:
    return 1;
  default:
    return 0;
  }
}

struct method {
  method() : native(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "chorus")) {
    if (!native)
      throw std::bad_alloc();
    BIO_meth_set_read(native, bio_read);
    BIO_meth_set_write(native, bio_write);
    BIO_meth_set_ctrl(native, bio_control);
  }
  ~method() { BIO_meth_free(native); }
  BIO_METHOD *native;
};

BIO_METHOD *our_method() {
  static const method m;
  return m.native;
}

bool is_address(const std::string &host) {
  auto *parsed = a2i_IPADDRESS(host.c_str());
  const bool is = parsed != nullptr;
  ASN1_OCTET_STRING_free(parsed);
  return is;
}

} // namespace

tls_stream::tls_stream(std::unique_ptr<stream> below, std::shared_ptr<tls_context> context,
                       std::string name)
    : stream(below->home()), below_(std::move(below)), context_(std::move(context)),
      ssl_(SSL_new(context_->native())), name_(std::move(name)) {
  auto *bio = ssl_ ? BIO_new(our_method()) : nullptr;
  if (!bio) {
    SSL_free(ssl_);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  attach(ssl_, *this);
  if (context_->server()) {
    SSL_set_accept_state(ssl_);
    return;
  }
  SSL_set_connect_state(ssl_);
  const auto remote = below_->remote_address();
  resume_key_ = name_ + '|' + remote.substr(remote.rfind(':') + 1);
  SSL_set_app_data(ssl_, &resume_key_); // for the context's callback
  if (auto *session = context_->take_session(resume_key_)) {
    SSL_set_session(ssl_, session);
    SSL_SESSION_free(session);
  }
  if (name_.empty())
    return;
  const bool literal = is_address(name_);
  if (!literal)
    SSL_set_tlsext_host_name(ssl_, name_.c_str());
  auto *verify = SSL_get0_param(ssl_);
  if (literal) {
    X509_VERIFY_PARAM_set1_ip_asc(verify, name_.c_str());
  } else {
    X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(verify, name_.data(), name_.size());
  }
}

tls_stream::~tls_stream() {
  close(false);
  if (token_)
    *token_ = nullptr;
  SSL_free(ssl_);
}

tls_situation tls_stream::situation() const {
  tls_situation s;
  s.address = below_->remote_address();
  s.name = name_;
  s.server = context_->server();
  s.plain_text = plain_text_;
  s.ended = below_ended_ || write_error_;
  s.below = below_ended_ ? below_->error() : write_error_;
  s.key = wrong_key_;
  s.issuer = bad_issuer_;
  return s;
}

// A TLS peer begins with a record of type handshake or alert (20 to 23 are all there are) and major
// version 3. OpenSSL has half a dozen errors for what else may come.
void tls_stream::look_at_first(const std::byte *bytes, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count && first_seen_ < 2; ++i, ++first_seen_) {
    const auto value = std::to_integer<unsigned>(bytes[i]);
    if (first_seen_ == 0 ? value < 20 || value > 23 : value != 3)
      plain_text_ = true;
  }
}

int tls_stream::pull(char *into, int size) noexcept {
  if (incoming_begin_ == incoming_end_) {
    if (below_ended_)
      return 0;
    if (!incoming_)
      incoming_ = buffer::allocate(read_ahead);
    const auto got = below_->read_some(incoming_.span());
    if (got.status != io_status::ok || got.bytes == 0) {
      incoming_.reset();
      if (got.status != io_status::end && got.status != io_status::failed)
        return -1;
      below_ended_ = true;
      return 0;
    }
    incoming_begin_ = 0;
    incoming_end_ = got.bytes;
    if (first_seen_ < 2)
      look_at_first(incoming_.data(), got.bytes);
  }
  const auto count = std::min(static_cast<std::size_t>(size), incoming_end_ - incoming_begin_);
  std::memcpy(into, incoming_.data() + incoming_begin_, count);
  incoming_begin_ += count;
  return static_cast<int>(count);
}

// Takes everything: what does not go out now waits here.
int tls_stream::push(const char *from, int size) noexcept {
  std::string_view rest(from, static_cast<std::size_t>(size));
  while (!rest.empty() && pending_.empty() && !write_error_) {
    const iovec piece{const_cast<char *>(rest.data()), rest.size()};
    const auto put = below_->write_some({&piece, 1});
    if (put.status == io_status::failed)
      write_error_ = below_->error();
    else if (put.status != io_status::ok)
      break;
    else
      rest.remove_prefix(put.bytes);
  }
  if (!rest.empty() && !write_error_)
    pending_.append(rest);
  return size;
}

io_status tls_stream::give_up(int ssl_error) noexcept {
  if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE)
    return io_status::would_block;
  if (ssl_error == SSL_ERROR_ZERO_RETURN) {
    ended_ = true;
    return io_status::end;
  }
  if (!done_ || !below_ended_)
    return fail(tls_failure(ssl_, situation()));
  const auto below = below_->error();
  return fail(failure(chorus::error::lost, stage::open,
                      below ? below.message()
                            : "the peer ended the connection without a closing handshake"));
}

io_status tls_stream::fail(failure why) noexcept {
  fatal_ = true;
  // The peer's last words explain why it took nothing more, which is often seen first.
  if (!failure_.code() || !why.detail().tls_alert.empty())
    failure_ = std::move(why);
  return io_status::failed;
}

io_status tls_stream::handshake() noexcept {
  if (fatal_)
    return io_status::failed;
  ERR_clear_error();
  const int r = SSL_do_handshake(ssl_);
  done_ = r == 1;
  if (done_ && SSL_session_reused(ssl_) == 1)
    context_->note_resumed();
  auto status = done_ ? io_status::ok : give_up(SSL_get_error(ssl_, r));
  // Nothing more comes of it when this side can't write any more, when the peer does not speak TLS, or
  // says good-bye.
  if (status == io_status::end)
    below_ended_ = true;
  const bool more_to_say = !done_ || !context_->server();
  if (status == io_status::end || (status != io_status::failed && write_error_ && more_to_say) ||
      (status == io_status::would_block && plain_text_))
    status = fail(tls_failure(ssl_, situation()));
  if (incoming_begin_ == incoming_end_)
    incoming_.reset();
  watch_below();
  return status;
}

io_result tls_stream::read_some(std::span<std::byte> into) noexcept {
  if (!done_) {
    const auto status = handshake();
    if (status != io_status::ok)
      return {status, 0};
  }
  std::size_t total = 0;
  auto last = io_status::ok;
  if (pending_.size() - pending_begin_ > most_pending && !flush())
    last = io_status::would_block;
  while (total < into.size() && last == io_status::ok) {
    if (fatal_) {
      last = io_status::failed;
      break;
    }
    ERR_clear_error();
    std::size_t n = 0;
    const int r = SSL_read_ex(ssl_, into.data() + total, into.size() - total, &n);
    if (r == 1)
      total += n;
    else
      last = give_up(SSL_get_error(ssl_, r));
  }
  if (incoming_begin_ == incoming_end_)
    incoming_.reset();
  watch_below();
  tell_later();
  if (total != 0 || into.empty())
    return {io_status::ok, total};
  return {last, 0};
}

// One record of up to 16 KiB from `from`, beginning at an offset in one of the pieces.
bool tls_stream::put_record(std::span<const iovec> from, std::size_t piece, std::size_t offset,
                            std::size_t &taken) noexcept {
  const auto *start = static_cast<const std::byte *>(from[piece].iov_base) + offset;
  auto count = std::min(from[piece].iov_len - offset, record_size);
  buffer joined;
  if (count < record_size && piece + 1 < from.size()) {
    joined = buffer::allocate(record_size);
    std::memcpy(joined.data(), start, count);
    for (auto next = piece + 1; next < from.size() && count < record_size; ++next) {
      const auto more = std::min(from[next].iov_len, record_size - count);
      if (more != 0)
        std::memcpy(joined.data() + count, from[next].iov_base, more);
      count += more;
    }
    start = joined.data();
  }
  taken = 0;
  if (count == 0)
    return true;
  ERR_clear_error();
  const int r = SSL_write_ex(ssl_, start, count, &taken);
  return r == 1 || give_up(SSL_get_error(ssl_, r)) != io_status::failed;
}

io_result tls_stream::write_some(std::span<const iovec> from) noexcept {
  if (!done_) {
    const auto status = handshake();
    if (status != io_status::ok)
      return {status, 0};
  }
  if (!flush())
    return {io_status::would_block, 0};
  std::size_t total = 0;
  std::size_t piece = 0;
  std::size_t offset = 0;
  bool fine = !fatal_;
  if (notify_sent_ && fine && !from.empty()) {
    failure_ = failure(error_code(EPIPE, boost::system::system_category()));
    fine = false;
  }
  while (fine && !write_error_ && pending_.empty() && piece < from.size()) {
    if (offset == from[piece].iov_len) {
      ++piece;
      offset = 0;
      continue;
    }
    std::size_t taken = 0;
    fine = put_record(from, piece, offset, taken);
    if (!fine || taken == 0)
      break;
    total += taken;
    while (taken != 0) {
      const auto step = std::min(taken, from[piece].iov_len - offset);
      taken -= step;
      offset += step;
      if (offset == from[piece].iov_len) {
        ++piece;
        offset = 0;
      }
    }
  }
  if (write_error_ && !failure_.code())
    failure_ = failure(write_error_);
  watch_below();
  if (write_error_ || (!fine && total == 0))
    return {io_status::failed, 0};
  const bool offered = std::any_of(from.begin(), from.end(), [](auto &v) { return v.iov_len; });
  return {total == 0 && offered ? io_status::would_block : io_status::ok, total};
}

void tls_stream::put_close_notify() noexcept {
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool tls_stream::has_decoded() const noexcept { return SSL_pending(ssl_) > 0; }

std::string tls_stream::alpn() const {
  const unsigned char *name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return size == 0 ? std::string() : std::string(reinterpret_cast<const char *>(name), size);
}

result<std::unique_ptr<stream>> make_tls_client_stream(std::unique_ptr<stream> below,
                                                       std::shared_ptr<tls_context> context,
                                                       std::string_view host) {
  std::string name(context->server_name().empty() ? host : context->server_name());
  if (name.ends_with('.'))
    name.pop_back();
  if (name.find(':') != name.npos) // a zone means something to this machine only
    name.resize(std::min(name.find('%'), name.size()));
  if (name.empty() && context->verifies())
    return failure(error::tls_bad_configuration, stage::configure,
                   "there is no host name to verify the server's certificate against; set "
                   "server_name");
  return std::unique_ptr<stream>(
      std::make_unique<tls_stream>(std::move(below), std::move(context), std::move(name)));
}

result<std::unique_ptr<stream>> make_tls_server_stream(std::unique_ptr<stream> below,
                                                       std::shared_ptr<tls_context> context) {
  return std::unique_ptr<stream>(
      std::make_unique<tls_stream>(std::move(below), std::move(context), std::string()));
}

task<result<>> tls_handshake(stream &s, detail::time_point deadline) {
  auto *tls = dynamic_cast<tls_stream *>(&s);
  if (!tls)
    throw std::logic_error("chorus: tls_handshake needs a stream made by make_tls_..._stream");
  for (;;) {
    const auto status = tls->handshake();
    if (status == io_status::ok)
      co_return result<>();
    if (status != io_status::would_block)
      co_return tls->why();
    if (!co_await wait_ready(s, ready_read, deadline))
      co_return tls->late();
  }
}

} // namespace chorus::transport
