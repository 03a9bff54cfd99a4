#pragma once
// What a `nats` broker is within: an io_context with a thread of its own, on which all of it runs but the
// functions said to be for any thread. libnats may block (it connects, resolves, writes), which no shard
// may, and shards come and go with their servers, which this outlives.

#include <chorus/async/task.hpp>
#include <chorus/cluster/nats_link.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

class nats_leases;
class nats_presence;
class nats_rooms;
class nats_streams;

// What came back for a request.
struct nats_reply {
  failure why{};  // lost or timed_out: perhaps it was done; else nothing was sent
  int status = 0; // 503: nobody was there to answer
  std::string data{};
  bool unsent = false; // with `why`: for certain
};

// One of the messages that a consumer of a stream has delivered.
struct nats_entry {
  std::uint64_t sequence = 0; // 0: there is none
  std::string subject{};
  std::string data{};
};

// An answer that is owed: given once, and by itself when it is forgotten.
template <class T> class nats_answer {
public:
  nats_answer(std::function<void(result<T>)> give, std::function<void()> given)
      : inner_(std::make_shared<owed>(std::move(give), std::move(given))) {}
  void operator()(result<T> r) const { inner_->answer(std::move(r)); }

private:
  struct owed {
    owed(std::function<void(result<T>)> g, std::function<void()> n)
        : give(std::move(g)), given(std::move(n)) {}
    owed(const owed &) = delete;
    owed &operator=(const owed &) = delete;
    ~owed() { answer(failure(error::lost, stage::none, "the broker was closed")); }
    void answer(result<T> r) {
      if (!give)
        return;
      given();
      std::exchange(give, nullptr)(std::move(r));
    }
    std::function<void(result<T>)> give;
    std::function<void()> given;
  };
  std::shared_ptr<owed> inner_;
};

class nats_core : public std::enable_shared_from_this<nats_core> {
public:
  using clock = std::chrono::steady_clock;
  enum class way : std::uint8_t { idle, connecting, restoring, ready, away, closed };

  static std::shared_ptr<nats_core> make(nats_target target, nats_options options);
  ~nats_core();

  // From any thread: begins to connect, unless it has; runs `call` in the order of these calls, or
  // answers with why not.
  void begin();
  template <class T, class F>
  void call(std::size_t bytes, std::function<void(result<T>)> answer, F f) {
    const auto started = clock::now();
    if (const auto full = admit(bytes); full.code()) {
      answer(full);
      return;
    }
    nats_answer<T> owed(std::move(answer), [weak = weak_from_this(), bytes, started] {
      if (const auto self = weak.lock())
        self->settle(bytes, started);
    });
    add({[owed, f = std::move(f)]() mutable { f(owed); },
         [owed](const failure &why) { owed(why); }});
  }
  // Not counted: each undoes a call, which was.
  void tell(std::function<void()> f) { add({std::move(f), nullptr}); }
  broker_status status() const;
  broker_stats stats() const;
  void close(); // answers all that is owed, soon; the thread ends by itself

  // On the engine's thread from here on.
  const nats_options &options() const noexcept { return options_; }
  std::string subject(std::string_view rest) const {
    return options_.prefix + "." + std::string(rest);
  }
  bool closed() const noexcept { return way_ == way::closed; }
  bool ready() const noexcept { return way_ == way::ready; }
  failure why_away() const;
  // Of the connection: what began under another one is over.
  std::uint64_t generation() const noexcept { return generation_; }
  nats_link &link() noexcept { return link_; }
  nats_streams &streams() noexcept { return *streams_; }
  nats_rooms &rooms() noexcept { return *rooms_; }
  nats_presence &presence() noexcept { return *presence_; }
  nats_leases &leases() noexcept { return *leases_; }

  boost::asio::io_context &context() noexcept { return io_; }
  void spawn(task<> t);
  task<> pause(std::chrono::milliseconds time);
  // Answered once, within answer_timeout, not within the call.
  using replied = std::function<void(nats_reply)>;
  void request(const std::string &subject, std::string_view body, const nats_headers &headers,
               replied f);
  task<nats_reply> ask(std::string subject, std::string body, nats_headers headers);
  struct one_request {
    std::string subject{};
    std::string body{};
    nats_headers headers{};
  };
  // All at once; the answers in their order.
  task<std::vector<nats_reply>> ask_all(std::vector<one_request> all);
  // Answered by the server once it has everything that was sent before. `unheard`: a publish with this
  // reply subject came to nobody.
  std::string echo(replied f);
  void send_echo(const std::string &inbox);
  // What a consumer delivers: `most` entries, or fewer before a status.
  task<result<std::vector<nats_entry>>> pull(std::string consumer, std::string subject,
                                             std::string body, std::size_t most);
  void count_gap() noexcept { ++gaps_; }
  void count_looked_up() noexcept { ++looked_up_; }
  void count_received() noexcept { ++received_; }
  void count_unreadable() noexcept { ++unreadable_; }
  // Of this engine and one thing that it sends, however often: a token.
  std::string unique() { return id_ + std::to_string(++sent_things_); }
  // The timer must look again no later than this.
  void look_at(clock::time_point when);

private:
  struct one_call {
    std::function<void()> run;
    std::function<void(const failure &)> refuse;
  };
  struct pending {
    clock::time_point until;
    replied f;
    std::shared_ptr<std::vector<nats_entry>> entries{};
    std::size_t most = 0;
    std::string consumer{};
  };

  nats_core(nats_target target, nats_options options);
  void run();
  failure admit(std::size_t bytes);
  void settle(std::size_t bytes, clock::time_point started);
  void add(one_call c);
  void wake();
  void turn();
  void do_calls();
  void take(nats_event &e);
  void take_reply(nats_event &e, std::string_view token);
  void take_entry(nats_event &e);
  void connect();
  result<> attempt();
  task<> connect_again();
  void came_up();
  void went_down(std::string why);
  task<> restore();
  void expire();
  void fail_pending(const failure &why);
  void shut();
  std::uint64_t enlist(pending p);
  void finish(std::uint64_t token, nats_reply r);
  void send(std::uint64_t token, const std::string &to, const std::string &reply,
            std::string_view body, const nats_headers &headers);
  std::string inbox(std::uint64_t token) const;

  const nats_options options_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer timer_;
  clock::time_point timer_at_ = clock::time_point::max();
  nats_link link_;
  const std::string id_; // of this engine, in its inbox
  std::vector<std::shared_ptr<nats_link::subscription>> control_;
  std::unique_ptr<nats_streams> streams_;
  std::unique_ptr<nats_rooms> rooms_;
  std::unique_ptr<nats_presence> presence_;
  std::unique_ptr<nats_leases> leases_;

  way way_ = way::idle;
  std::uint64_t generation_ = 0;
  bool was_up_ = false;
  clock::time_point hold_until_{};
  std::uint64_t next_token_ = 0;
  std::uint64_t sent_things_ = 0;
  std::map<std::uint64_t, pending> pending_;
  std::unordered_map<std::string, std::uint64_t> consumers_; // by their names
  std::deque<one_call> held_;

  // From any thread.
  mutable std::mutex mutex_;
  bool begun_ = false;
  bool closed_ = false;
  bool turning_ = false;
  std::deque<one_call> calls_;
  broker_status status_{false, "it has not been asked anything yet"};
  std::optional<clock::time_point> away_since_;
  std::chrono::milliseconds away_{0};
  std::size_t waiting_ = 0;
  std::size_t waiting_bytes_ = 0;
  std::multimap<clock::time_point, std::size_t> started_; // of what waits
  std::chrono::microseconds lag_{0};
  std::atomic<std::uint64_t> connects_{0}, disconnects_{0}, commands_{0}, received_{0},
      looked_up_{0}, refused_{0}, gaps_{0}, unreadable_{0};
};

} // namespace chorus::detail
