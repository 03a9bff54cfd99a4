// One `chorus serve` hands its listening sockets to another, with clients connected. Real processes:
//   test_handover [Boost.Test arguments] -- PROGRAM CLIENTS

#include "server_support.hpp"
#include "support/server_process.hpp"

#include <chorus/base/error.hpp>
#include <chorus/client/client.hpp>
#include <chorus/server/handover.hpp>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <poll.h>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <vector>

using namespace server_test;
using chorus::task;

BOOST_AUTO_TEST_SUITE(handover)

namespace {

std::string argument(int number) {
  const auto &suite = boost::unit_test::framework::master_test_suite();
  BOOST_REQUIRE(suite.argc > number);
  return suite.argv[number];
}

class scratch {
public:
  scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "chorus-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~scratch() { std::filesystem::remove_all(path_); }
  std::string file(const std::string &name) const { return (path_ / name).string(); }

private:
  std::filesystem::path path_;
};

// A `chorus serve`, killed at the latest when this goes.
class process {
public:
  process(const std::string &log, std::vector<std::string> arguments) : log_(log) {
    arguments.insert(arguments.begin(), {argument(1), "serve"});
    std::vector<char *> argv;
    for (auto &a : arguments)
      argv.push_back(a.data());
    argv.push_back(nullptr);
    int out[2];
    BOOST_REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    const int err = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(err, STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(out[1]);
    ::close(err);
    output_ = out[0];
    std::string line;
    char c = 0;
    pollfd ready{output_, POLLIN, 0};
    while (::poll(&ready, 1, 60'000) == 1 && ::read(output_, &c, 1) == 1 && c != '\n')
      line += c;
    constexpr std::string_view expected = "listening on ";
    BOOST_REQUIRE_MESSAGE(line.starts_with(expected), line + '\n' + log_text());
    url = line.substr(expected.size());
    url = url.substr(0, url.find(' '));
    port = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }
  ~process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(output_);
  }
  process(const process &) = delete;
  process &operator=(const process &) = delete;

  void signal(int number) { ::kill(pid_, number); }
  // The exit status; 1000 and more for a signal.
  int wait() {
    pollfd end{output_, POLLIN, 0}; // its end closes the pipe
    BOOST_REQUIRE(::poll(&end, 1, 120'000) == 1);
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  std::string log_text() const {
    std::ifstream in(log_);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  // The numbers behind `label` in the log.
  std::vector<std::size_t> numbers(const std::string &label) const {
    const auto text = log_text();
    const auto at = text.rfind(label);
    BOOST_REQUIRE_MESSAGE(at != text.npos, text);
    std::istringstream in(text.substr(at + label.size(), text.find('\n', at) - at - label.size()));
    std::vector<std::size_t> all;
    for (std::size_t n; in >> n;)
      all.push_back(n);
    return all;
  }
  std::size_t number_before(const std::string &label) const {
    const auto text = log_text();
    const auto at = text.rfind(label);
    BOOST_REQUIRE_MESSAGE(at != text.npos && at > 0, text);
    return std::stoul(text.substr(text.rfind(' ', at - 1) + 1));
  }

  std::string url;
  std::uint16_t port = 0;

private:
  std::string log_;
  pid_t pid_ = -1;
  int output_ = -1;
};

void echoes(wire w, const std::string &text) {
  w.send(upgrade_request("/echo"));
  const auto answer = w.read_response();
  BOOST_REQUIRE_MESSAGE(answer.starts_with("HTTP/1.1 101 "), answer);
  w.send(text_frame(text));
  BOOST_TEST(w.read_frame().payload == text);
}

// Connects and asks for a page, again and again: no attempt may fail.
class prober {
public:
  explicit prober(std::uint16_t port) : port_(port), thread_([this] { run(); }) {}
  ~prober() { end(); }
  void end() {
    over_ = true;
    if (thread_.joinable())
      thread_.join();
  }
  std::atomic<std::size_t> attempts{0};
  std::atomic<std::size_t> refused{0}; // at connect
  std::atomic<std::size_t> broken{0};  // without an answer

private:
  void run() {
    for (; !over_; std::this_thread::sleep_for(2ms)) { // the pace
      ++attempts;
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(port_);
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) != 0) {
        ++refused;
      } else {
        constexpr std::string_view ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        (void)::send(fd, ask.data(), ask.size(), MSG_NOSIGNAL);
        std::string answer;
        char bytes[1024];
        for (ssize_t n; (n = ::recv(fd, bytes, sizeof bytes, 0)) > 0;)
          answer.append(bytes, static_cast<std::size_t>(n));
        if (!answer.starts_with("HTTP/1.1 200 "))
          ++broken;
      }
      ::close(fd);
    }
  }
  std::uint16_t port_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// Clients that send numbered messages and count what comes back.
class fleet {
public:
  struct member {
    std::optional<chorus::client> client;
    std::uint64_t sent = 0;
    std::atomic<std::uint64_t> echoed{0};
    std::uint64_t next = 0; // the lowest number that may come
  };

  fleet(running &loop, const std::string &url, std::size_t count) : loop_(loop), members_(count) {
    for (auto &m : members_) {
      chorus::client_options o;
      o.urls = {url};
      o.backoff.initial = 20ms;
      o.connect_timeout = o.upgrade_timeout = 60s;
      o.on_message = [this, &m](const chorus::message &message) {
        const auto number = std::stoull(message.str());
        if (number < m.next)
          ++out_of_order;
        m.next = number + 1;
        ++m.echoed;
      };
      o.on_error = [this](const chorus::failure &why) {
        if (why == chorus::error::upgrade_refused && why.detail().status == 503) {
          ++told_to_wait;
          return;
        }
        ++failed;
        std::lock_guard lock(mutex_);
        last_ = why.message();
      };
      o.on_disconnect = [this](const chorus::failure &why) {
        const bool expected = why == chorus::error::closed && why.detail().close_code == 1012 &&
                              why.detail().close_reason.starts_with("retry-after=");
        ++(expected ? restarted : otherwise);
      };
      m.client.emplace(loop.rt(), std::move(o));
    }
  }

  // One message by every `step`th client, beginning with `first`.
  task<> speak(std::size_t first, std::size_t step) {
    for (std::size_t i = first; i < members_.size(); i += step) {
      auto &m = members_[i];
      if (m.client->try_send(std::to_string(m.sent)))
        ++m.sent;
    }
    co_return;
  }
  std::size_t open(std::uint64_t connects) const {
    std::size_t n = 0;
    for (const auto &m : members_)
      n +=
          m.client->state() == chorus::client_state::open && m.client->stats().connects >= connects;
    return n;
  }
  // One after the other, each with all the time that one may take.
  void close() {
    for (auto &m : members_)
      loop_.wait(m.client->close());
  }
  std::string last() {
    std::lock_guard lock(mutex_);
    return last_;
  }
  std::vector<member> &members() { return members_; }

  std::atomic<std::size_t> failed{0}, told_to_wait{0}, restarted{0}, otherwise{0}, out_of_order{0};

private:
  running &loop_;
  std::vector<member> members_;
  std::mutex mutex_;
  std::string last_;
};

} // namespace

BOOST_AUTO_TEST_CASE(every_client_moves_to_the_new_process) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  const std::size_t count = std::stoul(argument(2));
  const std::size_t rate = count / 4;
  scratch dir;
  const std::vector<std::string> arguments{"--listen",      "127.0.0.1:0",
                                           "--threads",     "2",
                                           "--handover",    dir.file("handover"),
                                           "--drain-rate",  std::to_string(rate),
                                           "--retry-after", "300ms"};
  process old(dir.file("old.log"), arguments);
  struct stat file {};
  BOOST_REQUIRE(::lstat(dir.file("handover").c_str(), &file) == 0);
  BOOST_TEST((file.st_mode & 0777u) == 0600u);

  running loop;
  fleet clients(loop, old.url + "/echo", count);
  BOOST_REQUIRE(comes_true([&] { return clients.open(1) == count; }));
  prober attempts(old.port);
  loop.wait(clients.speak(0, 1));

  process heir(dir.file("new.log"), arguments);
  BOOST_TEST(heir.url == old.url);
  // Messages go on while the clients move, a tenth of the clients at a time.
  std::atomic<bool> moved{false};
  std::thread talk([&] {
    for (std::size_t i = 0; !moved; ++i) {
      loop.wait(clients.speak(i % 10, 10));
      std::this_thread::sleep_for(20ms); // the pace
    }
  });
  BOOST_TEST(old.wait() == 0);
  const bool all_back = comes_true([&] { return clients.open(2) == count; });
  moved = true;
  talk.join();
  BOOST_TEST(all_back);
  attempts.end();

  // No attempt failed, nobody was cut off.
  BOOST_TEST_CONTEXT(clients.last()) { BOOST_TEST(clients.failed == 0u); }
  BOOST_TEST(clients.restarted == count);
  BOOST_TEST(clients.otherwise == 0u);
  BOOST_TEST(attempts.attempts > 0u);
  BOOST_TEST(attempts.refused == 0u);
  BOOST_TEST(attempts.broken == 0u);

  // The pace, by the old server's own clock: the rate, and a tenth of a second to catch up.
  const auto begun = old.numbers("closes per second:");
  std::size_t sum = 0;
  for (const auto n : begun) {
    BOOST_TEST(n <= rate + rate / 10 + 1);
    sum += n;
  }
  BOOST_TEST(sum == count);
  BOOST_TEST(old.number_before(" closed,") == count);
  BOOST_TEST(old.number_before(" aborted;") == 0u);

  // The accounts. What is on the new connection comes back; what had no echo was on the old one, and
  // is counted as unconfirmed.
  const auto settled = [&] {
    for (auto &m : clients.members()) {
      const auto s = m.client->stats();
      if (s.queued_messages != 0 || m.echoed + s.messages_unconfirmed < m.sent)
        return false;
    }
    return true;
  };
  BOOST_TEST(comes_true(settled));
  BOOST_TEST(clients.out_of_order == 0u);
  std::uint64_t sent = 0, echoed = 0, unconfirmed = 0;
  for (auto &m : clients.members()) {
    const auto s = m.client->stats();
    BOOST_TEST(m.echoed <= m.sent);
    BOOST_TEST(s.messages_dropped == 0u);
    sent += m.sent;
    echoed += m.echoed;
    unconfirmed += s.messages_unconfirmed;
  }
  clients.close();
  heir.signal(SIGTERM);
  BOOST_TEST(heir.wait() == 0);
  const auto received =
      old.number_before(" message(s) received") + heir.number_before(" message(s) received");
  BOOST_TEST(received <= sent);
  BOOST_TEST(received + unconfirmed >= sent);
  BOOST_TEST(echoed <= received);
  BOOST_TEST_MESSAGE(sent << " sent, " << received << " received, " << echoed << " echoed, "
                          << unconfirmed << " unconfirmed, " << clients.told_to_wait
                          << " told to wait, " << attempts.attempts << " probes");
}

BOOST_AUTO_TEST_CASE(a_successor_that_dies_before_it_is_ready_costs_nothing) {
  scratch dir;
  const std::vector<std::string> arguments{
      "--listen",  "127.0.0.1:0", "--listen",   "unix:" + dir.file("unix"),
      "--threads", "2",           "--handover", dir.file("handover")};
  process old(dir.file("old.log"), arguments);
  auto session = open_session(old.port, "/echo");
  for (int i = 0; i < 2; ++i) {
    running loop;
    {
      auto heir = loop.wait(chorus::take_over(dir.file("handover")));
      BOOST_REQUIRE_MESSAGE(heir, heir.error().message());
      const auto sockets = heir->listen();
      BOOST_TEST(sockets.size() == 3u); // two of the port, one per thread, and the file
      for (const auto &one : sockets)
        ::close(std::stoi(one.substr(3)));
    }
    echoes(wire(old.port), "still the old one");
  }
  session.send(text_frame("alive"));
  BOOST_TEST(session.read_frame().payload == "alive");
  // The next one succeeds, and the socket file has moved with it.
  process heir(dir.file("new.log"), arguments);
  BOOST_TEST(session.read_frame().close_code() == 1012u);
  session.send(close_frame(1012));
  BOOST_TEST(old.wait() == 0);
  echoes(wire(heir.port), "by tcp");
  echoes(wire(dir.file("unix")), "by the file");
  heir.signal(SIGINT);
  BOOST_TEST(heir.wait() == 0);
  BOOST_TEST(!std::filesystem::exists(dir.file("unix")));
}

// The file goes with the last one who has the socket, and not before.
BOOST_AUTO_TEST_CASE(a_socket_file_goes_with_its_heir) {
  scratch dir;
  running loop;
  const auto file = dir.file("unix");
  const auto path = dir.file("handover");
  std::vector<std::string> sockets{"unix:" + file, "127.0.0.1:0"};
  std::unique_ptr<chorus::server> old;
  for (int generation = 0; generation < 3; ++generation) {
    std::optional<chorus::inheritance> heritage;
    std::optional<chorus::handover_offer> offer;
    std::future<chorus::result<>> over;
    if (old) {
      offer.emplace(*old, path);
      BOOST_REQUIRE(loop.wait(offer->open()));
      over = boost::asio::co_spawn(loop.rt().executor(), offer->handed_over(),
                                   boost::asio::use_future);
      { // One who never becomes the heir takes nothing along.
        auto dropped = loop.wait(chorus::take_over(path));
        BOOST_REQUIRE(dropped);
        chorus::server_options options;
        const auto all = dropped->listen();
        options.listen = all.at(0);
        options.also_listen.assign(all.begin() + 1, all.end());
        chorus::server briefly(loop.rt(), options);
        BOOST_REQUIRE(loop.wait(briefly.start()));
        loop.wait(briefly.stop(1s));
      }
      auto heir = loop.wait(chorus::take_over(path));
      BOOST_REQUIRE_MESSAGE(heir, heir.error().message());
      heritage = std::move(*heir);
      sockets = heritage->listen();
      BOOST_TEST(sockets.size() == 2u);
    }
    BOOST_TEST(std::filesystem::exists(file) == (old != nullptr));
    chorus::server_options options;
    options.listen = sockets.at(0);
    options.also_listen = {sockets.at(1)};
    auto srv = std::make_unique<chorus::server>(loop.rt(), options);
    srv->route("/echo", echo);
    const auto up = loop.wait(srv->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
    BOOST_TEST(srv->addresses().size() == 2u);
    if (heritage) {
      BOOST_TEST(loop.wait(heritage->ready()).has_value());
      BOOST_REQUIRE((over.wait_for(patience) == std::future_status::ready));
      loop.wait(old->stop(1s));
      offer.reset();
    }
    echoes(wire(file), "whoever it is");
    old = std::move(srv);
  }
  loop.wait(old->stop(1s));
  BOOST_TEST(!std::filesystem::exists(file));
}

BOOST_AUTO_TEST_CASE(who_says_nothing_does_not_keep_the_others_waiting) {
  scratch dir;
  running loop;
  chorus::server srv(loop.rt(), {});
  BOOST_REQUIRE(loop.wait(srv.start()));
  const auto path = dir.file("handover");
  chorus::handover_offer offer(srv, path, 1h);
  BOOST_REQUIRE(loop.wait(offer.open()));
  auto over =
      boost::asio::co_spawn(loop.rt().executor(), offer.handed_over(), boost::asio::use_future);
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, path.c_str(), path.size() + 1);
  const int silent = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  BOOST_REQUIRE(::connect(silent, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0);
  auto heir = loop.wait(chorus::take_over(path, 20s));
  BOOST_REQUIRE_MESSAGE(heir, heir.error().message());
  // The one who has said that it is there has all the time it was promised.
  const auto sockets = heir->listen();
  chorus::server next(loop.rt(), {.listen = sockets.at(0)});
  BOOST_REQUIRE(loop.wait(next.start()));
  BOOST_TEST(loop.wait(heir->ready()).has_value());
  BOOST_REQUIRE((over.wait_for(patience) == std::future_status::ready));
  BOOST_TEST(over.get().has_value());
  ::close(silent);
  loop.wait(srv.stop(10ms));
  loop.wait(next.stop(10ms));
}

BOOST_AUTO_TEST_CASE(an_old_process_that_dies_leaves_the_sockets_to_the_new_one) {
  scratch dir;
  running loop;
  process old(dir.file("old.log"), {"--listen", "127.0.0.1:0", "--handover", dir.file("handover")});
  auto heir = loop.wait(chorus::take_over(dir.file("handover")));
  BOOST_REQUIRE_MESSAGE(heir, heir.error().message());
  old.signal(SIGKILL);
  BOOST_TEST(old.wait() == 1000 + SIGKILL);
  wire waiting(old.port); // in the backlog of a socket that has nobody but the heir
  chorus::server_options options;
  options.listen = heir->listen().front();
  chorus::server srv(loop.rt(), options);
  srv.route("/echo", echo);
  BOOST_REQUIRE(loop.wait(srv.start()));
  const auto ready = loop.wait(heir->ready());
  BOOST_REQUIRE(!ready);
  BOOST_TEST((ready.error() == chorus::error::lost));
  echoes(std::move(waiting), "not lost");
  // Its offer left a stale file, which the next offer replaces.
  chorus::handover_offer offer(srv, dir.file("handover"));
  const auto opened = loop.wait(offer.open());
  BOOST_REQUIRE_MESSAGE(opened, opened.error().message());
  chorus::handover_offer second(srv, dir.file("handover"));
  BOOST_TEST((loop.wait(second.open()).error() == chorus::error::listen_failed));
  loop.wait(srv.stop(10ms));
}

BOOST_AUTO_TEST_CASE(after_a_crash_the_next_one_starts_afresh) {
  scratch dir;
  const test_support::reserved_port kept; // or somebody else might have it meanwhile
  const auto port = kept.number();
  const std::vector<std::string> arguments{"--listen", "127.0.0.1:" + std::to_string(port),
                                           "--handover", dir.file("handover")};
  {
    process old(dir.file("old.log"), arguments);
    old.signal(SIGKILL);
    old.wait();
  }
  BOOST_TEST(std::filesystem::exists(dir.file("handover")));
  process next(dir.file("new.log"), arguments);
  BOOST_TEST(next.port == port);
  echoes(wire(port), "afresh");
  next.signal(SIGTERM);
  BOOST_TEST(next.wait() == 0);
  BOOST_TEST(!std::filesystem::exists(dir.file("handover")));
}

BOOST_AUTO_TEST_CASE(nobody_there_and_a_path_that_is_none_are_told_apart) {
  scratch dir;
  running loop;
  const auto nobody = loop.wait(chorus::take_over(dir.file("none")));
  BOOST_REQUIRE(!nobody);
  BOOST_TEST((nobody.error() == chorus::error::connect_failed));
  const auto none = loop.wait(chorus::take_over("@abstract"));
  BOOST_REQUIRE(!none);
  BOOST_TEST((none.error() == chorus::error::bad_option));
}

BOOST_AUTO_TEST_CASE(an_offer_that_is_withdrawn_says_so) {
  scratch dir;
  running loop;
  chorus::server srv(loop.rt(), {});
  BOOST_REQUIRE(loop.wait(srv.start()));
  auto offer = std::make_optional<chorus::handover_offer>(srv, dir.file("handover"));
  BOOST_REQUIRE(loop.wait(offer->open()));
  auto over =
      boost::asio::co_spawn(loop.rt().executor(), offer->handed_over(), boost::asio::use_future);
  offer.reset();
  BOOST_REQUIRE((over.wait_for(patience) == std::future_status::ready));
  BOOST_TEST((over.get().error() == chorus::error::not_open));
  BOOST_TEST(comes_true([&] { return !std::filesystem::exists(dir.file("handover")); }));
  loop.wait(srv.stop(10ms));
}

// The one who withdrew goes on serving: nobody may be left accepting for it.
BOOST_AUTO_TEST_CASE(a_successor_is_too_late_for_an_offer_that_is_withdrawn) {
  scratch dir;
  running loop;
  chorus::server srv(loop.rt(), {});
  srv.route("/echo", echo);
  BOOST_REQUIRE(loop.wait(srv.start()));
  const auto path = dir.file("handover");
  auto offer = std::make_optional<chorus::handover_offer>(srv, path, 1h);
  BOOST_REQUIRE(loop.wait(offer->open()));
  auto over =
      boost::asio::co_spawn(loop.rt().executor(), offer->handed_over(), boost::asio::use_future);
  auto heir = loop.wait(chorus::take_over(path)); // has the sockets from here on
  BOOST_REQUIRE(heir);
  offer.reset();
  BOOST_REQUIRE((over.wait_for(patience) == std::future_status::ready));
  BOOST_TEST((over.get().error() == chorus::error::not_open));
  BOOST_TEST((loop.wait(heir->ready()).error() == chorus::error::lost));
  *heir = {};
  auto w = open_session(srv.port(), "/echo");
  w.send(text_frame("here"));
  BOOST_TEST(w.read_frame().payload == "here");
  loop.wait(srv.stop(10ms));
}

BOOST_AUTO_TEST_CASE(another_user_gets_nothing) {
  if (::geteuid() != 0) {
    BOOST_TEST_MESSAGE("only root can be another user: not tested");
    return;
  }
  scratch dir;
  ::chmod(dir.file("").c_str(), 0755);
  process old(dir.file("old.log"), {"--listen", "127.0.0.1:0", "--handover", dir.file("handover")});
  const auto path = dir.file("handover");
  for (const mode_t mode : {0600U, 0666U}) { // refused by the file; and by the process
    ::chmod(path.c_str(), mode);
    const pid_t child = ::fork();
    if (child == 0) {
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      std::memcpy(to.sun_path, path.c_str(), path.size() + 1);
      char byte = 0;
      if (::setuid(65534) != 0)
        ::_exit(3);
      const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
      const bool connected = ::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0;
      if (mode == 0600U)
        ::_exit(!connected && errno == EACCES ? 0 : 1);
      ::_exit(connected && ::recv(fd, &byte, 1, 0) <= 0 ? 0 : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    BOOST_TEST(WEXITSTATUS(status) == 0);
  }
  echoes(wire(old.port), "still here");
  old.signal(SIGTERM);
  BOOST_TEST(old.wait() == 0);
}

BOOST_AUTO_TEST_SUITE_END()
