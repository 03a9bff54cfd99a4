// Histories and lists, which are read of their streams by consumers that live for one page.

#include <chorus/cluster/nats_streams.hpp>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <algorithm>

namespace chorus::detail {

namespace {

namespace json = boost::json;

constexpr std::size_t most_reading = 32; // consumers at a time
constexpr std::size_t page = 256;        // messages
constexpr int most_attempts = 6;         // to read the first of a page
constexpr std::int64_t page_bytes = std::int64_t{8} << 20;

} // namespace

struct nats_streams::reader {
  explicit reader(nats_core &core)
      : timer(core.context(), nats_core::clock::now() + core.options().look_up_timeout) {}
  boost::asio::steady_timer timer;
  bool granted = false;
};

task<bool> nats_streams::begin_reading() {
  if (reading_ < most_reading) {
    ++reading_;
    co_return true;
  }
  const auto mine = std::make_shared<reader>(core_);
  readers_.push_back(mine);
  boost::system::error_code ec;
  co_await mine->timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  if (!mine->granted)
    std::erase(readers_, mine);
  co_return mine->granted;
}

void nats_streams::end_reading() {
  if (readers_.empty()) {
    --reading_;
    return;
  }
  const auto next = readers_.front(); // gets this one's place
  readers_.pop_front();
  next->granted = true;
  next->timer.cancel();
}

task<result<nats_streams::entries>> nats_streams::read(const nats_stream &s, std::string subject,
                                                       std::uint64_t from) {
  if (!co_await begin_reading())
    co_return failure(error::timed_out, stage::none,
                      "too many histories and lists are read from NATS at a time");
  struct turn {
    nats_streams &of;
    explicit turn(nats_streams &all) : of(all) {}
    ~turn() { of.end_reading(); }
    turn(const turn &) = delete;
    turn &operator=(const turn &) = delete;
  };
  const turn mine(*this);
  json::object c;
  c["deliver_policy"] = "by_start_sequence";
  c["opt_start_seq"] = std::max<std::uint64_t>(from, 1);
  c["ack_policy"] = "none";
  c["filter_subject"] = std::move(subject);
  c["inactive_threshold"] = 4 * core_.options().answer_timeout.count() * nats_nanoseconds;
  c["mem_storage"] = true;
  c["num_replicas"] = 1;
  json::object o;
  o["stream_name"] = s.name;
  o["config"] = std::move(c);
  const auto made = co_await api("CONSUMER.CREATE." + s.name, json::serialize(o));
  if (made.why.code())
    co_return made.why;
  entries found;
  if (made.waiting != 0) {
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(made.waiting, page));
    const auto to = "$JS.API.CONSUMER.MSG.NEXT." + s.name + "." + made.name;
    json::object ask;
    ask["batch"] = most;
    ask["no_wait"] = true;
    ask["expires"] =
        500 * nats_nanoseconds; // else it waits for ever for one that has just gone by its age
    ask["max_bytes"] = page_bytes;
    auto got = co_await core_.pull(made.name, to, json::serialize(ask), most);
    ask["batch"] = 1; // which may be larger than that
    ask.erase("max_bytes");
    for (int attempt = 0; got.has_value() && got->empty(); ++attempt) {
      if (attempt != 0) { // has it gone, or did a busy server let the request end first?
        const auto now = co_await api("CONSUMER.INFO." + s.name + "." + made.name, {});
        if (now.why.code())
          co_return now.why;
        if (now.waiting == 0)
          break;
      }
      if (attempt == most_attempts)
        co_return failure(error::timed_out, stage::none,
                          "the NATS server does not give what it says it has");
      got = co_await core_.pull(made.name, to, json::serialize(ask), 1);
    }
    if (got.has_error())
      co_return got.error();
    found.all = std::move(*got);
    found.more = found.all.size() < made.waiting && !found.all.empty();
  }
  core_.request("$JS.API.CONSUMER.DELETE." + s.name + "." + made.name, {}, {},
                [](const nats_reply &) {});
  co_return found;
}

} // namespace chorus::detail
