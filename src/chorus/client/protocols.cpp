#include <chorus/client/protocols.hpp>

#include <chorus/base/explain.hpp>
#include <chorus/session/session.hpp>
#include <chorus/transport/waiter.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>

#include <algorithm>
#include <exception>
#include <optional>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

bool is_websocket(url_scheme s) noexcept { return s == url_scheme::ws || s == url_scheme::wss; }

// What framed messages can use of a URL that is one of a WebSocket as well.
std::string_view host_and_port(std::string_view text) noexcept {
  text = text.substr(0, text.find_first_of("/?"));
  return text.substr(text.rfind('@') + 1);
}

bool has_handshake(const url &u) noexcept { return u.is_websocket() || u.is_secure(); }

// The peer does not speak this protocol, or does not show that it does.
bool speaks_not(const failure &why) noexcept {
  const auto &detail = why.detail();
  if (why == error::upgrade_refused) // what servers of HTTP and HTTPS say to each other's clients
    return detail.status == 400 || detail.status == 426;
  if (why == error::tls_failed)
    return detail.tls_alert.empty(); // who sends an alert speaks TLS
  return why == error::tls_not_tls || why == error::tls_timeout || why == error::upgrade_invalid ||
         why == error::upgrade_timeout ||
         (why == error::lost && (detail.where == stage::tls || detail.where == stage::upgrade));
}

std::string name_of(const url &u) {
  return std::string(to_string(u.scheme())) + "://" + u.authority();
}

} // namespace

result<std::vector<url>> urls_meant(std::string_view text, const connect_options &options) {
  std::vector<url> all;
  const auto &schemes = options.protocols;
  if (schemes.empty() || url::names_scheme(text)) {
    auto one = url::parse(text);
    if (!one)
      return one.error();
    all.push_back(*std::move(one));
    return all;
  }
  const bool any_websocket = std::any_of(schemes.begin(), schemes.end(), is_websocket);
  for (auto at = schemes.begin(); at != schemes.end(); ++at) {
    const auto scheme = *at;
    if (scheme == url_scheme::unix_socket || scheme == url_scheme::ws_unix)
      return bad_option(
          "protocols are of ws, wss, tcp and tls; a unix socket has a URL of its own");
    if (std::find(schemes.begin(), at, scheme) != at)
      return bad_option("the protocol " + std::string(to_string(scheme)) + " is listed twice");
    const bool part = any_websocket && !is_websocket(scheme);
    auto one = url::parse(std::string(to_string(scheme)) + "://" +
                          std::string(part ? host_and_port(text) : text));
    if (!one)
      return one.error();
    all.push_back(*std::move(one));
  }
  return all;
}

const url &most_capable(const std::vector<url> &all) noexcept {
  const auto rank = [](const url &u) {
    return (u.is_websocket() ? 2 : 0) + (u.is_secure() ? 1 : 0);
  };
  return *std::max_element(all.begin(), all.end(),
                           [&](const url &a, const url &b) { return rank(a) < rank(b); });
}

bool rules_out(const connect_way &tried, const failure &why, const connect_way &next) noexcept {
  if (why == error::upgrade_refused && speaks_not(why)) // it does speak HTTP
    return !next.where.is_websocket() || next.where.is_secure() == tried.where.is_secure();
  const auto where = why.detail().where;
  if (speaks_not(why)) // where TLS had succeeded nothing is said in the clear
    return tried.where.is_secure() && !next.where.is_secure() && where == stage::upgrade;
  if (where == stage::resolve || where == stage::connect)
    return !tried.proxy && !next.proxy && tried.where.port() == next.where.port();
  return where != stage::proxy;
}

failure none_of(const std::vector<failed_way> &all) {
  // What says more than "not this protocol" is the failure; the last of it.
  const auto telling =
      std::find_if(all.rbegin(), all.rend(), [](const auto &one) { return !speaks_not(one.why); });
  const bool silent = telling == all.rend();
  const auto &base = silent ? all.back().why : telling->why;
  if (all.size() == 1)
    return base;
  auto detail = base.detail();
  std::string each;
  detail.tried.clear();
  for (const auto &[where, why] : all) {
    detail.tried.push_back({name_of(where), why.code()});
    if (silent || &why != &base)
      each += (each.empty() ? "" : "; ") + std::string(to_string(where.scheme())) + ": " +
              explain(why).what;
  }
  if (!silent) {
    if (detail.sentence.empty())
      detail.sentence = base.code().message();
    detail.sentence += " (also tried: " + each + ")";
    return failure(base.code(), std::move(detail));
  }
  detail.sentence =
      all.back().where.host() + " speaks none of the protocols that were tried (" + each + ")";
  detail.hint = "is the port right, and which protocol does its server speak?";
  return failure(make_error_code(error::no_protocol), std::move(detail));
}

namespace {

// The attempts under way. Those of one shard's thread; each is a coroutine of its own, which can be
// cancelled alone.
class attempts {
public:
  attempts(std::shared_ptr<shard> home, std::shared_ptr<const connect_plan> plan)
      : shared_(std::make_shared<shared>()), home_(std::move(home)), plan_(std::move(plan)) {}
  // Whatever is still under way is given up, and what it may yet open is aborted.
  ~attempts() {
    shared_->abandoned = true;
    for (auto &one : shared_->all)
      give_up(*one);
  }
  attempts(const attempts &) = delete;
  attempts &operator=(const attempts &) = delete;

  void start(std::size_t way, bool alone) {
    auto changed = std::make_shared<connect_plan>(*plan_);
    changed->where = plan_->ways[way].where;
    changed->dial.proxy = plan_->ways[way].proxy;
    changed->ways.clear();
    if (!alone && way != 0)
      changed->id = 0; // of two that succeed at once only one may have the id of the attempt
    auto one = std::make_shared<attempt>();
    one->way = way;
    shared_->all.push_back(one);
    auto done = [all = shared_, one](std::exception_ptr thrown, result<session> opened) {
      one->over = true;
      one->thrown = thrown;
      if (all->abandoned || one->dropped) {
        if (!thrown && opened)
          opened->abort();
      } else if (!thrown) {
        one->opened.emplace(std::move(opened));
      }
      if (all->waiting)
        all->waiting->on_ready(0);
    };
    auto opening = open_by_one(home_, std::move(changed));
    asio::co_spawn(home_->executor(), std::move(opening),
                   asio::bind_cancellation_slot(one->signal.slot(), std::move(done)));
  }
  bool running() const noexcept {
    return std::any_of(shared_->all.begin(), shared_->all.end(),
                       [](const auto &one) { return !one->over; });
  }
  // The way and outcome of one that has ended and was not taken yet; those that were dropped are none.
  std::optional<std::pair<std::size_t, result<session>>> take() {
    for (auto &one : shared_->all) {
      if (!one->over || one->dropped || one->taken)
        continue;
      one->taken = true;
      if (one->thrown)
        std::rethrow_exception(one->thrown);
      return std::pair(one->way, *std::move(one->opened));
    }
    return std::nullopt;
  }
  // Gives up those of which `hopeless` is true.
  template <class Predicate> void drop(Predicate hopeless) {
    for (auto &one : shared_->all)
      if (!one->taken && hopeless(one->way))
        give_up(*one);
  }
  // Until one has ended, or `when`.
  task<> wait(time_point when) {
    transport::waiter parked(*home_);
    const told until_done(*shared_, parked);
    co_await parked.wait(when);
  }

private:
  struct attempt {
    std::size_t way = 0;
    bool over = false;
    bool taken = false;
    bool dropped = false;
    std::exception_ptr thrown;
    std::optional<result<session>> opened;
    asio::cancellation_signal signal;
  };
  struct shared {
    std::vector<std::shared_ptr<attempt>> all;
    transport::waiter *waiting = nullptr;
    bool abandoned = false;
  };
  class told {
  public:
    told(shared &s, transport::waiter &w) noexcept : shared_(s) { s.waiting = &w; }
    ~told() { shared_.waiting = nullptr; }
    told(const told &) = delete;
    told &operator=(const told &) = delete;

  private:
    shared &shared_;
  };

  static void give_up(attempt &one) {
    if (one.taken || std::exchange(one.dropped, true))
      return;
    if (!one.over)
      one.signal.emit(asio::cancellation_type::terminal);
    else if (one.opened && *one.opened)
      (*one.opened)->abort();
  }

  std::shared_ptr<shared> shared_;
  std::shared_ptr<shard> home_;
  std::shared_ptr<const connect_plan> plan_;
};

// As they are listed; in a race those without a handshake come last: who only has to connect would always
// win.
std::vector<std::size_t> order_of(const std::vector<connect_way> &ways, bool race) {
  std::vector<std::size_t> out;
  std::vector<std::size_t> late;
  for (std::size_t i = 0; i < ways.size(); ++i)
    (race && !has_handshake(ways[i].where) ? late : out).push_back(i);
  out.insert(out.end(), late.begin(), late.end());
  return out;
}

} // namespace

namespace {

// The session of the way that won. Until it is taken it ends with this, as its handle alone would not
// end it.
class prize {
public:
  prize() = default;
  ~prize() {
    if (session_)
      session_->abort();
  }
  prize(const prize &) = delete;
  prize &operator=(const prize &) = delete;

  void set(session s) { session_.emplace(std::move(s)); }
  explicit operator bool() const noexcept { return session_.has_value(); }
  session take() { return *std::exchange(session_, std::nullopt); }

private:
  std::optional<session> session_;
};

} // namespace

task<result<session>> open_by_any(std::shared_ptr<shard> home,
                                  std::shared_ptr<const connect_plan> plan) {
  const auto &ways = plan->ways;
  // What an envelope remembers is that of one connection.
  const bool race = plan->race_ways && !plan->make_envelope;
  auto left = order_of(ways, race);
  std::vector<failed_way> failed;
  prize winner;
  auto next_at = home->now();
  attempts all(home, plan);
  for (;;) {
    while (auto ended = all.take()) {
      if (ended->second) {
        winner.set(*std::move(ended->second));
        break;
      }
      const auto &why = ended->second.error();
      const auto &tried = ways[ended->first];
      failed.push_back({tried.where, why});
      next_at = home->now();
      const auto hopeless = [&](std::size_t i) { return rules_out(tried, why, ways[i]); };
      std::erase_if(left, hopeless);
      all.drop(hopeless);
    }
    if (winner)
      all.drop([](std::size_t) { return true; });
    const bool running = all.running();
    if (!running && (winner || left.empty()))
      break;
    const bool may_start =
        !winner && !left.empty() && (!running || (race && has_handshake(ways[left.front()].where)));
    const auto now = home->now();
    if (may_start && (!running || now >= next_at)) {
      all.start(left.front(), !race); // which may read the system's certificates first
      left.erase(left.begin());
      next_at = home->now() + plan->dial.stagger;
      continue;
    }
    auto waiting = all.wait(may_start ? next_at : time_point::max());
    co_await std::move(waiting);
  }
  if (winner)
    co_return winner.take();
  co_return none_of(failed);
}

} // namespace chorus::detail
