// Through tinyproxy and microsocks as Debian ships them.

#include "attempt.hpp"

#include <chorus/transport/descriptor.hpp>

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace client_test;

namespace {

// A port that stays this test's until the proxy listens there: both allow the address to be used again.
class reserved_port {
public:
  reserved_port() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    BOOST_REQUIRE_EQUAL(::bind(socket_.get(), reinterpret_cast<sockaddr *>(&a), size), 0);
    BOOST_REQUIRE_EQUAL(::getsockname(socket_.get(), reinterpret_cast<sockaddr *>(&a), &size), 0);
    number_ = ntohs(a.sin_port);
  }
  std::string text() const { return std::to_string(number_); }
  unsigned short number() const { return number_; }

private:
  chorus::transport::descriptor socket_;
  unsigned short number_ = 0;
};

// Ends with the object, and with whoever started it, however that ends.
class process {
public:
  explicit process(std::vector<std::string> command) {
    std::vector<char *> argv;
    for (auto &word : command)
      argv.push_back(word.data());
    argv.push_back(nullptr);
    const auto parent = ::getpid();
    pid_ = ::fork();
    if (pid_ != 0)
      return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) // gone before that
      ::_exit(127);
    const int nowhere = ::open("/dev/null", O_WRONLY);
    for (const int fd : {1, 2})
      ::dup2(nowhere, fd);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~process() {
    if (!running())
      return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  process(const process &) = delete;
  process &operator=(const process &) = delete;
  bool running() noexcept {
    if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) != 0)
      pid_ = -1; // reaped: the number may be another's now
    return pid_ > 0;
  }

private:
  pid_t pid_ = -1;
};

std::string path_of(const std::string &program) {
  std::string path;
  for (const auto *folder : {"/usr/bin/", "/usr/sbin/", "/usr/local/bin/"})
    if (path.empty() && std::filesystem::exists(folder + program))
      path = folder + program;
  BOOST_REQUIRE_MESSAGE(!path.empty(), program << " is not installed; ./run test installs it");
  return path;
}

class scratch {
public:
  scratch() {
    auto pattern = (std::filesystem::temp_directory_path() / "chorus-proxy-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    folder_ = pattern;
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string operator/(const char *name) const { return (folder_ / name).string(); }

private:
  std::filesystem::path folder_;
};

// Until somebody accepts there; false when the proxy has ended instead.
task<bool> listens(process &p, unsigned short port) {
  const auto executor = co_await asio::this_coro::executor;
  for (bool up = false; !up;) {
    tcp::socket s(executor);
    boost::system::error_code ec;
    co_await s.async_connect({asio::ip::address_v4::loopback(), port},
                             asio::redirect_error(asio::use_awaitable, ec));
    up = !ec;
    const bool alive = p.running();
    if (!alive)
      co_return false;
    if (!up)
      co_await chorus::sleep(5ms);
  }
  co_return true;
}

task<result<chorus::session>> reach(std::string url, std::string proxy) {
  connect_options o;
  o.proxy = proxy;
  auto connecting = connect(url, o);
  auto reached = co_await std::move(connecting);
  co_return reached;
}

// A message to and fro through `proxy`; then what it says to a wrong password.
task<> try_out(world &here, std::string scheme, unsigned short port, unsigned status) {
  const auto where = "127.0.0.1:" + std::to_string(port);
  listener l(here);
  attempt a(here.rt.executor(), reach(l.url("/through"), scheme + "me:secret@" + where));
  auto p = co_await l.accept();
  const auto head = co_await p.upgrade(peer::text("hello"));
  BOOST_TEST(head.find("GET /through ") == 0U);
  auto s = co_await a.get();
  BOOST_REQUIRE_MESSAGE(s.has_value(), (s ? "" : s.error().message()));
  BOOST_TEST(s->remote_address() == where);
  const auto got = co_await s->receive();
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(got->text() == "hello");
  BOOST_TEST((co_await s->send("back")).has_value());
  const auto f = co_await p.read_frame();
  BOOST_REQUIRE(f.has_value());
  BOOST_TEST(f->payload == "back");
  s->abort();

  attempt wrong(here.rt.executor(), reach(l.url(), scheme + "me:guess@" + where));
  const auto no = co_await wrong.get();
  BOOST_REQUIRE(!no.has_value());
  BOOST_TEST_INFO(no.error().message());
  BOOST_CHECK(no.error() == error::proxy_refused);
  BOOST_TEST(no.error().detail().status == status);

  dead_port dead(here);
  attempt nobody(here.rt.executor(), reach(dead.url(), scheme + "me:secret@" + where));
  const auto none = co_await nobody.get();
  BOOST_REQUIRE(!none.has_value());
  BOOST_TEST_INFO(none.error().message());
  BOOST_CHECK(none.error() == error::proxy_refused);
}

} // namespace

BOOST_AUTO_TEST_SUITE(real_proxies)

BOOST_AUTO_TEST_CASE(tinyproxy) {
  world w;
  w.run([](world &here) -> task<> {
    const reserved_port port;
    const scratch folder;
    const auto config = folder / "tinyproxy.conf";
    std::ofstream(config) << "Port " << port.text() << "\nListen 127.0.0.1\nAllow 127.0.0.1\n"
                          << "Timeout 60\nMaxClients 10\nBasicAuth me secret\n";
    process proxy({path_of("tinyproxy"), "-d", "-c", config});
    const bool up = co_await listens(proxy, port.number());
    BOOST_REQUIRE(up);
    co_await try_out(here, "http://", port.number(), 401);
  }(w));
}

BOOST_AUTO_TEST_CASE(microsocks) {
  world w;
  w.run([](world &here) -> task<> {
    const reserved_port port;
    process proxy(
        {path_of("microsocks"), "-i", "127.0.0.1", "-p", port.text(), "-u", "me", "-P", "secret"});
    const bool up = co_await listens(proxy, port.number());
    BOOST_REQUIRE(up);
    co_await try_out(here, "socks5://", port.number(), 0);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
