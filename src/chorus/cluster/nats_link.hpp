#pragma once
// The connection to NATS, by libnats, which reconnects and subscribes again by itself. Its threads only
// copy what comes into a bounded queue. All functions may block for up to answer_timeout, connect for
// up to connect_timeout: they belong to the engine's own thread.

#include <chorus/cluster/nats_names.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace chorus::detail {

struct nats_event {
  enum class kind : std::uint8_t { message, up, down, ended, missed };
  kind what = kind::message;
  std::string subject{}; // or why it is down; ended: and does not come back by itself
  std::string reply{};
  std::string data{};
  // Of what a stream has kept and published again.
  std::string stream{};
  std::uint64_t sequence = 0; // up: how often it has connected again
  std::uint64_t before = 0;   // the sequence of the message before it with that subject
  int status = 0;             // of JetStream's and the server's own answers; 0: none
};

// What libnats' threads fill.
class nats_inbox {
public:
  explicit nats_inbox(std::size_t most_bytes) : most_bytes_(most_bytes) {}
  // `wake` is called on one of those threads, once until the next `take`.
  void open(std::function<void()> wake);
  void close(); // nothing more comes in, and nobody is woken
  void add(nats_event e);
  std::vector<nats_event> take();

private:
  const std::size_t most_bytes_;
  std::mutex mutex_;
  std::function<void()> wake_;
  std::vector<nats_event> events_;
  std::size_t bytes_ = 0;
  bool missed_ = false;
};

using nats_headers = std::vector<std::pair<std::string, std::string>>;

class nats_link {
public:
  nats_link(nats_target target, const nats_options &options);
  ~nats_link();
  nats_link(const nats_link &) = delete;
  nats_link &operator=(const nats_link &) = delete;

  // From here on it connects, and again after every loss, until it `ended`. A former connection ends, with
  // all that was subscribed. Fails when it is refused again.
  result<> connect(std::function<void()> wake);
  // The last attempt was made without libnats going on by itself, which tells no reasons.
  bool alone() const noexcept { return was_alone_; }
  void close();
  std::vector<nats_event> take();
  bool open() const; // now, by libnats' word
  // Of the process: as many as links that were told to connect and not to close.
  static std::size_t open_inboxes();

  // Handed to the connection; that says nothing of its arrival. Fails with message_too_big or lost; also
  // with lost until `take` has said that there is another connection.
  result<> publish(const std::string &subject, const std::string &reply, std::string_view body,
                   const nats_headers &headers);

  // What is subscribed ends with it.
  class subscription;
  result<std::shared_ptr<subscription>> subscribe(const std::string &subject);

private:
  struct state;
  std::shared_ptr<nats_inbox> inbox_;
  std::unique_ptr<state> state_;
  bool alone_ = false; // the next attempt
  bool was_alone_ = false;
};

} // namespace chorus::detail
