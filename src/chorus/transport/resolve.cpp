#include <chorus/transport/resolve.hpp>

#include <chorus/base/text.hpp>
#include <chorus/transport/waiter.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cerrno>
#include <csignal>
#include <deque>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <pthread.h>
#include <system_error>
#include <thread>
#include <utility>

namespace chorus::transport {

std::atomic<decltype(&::getaddrinfo)> system_resolver{&::getaddrinfo};

namespace {

namespace asio = boost::asio;

failure unresolved(chorus::error code, std::string sentence, std::string hint = {}) {
  failure_detail detail;
  detail.where = stage::resolve;
  detail.sentence = std::move(sentence);
  detail.hint = std::move(hint);
  return failure(make_error_code(code), std::move(detail));
}

// Shared by the coroutine that asks and the thread that finds, either of which may go first.
struct lookup {
  std::string host;
  std::string port;
  std::weak_ptr<detail::shard> home;
  // The thread's; once told, the coroutine's.
  int code = 0;        // of getaddrinfo
  int system_code = 0; // errno, for EAI_SYSTEM
  std::vector<endpoint> found;
  // Belongs to the shard's thread.
  waiter *waiting = nullptr;
};

// On a thread that may outlive the statics of the process: nothing here needs any.
void ask_system(lookup &l) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_protocol = IPPROTO_TCP;
  addrinfo *list = nullptr;
  errno = 0;
  l.code = system_resolver.load()(l.host.empty() ? nullptr : l.host.c_str(), l.port.c_str(), &hints,
                                  &list);
  l.system_code = errno;
  if (l.code != 0)
    return;
  for (const auto *one = list; one; one = one->ai_next)
    if (one->ai_family == AF_INET || one->ai_family == AF_INET6)
      l.found.emplace_back(one->ai_addr, one->ai_addrlen);
  ::freeaddrinfo(list);
}

// Refused by a shard that has gone, along with the coroutine.
void hand_over(const std::shared_ptr<lookup> &l) {
  if (const auto home = l->home.lock())
    home->post([l] {
      if (l->waiting)
        l->waiting->on_ready(0);
    });
}

// Threads that are started when there is something to look up, and end when the line is empty.
class lookup_threads {
public:
  // Never destroyed: a thread that hangs in the resolver may come back while the process ends.
  static lookup_threads &all() {
    static auto *const leaked = new lookup_threads;
    return *leaked;
  }
  // Throws system_error when there is no thread, and none can be started.
  void ask(std::shared_ptr<lookup> l) {
    std::lock_guard lock(mutex_);
    line_.push_back(std::move(l));
    if (running_ == most_lookups)
      return;
    try {
      start_thread();
      ++running_;
    } catch (const std::system_error &) {
      if (running_ != 0)
        return; // one of those comes to it
      line_.pop_back();
      throw;
    }
  }
  void forget(const lookup &l) noexcept {
    std::lock_guard lock(mutex_);
    std::erase_if(line_, [&l](const auto &one) { return one.get() == &l; });
  }
  resolver_load load() {
    std::lock_guard lock(mutex_);
    return {running_, line_.size()};
  }

private:
  void start_thread() {
    // Signals are for the program's own threads.
    sigset_t every, before;
    ::sigfillset(&every);
    ::pthread_sigmask(SIG_SETMASK, &every, &before);
    struct restored {
      const sigset_t &mask;
      ~restored() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
    } const afterwards{before};
    std::thread([this] { work(); }).detach();
  }
  void work() noexcept {
    while (const auto next = take()) {
      ask_system(*next);
      hand_over(next);
    }
  }
  // Null, and the thread is counted out, when nobody waits.
  std::shared_ptr<lookup> take() noexcept {
    std::lock_guard lock(mutex_);
    if (line_.empty()) {
      --running_;
      return nullptr;
    }
    auto next = std::move(line_.front());
    line_.pop_front();
    return next;
  }

  std::mutex mutex_;
  std::deque<std::shared_ptr<lookup>> line_;
  std::size_t running_ = 0;
};

// The coroutine's end: it takes no answer any more once it has gone on.
class asking final : public detail::resident {
public:
  asking(detail::shard &home, std::shared_ptr<lookup> l, waiter &w)
      : home_(home), lookup_(std::move(l)) {
    lookup_->waiting = &w;
    home_.enroll(*this);
  }
  ~asking() {
    home_.leave(*this);
    lookup_->waiting = nullptr;
    lookup_threads::all().forget(*lookup_);
  }
  asking(const asking &) = delete;
  asking &operator=(const asking &) = delete;
  bool shard_gone() const noexcept { return shard_gone_; }

private:
  void on_shard_gone() noexcept override {
    shard_gone_ = true;
    lookup_->waiting->on_ready(0);
  }

  detail::shard &home_;
  std::shared_ptr<lookup> lookup_;
  bool shard_gone_ = false;
};

error_code code_of(const lookup &l) {
  switch (l.code) {
  case 0:
    return {};
  case EAI_AGAIN:
    return asio::error::host_not_found_try_again;
  case EAI_BADFLAGS:
    return asio::error::invalid_argument;
  case EAI_FAIL:
    return asio::error::no_recovery;
  case EAI_FAMILY:
    return asio::error::address_family_not_supported;
  case EAI_MEMORY:
    return asio::error::no_memory;
  case EAI_NONAME:
#if defined(EAI_ADDRFAMILY)
  case EAI_ADDRFAMILY:
#endif
#if defined(EAI_NODATA)
  case EAI_NODATA:
#endif
    return asio::error::host_not_found;
  case EAI_SERVICE:
    return asio::error::service_not_found;
  case EAI_SOCKTYPE:
    return asio::error::socket_type_not_supported;
  default:
    return {l.system_code, boost::system::system_category()};
  }
}

bool is_localhost(std::string_view host) {
  if (host.ends_with('.'))
    host.remove_suffix(1);
  const auto name = detail::lower(host);
  return name == "localhost" || name.ends_with(".localhost");
}

// The addresses of what needs none; empty for anything else.
std::vector<endpoint> without_resolver(const std::string &host, unsigned short port) {
  std::vector<endpoint> out;
  const auto add = [&](const asio::ip::address &address) {
    const asio::ip::tcp::endpoint e(address, port);
    out.emplace_back(e.data(), e.size());
  };
  error_code not_literal;
  const auto literal = asio::ip::make_address(host, not_literal);
  if (!not_literal) {
    add(literal);
  } else if (is_localhost(host)) {
    add(asio::ip::address_v6::loopback());
    add(asio::ip::address_v4::loopback());
  }
  return out;
}

} // namespace

resolver_load current_resolver_load() { return lookup_threads::all().load(); }

task<result<std::vector<endpoint>>> resolve(detail::shard &home, std::string host, std::string port,
                                            std::chrono::milliseconds limit) {
  unsigned short number = 0;
  const auto kind = parse_port(port, number);
  if (kind == port_kind::invalid)
    co_return unresolved(error::resolve_failed,
                         "\"" + port + "\" is no port; ports are numbers from 0 to 65535");
  if (kind == port_kind::number)
    if (auto at_once = without_resolver(host, number); !at_once.empty())
      co_return at_once;
  const auto keep = home.shared_from_this();
  waiter waiting(home);
  const auto state = std::make_shared<lookup>();
  state->host = host;
  state->port = port;
  state->home = keep;
  asking until_done(home, state, waiting);
  error_code no_thread;
  try {
    lookup_threads::all().ask(state);
  } catch (const std::system_error &e) {
    no_thread = e.code();
  }
  if (no_thread)
    co_return unresolved(error::resolve_failed, "no thread could be started to look up " + host +
                                                    " (" + no_thread.message() + ")");
  const bool in_time = co_await waiting.wait(home.now() + limit);
  if (until_done.shard_gone())
    co_return unresolved(error::shut_down, "the runtime has gone");
  if (!in_time)
    co_return unresolved(error::resolve_timeout,
                         "looking up " + host + " took longer than " + detail::in_ms(limit),
                         "is the DNS server reachable?");
  const auto code = code_of(*state);
  if (code == asio::error::service_not_found)
    co_return unresolved(error::resolve_failed,
                         "the port \"" + port + "\" is neither a number nor a known service");
  if (code || state->found.empty())
    co_return unresolved(error::resolve_failed,
                         "the host name " + host + " is not known (" + code.message() + ")",
                         "check its spelling and the DNS");
  co_return std::move(state->found);
}

} // namespace chorus::transport
