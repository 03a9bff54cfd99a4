#pragma once
// The talk of `connect` with its peer: input to messages, messages to output (or back), until the
// connection ends. For one thread; kept alive by each coroutine that takes part.

#include "connect.hpp"
#include "link.hpp"
#include "recording.hpp"
#include "standard_io.hpp"
#include "terminal.hpp"

#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <memory>
#include <string>

namespace cli {

class conversation : public std::enable_shared_from_this<conversation> {
public:
  // `replay`: what is sent instead of standard input; empty: nothing.
  conversation(const boost::asio::any_io_executor &ex, const connect_settings &settings,
               std::vector<recorded> replay = {}, std::unique_ptr<recorder> record = nullptr);

  // From here on SIGINT and SIGTERM end the conversation in order; a second one ends the program.
  void watch_signals();
  bool stopped() const noexcept { return stopped_; }
  // Completes at a signal or when `limit` has passed (0: never): bounds the connecting.
  chorus::task<> interruption(std::chrono::milliseconds limit);

  // To be told of the connecting, for /headers; on this one's thread.
  std::shared_ptr<chorus::connect_observer> observer() const noexcept { return answer_; }

  // Talks over `with` till it has ended and everything is written.
  chorus::task<status> run(std::unique_ptr<link> with);

private:
  struct answer_kept final : chorus::connect_observer {
    void on_upgraded(unsigned code,
                     std::span<const std::pair<std::string, std::string>> headers) override;
    std::string text;
  };

  chorus::task<> pump();     // standard input to the peer
  chorus::task<> replay();   // a recording to the peer
  chorus::task<> converse(); // a terminal to the peer
  chorus::task<bool> obey(std::string line);
  chorus::task<> measure_ping();
  std::string statistics() const;
  // False when it can't be sent, because the connection or the recording is over.
  chorus::task<bool> deliver(chorus::message m);
  // True, or ends the conversation.
  bool record(bool out, const chorus::message &m);
  std::size_t longest_message() const noexcept;
  chorus::task<> watch_clock(); // --timeout
  chorus::task<bool> take(chorus::message m);
  status verdict(const chorus::failure &end) const;
  void write(const chorus::message &m);
  void close(chorus::close_code code = chorus::close_code::normal, std::string_view reason = {});
  void fail(status why, std::string sentence);

  const connect_settings &settings_;
  boost::asio::any_io_executor executor_;
  line_input input_;
  byte_output output_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer interruption_;
  boost::asio::steady_timer silence_;
  boost::asio::steady_timer pace_; // of the replay
  std::vector<recorded> replay_;
  std::unique_ptr<recorder> recorder_; // null: nothing is recorded
  std::unique_ptr<terminal> terminal_; // null: lines, for pipes
  const std::shared_ptr<answer_kept> answer_ = std::make_shared<answer_kept>();
  std::unique_ptr<link> link_;
  chorus::session closed_; // the one that was open when this side began to close
  std::chrono::steady_clock::time_point last_message_{};
  bool taking_ = false; // one that came; none is asked for meanwhile
  std::uint64_t taken_ = 0;
  bool stopped_ = false;
  bool closing_ = false;       // by this side
  bool over_ = false;          // the link has ended
  status failed_ = status::ok; // by this side, with `sentence_`
  std::string sentence_;
};

} // namespace cli
