#pragma once
#include "cancellable.hpp"
#include "support.hpp"

#include <chorus/transport/memory_stream.hpp>
#include <chorus/transport/tls.hpp>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

namespace chorus::test {

using transport::io_result;
using transport::make_memory_pair;
using transport::memory_stream;
using transport::ready_read;
using transport::ready_write;
using transport::tls_context;

// Fresh certificates, made once per run.
class certificates {
public:
  static std::string file(const std::string &name) {
    static const certificates all;
    return (all.folder_ / name).string();
  }

private:
  certificates() {
    std::string pattern = (std::filesystem::temp_directory_path() / "chorus-tls-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    folder_ = pattern;
    const auto tests = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
    run("sh '" + (tests / "certs/make_certs.sh").string() + "' '" + pattern + "'");
    // Valid only from the day after tomorrow on, which takes `openssl ca`.
    run("cd '" + pattern +
        "' && : > index && echo 01 > serial && printf '%s\\n' '[ca]' 'default_ca=d' '[d]' "
        "'database=index' 'serial=serial' 'new_certs_dir=.' 'default_md=sha256' 'policy=p' "
        "'x509_extensions=e' '[p]' 'commonName=supplied' '[e]' "
        "'subjectAltName=DNS:localhost' > ca.cnf && "
        "openssl req -new -key server.key -subj /CN=early -out early.csr 2>/dev/null && "
        "openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in early.csr "
        "-out early.pem -notext -startdate $(date -u -d '2 days' +%Y%m%d000000Z) "
        "-enddate $(date -u -d '10 days' +%Y%m%d000000Z) 2>/dev/null && "
        "openssl ec -in server.key -aes128 -passout pass:secret -out locked.key 2>/dev/null");
  }
  ~certificates() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  static void run(const std::string &command) {
    BOOST_REQUIRE_MESSAGE(std::system(command.c_str()) == 0, command);
  }
  std::filesystem::path folder_;
};

inline std::string pem(const std::string &name) { return certificates::file(name + ".pem"); }
inline std::string key(const std::string &name) { return certificates::file(name + ".key"); }

inline tls_options server_options(const std::string &name = "server") {
  tls_options o;
  o.certificate_file = pem(name);
  o.key_file = name == "early" ? key("server") : key(name);
  return o;
}
inline tls_options client_options() {
  tls_options o;
  o.ca_file = pem("ca");
  return o;
}

// Both ends of a TLS connection over memory, and what is below them.
struct tls_pair {
  tls_pair(detail::shard &home, const tls_options &client_with, const tls_options &server_with,
           std::string_view host = "localhost", transport::memory_options memory = {})
      : changed(home) {
    auto [a, b] = make_memory_pair(home, home, memory);
    below_client = a.get();
    below_server = b.get();
    auto cc = transport::make_client_context(client_with);
    BOOST_REQUIRE_MESSAGE(cc.has_value(), cc.error().message());
    auto sc = transport::make_server_context(server_with);
    BOOST_REQUIRE_MESSAGE(sc.has_value(), sc.error().message());
    auto c = transport::make_tls_client_stream(std::move(a), *cc, host);
    BOOST_REQUIRE_MESSAGE(c.has_value(), c.error().message());
    client = std::move(*c);
    auto s = transport::make_tls_server_stream(std::move(b), *sc);
    server = std::move(*s);
  }
  explicit tls_pair(detail::shard &home) : tls_pair(home, client_options(), server_options()) {}

  // Both handshakes; an error of either is kept. One that fails closes its stream, as users do.
  task<> shake(detail::time_point deadline = patience()) {
    auto one = [](tls_pair &p, bool is_server, detail::time_point until) -> task<> {
      auto &s = is_server ? p.server : p.client;
      auto done = co_await transport::tls_handshake(*s, until);
      if (!done) {
        (is_server ? p.server_error : p.client_error) = done.error();
        s->close(false);
      }
      ++p.finished;
      p.changed.poke();
    };
    asio::co_spawn(client->home().executor(), one(*this, true, deadline),
                   [](std::exception_ptr) {});
    asio::co_spawn(client->home().executor(), one(*this, false, deadline),
                   [](std::exception_ptr) {});
    std::function<bool()> both = [this] { return finished == 2; };
    const bool in_time = co_await changed.until(std::move(both));
    BOOST_REQUIRE(in_time);
  }
  bool open() const { return !client_error && !server_error; }

  condition_point changed;
  memory_stream *below_client = nullptr;
  memory_stream *below_server = nullptr;
  stream_ptr client;
  stream_ptr server;
  std::optional<failure> client_error;
  std::optional<failure> server_error;
  int finished = 0;
};

// Sends and receives at once, as a session does: all by readiness.
class duplex : public detail::ready_listener {
public:
  duplex(stream &s, std::string bytes, std::size_t expected, std::size_t chunk = 64 * 1024)
      : changed(s.home()), stream_(s), bytes_(std::move(bytes)), expected_(expected), into_(chunk) {
    s.listen(this);
    s.set_interest(ready_read | (bytes_.empty() ? 0U : unsigned{ready_write}));
  }
  ~duplex() { stream_.listen(nullptr); }
  void on_ready(unsigned what) noexcept override {
    // One attempt each: whatever is left has to be told again.
    if (what & ready_read) {
      const auto r = stream_.read_some(std::as_writable_bytes(std::span(into_)));
      if (r.status == io_status::ok)
        received.append(into_.data(), r.bytes);
      else if (r.status != io_status::would_block)
        over = r.status;
    }
    if ((what & ready_write) && sent_ < bytes_.size()) {
      const auto r = put(stream_, std::string_view(bytes_).substr(sent_));
      if (r.status == io_status::ok)
        sent_ += r.bytes;
      else if (r.status == io_status::failed)
        over = r.status;
    }
    unsigned wanted = ready_read | (sent_ < bytes_.size() ? unsigned{ready_write} : 0U);
    if (over)
      wanted = 0;
    stream_.set_interest(wanted);
    changed.poke();
  }
  task<bool> all() {
    std::function<bool()> done = [this] {
      return over || (received.size() >= expected_ && sent_ == bytes_.size());
    };
    co_return co_await changed.until(std::move(done));
  }

  std::string received;
  std::optional<io_status> over;
  condition_point changed;

private:
  stream &stream_;
  std::string bytes_;
  std::size_t expected_;
  std::size_t sent_ = 0;
  std::vector<char> into_;
};

} // namespace chorus::test
