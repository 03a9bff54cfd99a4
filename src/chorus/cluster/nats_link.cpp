#include <chorus/cluster/nats_link.hpp>

#include <nats/nats.h>

#include <climits>
#include <shared_mutex>
#include <unordered_map>

namespace chorus::detail {

namespace {

// libnats may be within a callback when its connection is gone already: it is given numbers, which are never
// used again, and what comes for an inbox that is no more is dropped.
struct all_inboxes {
  std::shared_mutex mutex;
  std::unordered_map<std::uintptr_t, std::weak_ptr<nats_inbox>> all;
  std::uintptr_t last = 0;
};

all_inboxes &inboxes() {
  static auto &all = *new all_inboxes; // libnats' threads may outlive what is static
  return all;
}

std::uintptr_t enroll(const std::shared_ptr<nats_inbox> &inbox) {
  auto &known = inboxes();
  const std::lock_guard lock(known.mutex);
  known.all.emplace(++known.last, inbox);
  return known.last;
}

void add(void *to, nats_event e) {
  auto &known = inboxes();
  std::shared_lock lock(known.mutex);
  const auto found = known.all.find(reinterpret_cast<std::uintptr_t>(to));
  const auto inbox = found == known.all.end() ? nullptr : found->second.lock();
  lock.unlock();
  if (inbox)
    inbox->add(std::move(e));
}

void on_message(natsConnection *, natsSubscription *, natsMsg *m, void *to) {
  nats_event e;
  e.subject = natsMsg_GetSubject(m);
  if (const auto *reply = natsMsg_GetReply(m))
    e.reply = reply;
  if (const auto size = natsMsg_GetDataLength(m); size > 0)
    e.data.assign(natsMsg_GetData(m), static_cast<std::size_t>(size));
  const auto header = [m](const char *name) -> std::string_view {
    const char *value = nullptr;
    return natsMsgHeader_Get(m, name, &value) == NATS_OK && value ? value : "";
  };
  e.status = static_cast<int>(to_number(header("Status")));
  if (const auto sequence = header("Nats-Sequence"); !sequence.empty()) {
    e.sequence = to_number(sequence);
    e.before = to_number(header("Nats-Last-Sequence"));
    e.stream = header("Nats-Stream");
  }
  natsMsg_Destroy(m);
  add(to, std::move(e));
}

void tell(void *to, nats_event::kind what, std::string why = {}) {
  nats_event e;
  e.what = what;
  e.subject = std::move(why);
  add(to, std::move(e));
}

// How often it has connected again.
std::uint64_t reconnects(natsConnection *c) {
  natsStatistics *made = nullptr;
  std::uint64_t times = 0;
  if (natsStatistics_Create(&made) == NATS_OK && natsConnection_GetStats(c, made) == NATS_OK)
    natsStatistics_GetCounts(made, nullptr, nullptr, nullptr, nullptr, &times);
  natsStatistics_Destroy(made);
  return times;
}

void tell_up(natsConnection *c, void *to) {
  nats_event e;
  e.what = nats_event::kind::up;
  e.sequence = reconnects(c);
  add(to, std::move(e));
}

void on_up(natsConnection *c, void *to) { tell_up(c, to); }

void on_down(natsConnection *c, void *to) {
  const char *why = nullptr;
  natsConnection_GetLastError(c, &why);
  tell(to, nats_event::kind::down, why && *why ? why : "the connection was lost");
}

void on_closed(natsConnection *c, void *to) {
  const char *why = nullptr;
  natsConnection_GetLastError(c, &why);
  tell(to, nats_event::kind::ended, why && *why ? why : "the connection was closed");
}

void on_error(natsConnection *, natsSubscription *, natsStatus s, void *to) {
  if (s == NATS_SLOW_CONSUMER)
    tell(to, nats_event::kind::missed);
}

// On this thread, without the place in libnats where it happened.
std::string last_error(natsStatus s) {
  natsStatus ignored = NATS_OK;
  const char *const said = nats_GetLastError(&ignored);
  const std::string_view text = said ? said : "";
  const auto place = text.starts_with('(') ? text.find("): ") : text.npos;
  const auto rest = place == text.npos ? text : text.substr(place + 3);
  return rest.empty() ? natsStatus_GetText(s) : std::string(rest);
}

failure trouble(natsStatus s) {
  if (s == NATS_MAX_PAYLOAD)
    return failure(error::message_too_big, stage::none,
                   "the message is larger than the NATS server takes: raise its max_payload");
  if (s == NATS_INSUFFICIENT_BUFFER) // which libnats has none of while it reconnects
    s = NATS_CONNECTION_DISCONNECTED;
  return failure(error::lost, stage::none,
                 std::string("the NATS server is away: ") + natsStatus_GetText(s));
}

} // namespace

void nats_inbox::open(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

void nats_inbox::close() {
  const std::lock_guard lock(mutex_);
  wake_ = nullptr;
  events_.clear();
  events_.shrink_to_fit();
  bytes_ = 0;
}

void nats_inbox::add(nats_event e) {
  const std::lock_guard lock(mutex_);
  if (!wake_)
    return;
  if (e.what == nats_event::kind::message) {
    const auto cost = sizeof(nats_event) + e.data.size() + e.subject.size();
    if (bytes_ + cost > most_bytes_) {
      // What has a place is read again, and requests run into their timeouts.
      if (std::exchange(missed_, true))
        return;
      e = {};
      e.what = nats_event::kind::missed;
    } else {
      bytes_ += cost;
    }
  }
  events_.push_back(std::move(e));
  if (events_.size() == 1)
    wake_();
}

std::vector<nats_event> nats_inbox::take() {
  const std::lock_guard lock(mutex_);
  bytes_ = 0;
  missed_ = false;
  return std::exchange(events_, {});
}

struct nats_link::state {
  nats_target target;
  nats_options options;
  natsConnection *connection = nullptr;
  std::uintptr_t inbox = 0; // its number
  std::uint64_t known = 0;  // reconnects that were told
  // What libnats is given for it.
  void *to() const noexcept { return reinterpret_cast<void *>(inbox); }
};

class nats_link::subscription {
public:
  explicit subscription(natsSubscription *s) : inner_(s) {}
  subscription(const subscription &) = delete;
  subscription &operator=(const subscription &) = delete;
  ~subscription() { natsSubscription_Destroy(inner_); }

private:
  natsSubscription *inner_;
};

nats_link::nats_link(nats_target target, const nats_options &options)
    : inbox_(std::make_shared<nats_inbox>(options.max_waiting_bytes)),
      state_(new state{std::move(target), options}) {}

nats_link::~nats_link() { close(); }

void nats_link::close() {
  inbox_->close();
  natsConnection_Destroy(std::exchange(state_->connection, nullptr));
  auto &known = inboxes();
  const std::lock_guard lock(known.mutex);
  known.all.erase(std::exchange(state_->inbox, 0));
}

std::size_t nats_link::open_inboxes() {
  auto &known = inboxes();
  const std::lock_guard lock(known.mutex);
  return known.all.size();
}

result<> nats_link::connect(std::function<void()> wake) {
  close();
  inbox_ = std::make_shared<nats_inbox>(state_->options.max_waiting_bytes);
  inbox_->open(std::move(wake));
  natsOptions *made = nullptr;
  auto s = natsOptions_Create(&made);
  const std::unique_ptr<natsOptions, decltype(&natsOptions_Destroy)> o(made, natsOptions_Destroy);
  const auto set = [&s](natsStatus next) { s = s == NATS_OK ? next : s; };
  const auto &mine = state_->options;
  std::vector<const char *> servers;
  for (const auto &one : state_->target.servers)
    servers.push_back(one.c_str());
  state_->inbox = enroll(inbox_);
  auto *const to = state_->to();
  set(natsOptions_SetServers(made, servers.data(), static_cast<int>(servers.size())));
  set(natsOptions_SetName(made, mine.client_name.empty() ? "chorus" : mine.client_name.c_str()));
  set(natsOptions_SetTimeout(made, mine.connect_timeout.count()));
  set(natsOptions_SetWriteDeadline(made, mine.answer_timeout.count()));
  set(natsOptions_SetPingInterval(made, mine.answer_timeout.count()));
  set(natsOptions_SetMaxPingsOut(made, 1));
  set(natsOptions_SetAllowReconnect(made, true));
  set(natsOptions_SetMaxReconnect(made, INT_MAX));
  set(natsOptions_SetReconnectWait(made, 200));
  set(natsOptions_SetReconnectJitter(made, 200, 500));
  // No message waits in libnats while it reconnects: it would go out before what is sent again.
  set(natsOptions_SetReconnectBufSize(made, 0));
  set(natsOptions_UseGlobalMessageDelivery(made, true)); // no thread for each subscription
  set(natsOptions_SetErrorHandler(made, on_error, to));
  set(natsOptions_SetDisconnectedCB(made, on_down, to));
  set(natsOptions_SetClosedCB(made, on_closed, to));
  set(natsOptions_SetReconnectedCB(made, on_up, to));
  // It tells no reasons when it goes on by itself, and ends when it is refused: then it is asked for one.
  set(natsOptions_SetRetryOnFailedConnect(made, !alone_, on_up, to));
  if (state_->target.secure)
    set(natsOptions_SetSecure(made, true));
  const auto &to_say = state_->target;
  if (!to_say.token.empty())
    set(natsOptions_SetToken(made, to_say.token.c_str()));
  else if (!to_say.user.empty())
    set(natsOptions_SetUserInfo(made, to_say.user.c_str(), to_say.password.c_str()));
  if (!mine.ca_file.empty())
    set(natsOptions_LoadCATrustedCertificates(made, mine.ca_file.c_str()));
  if (!mine.credentials_file.empty())
    set(natsOptions_SetUserCredentialsFromFiles(made, mine.credentials_file.c_str(), nullptr));
  if (s != NATS_OK)
    return failure(error::bad_option, stage::configure,
                   "libnats refuses nats_options: " + last_error(s));
  s = natsConnection_Connect(&state_->connection, made);
  const bool nobody = s == NATS_NO_SERVER || s == NATS_TIMEOUT || s == NATS_IO_ERROR;
  was_alone_ = alone_;
  alone_ = !(was_alone_ && nobody);
  if (s == NATS_OK)
    tell_up(state_->connection, to);
  else if (s != NATS_NOT_YET_CONNECTED)
    return failure(error::lost, stage::open,
                   "the NATS server " + std::string(nobody ? "is not there: " : "refuses: ") +
                       last_error(s));
  return {};
}

bool nats_link::open() const {
  return state_->connection &&
         natsConnection_Status(state_->connection) == NATS_CONN_STATUS_CONNECTED;
}

std::vector<nats_event> nats_link::take() {
  auto all = inbox_->take();
  for (const auto &e : all)
    if (e.what == nats_event::kind::up)
      state_->known = e.sequence;
  return all;
}

result<> nats_link::publish(const std::string &subject, const std::string &reply,
                            std::string_view body, const nats_headers &headers) {
  // On a connection that is not known to be another one this would overtake what has gone with the one before.
  if (!state_->connection || reconnects(state_->connection) != state_->known)
    return trouble(NATS_CONNECTION_DISCONNECTED);
  natsMsg *made = nullptr;
  auto s = natsMsg_Create(&made, subject.c_str(), reply.empty() ? nullptr : reply.c_str(),
                          body.empty() ? nullptr : body.data(), static_cast<int>(body.size()));
  const std::unique_ptr<natsMsg, decltype(&natsMsg_Destroy)> m(made, natsMsg_Destroy);
  for (const auto &[name, value] : headers)
    if (s == NATS_OK)
      s = natsMsgHeader_Set(made, name.c_str(), value.c_str());
  if (s == NATS_OK)
    s = natsConnection_PublishMsg(state_->connection, made);
  if (s != NATS_OK)
    return trouble(s);
  return {};
}

result<std::shared_ptr<nats_link::subscription>> nats_link::subscribe(const std::string &subject) {
  if (!state_->connection)
    return trouble(NATS_CONNECTION_CLOSED);
  natsSubscription *made = nullptr;
  if (const auto s = natsConnection_Subscribe(&made, state_->connection, subject.c_str(),
                                              on_message, state_->to());
      s != NATS_OK)
    return trouble(s);
  return std::make_shared<subscription>(made);
}

} // namespace chorus::detail
