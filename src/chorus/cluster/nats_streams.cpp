#include <chorus/cluster/nats_streams.hpp>

#include <chorus/base/base64.hpp>
#include <chorus/server/history.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <cstdio>

namespace chorus::detail {

namespace {

namespace json = boost::json;

constexpr std::size_t most_policies = 64;

std::uint64_t number(const json::object &o, std::string_view name) {
  const auto *v = o.if_contains(name);
  return !v               ? 0
         : v->is_int64()  ? static_cast<std::uint64_t>(v->get_int64())
         : v->is_uint64() ? v->get_uint64()
                          : 0;
}

std::string text_of(const json::object &o, std::string_view name) {
  const auto *v = o.if_contains(name);
  return v && v->is_string() ? std::string(v->get_string()) : std::string();
}

const json::object &part(const json::object &o, std::string_view name) {
  static const json::object none;
  const auto *v = o.if_contains(name);
  return v && v->is_object() ? v->get_object() : none;
}

} // namespace

std::string nats_stream::tag() const {
  std::uint64_t hash = 14695981039346656037U; // FNV-1a
  for (const char c : created + "/" + life)
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

nats_streams::nats_streams(nats_core &core) : core_(core) {
  const auto one = [&](nats_stream &s, const char *letter, const char *subjects, const char *told) {
    s.name = core.options().prefix + "-" + letter;
    s.subjects = core.subject(subjects);
    s.told = core.subject(told);
    s.keep.messages = 1;
  };
  one(records_, "e", "e.*", "x.{{wildcard(1)}}");
  one(presence_, "p", "p.*.*", "o.{{wildcard(1)}}.p.{{wildcard(2)}}");
  one(leases_, "l", "l.*", "y.{{wildcard(1)}}");
}

nats_stream *nats_streams::kept(const std::string &policy) {
  auto &s = kept_[policy];
  if (s)
    return s.get();
  const auto terms = parse_nats_policy(policy);
  if (terms.has_error() || kept_.size() > most_policies) {
    kept_.erase(policy);
    return nullptr;
  }
  s = std::make_unique<nats_stream>();
  s->name = core_.options().prefix + "-h-" + policy;
  s->subjects = core_.subject("h." + policy + ".*");
  s->told = core_.subject("o.{{wildcard(1)}}.h");
  s->keep = *terms;
  return s.get();
}

std::string nats_streams::configuration(const nats_stream &s) const {
  const auto &o = core_.options();
  std::int64_t age = 0;
  if (s.keep.milliseconds != 0)
    age = std::max<std::int64_t>(static_cast<std::int64_t>(s.keep.milliseconds), 100);
  else if (s.name.find("-h-", o.prefix.size()) == o.prefix.size())
    age = std::chrono::milliseconds(o.longest_kept).count();
  // Twice the time for which a message is sent again, which is less where JetStream allows no more than
  // the age.
  auto window = 2 * static_cast<std::int64_t>(o.look_up_timeout.count());
  if (age != 0)
    window = std::min(window, age);
  json::object c;
  c["name"] = s.name;
  c["subjects"] = json::array{json::value(s.subjects)};
  c["retention"] = "limits";
  c["discard"] = "old";
  c["storage"] = o.in_memory ? "memory" : "file";
  c["num_replicas"] = o.replicas;
  c["max_msgs_per_subject"] =
      s.keep.messages == 0 ? std::int64_t{-1} : static_cast<std::int64_t>(s.keep.messages);
  c["max_age"] = age * nats_nanoseconds;
  c["duplicate_window"] = std::max<std::int64_t>(window, 100) * nats_nanoseconds;
  c["republish"] = json::object{{"src", s.subjects}, {"dest", s.told}};
  return json::serialize(c);
}

nats_api nats_streams::parse(const nats_reply &r) {
  nats_api a;
  a.why = r.why;
  if (a.why.code())
    return a;
  if (r.status == 503) {
    a.code = nats_code::no_stream;
    a.why =
        failure(error::lost, stage::none,
                "JetStream does not answer: the NATS server runs without it (enable it with -js), "
                "or its cluster has no leader just now");
    return a;
  }
  boost::system::error_code ec;
  const auto v = json::parse(r.data, ec);
  if (ec || !v.is_object()) {
    a.why =
        failure(error::protocol, stage::none, "JetStream has answered something else than JSON");
    return a;
  }
  const auto &o = v.get_object();
  if (const auto &e = part(o, "error"); !e.empty()) {
    a.code = static_cast<int>(number(e, "err_code"));
    a.why = failure(error::lost, stage::none, "JetStream refuses: " + text_of(e, "description"));
    return a;
  }
  const auto &state = part(o, "state");
  a.first = number(state, "first_seq");
  a.last = number(state, "last_seq");
  for (const auto &[subject, n] : part(state, "subjects"))
    a.count += n.is_int64() ? static_cast<std::uint64_t>(n.get_int64()) : 0;
  a.sequence = number(o, "seq");
  a.waiting = number(o, "num_pending");
  a.created = text_of(o, "created");
  a.window = std::chrono::milliseconds(
      static_cast<std::int64_t>(number(part(o, "config"), "duplicate_window")) / nats_nanoseconds);
  a.name = text_of(o, "name");
  if (const auto &m = part(o, "message"); !m.empty()) {
    a.sequence = number(m, "seq");
    a.subject = text_of(m, "subject");
    a.data = from_base64(text_of(m, "data")).value_or("");
  }
  return a;
}

task<nats_api> nats_streams::api(std::string request, std::string body) {
  auto to = "$JS.API." + std::move(request);
  const auto r = co_await core_.ask(std::move(to), std::move(body), nats_headers());
  co_return parse(r);
}

task<result<>> nats_streams::restore() {
  doubt_all();
  // Not by iterators: others may be made meanwhile.
  std::vector<nats_stream *> all{&records_, &presence_, &leases_};
  for (const auto &[policy, s] : kept_)
    all.push_back(s.get());
  for (auto *const s : all) {
    auto r = co_await ensure(*s);
    if (r.has_error())
      co_return r;
  }
  co_return result<>();
}

void nats_streams::doubt_all() noexcept {
  records_.known = presence_.known = leases_.known = false;
  for (const auto &[policy, s] : kept_)
    s->known = false;
}

task<result<>> nats_streams::ensure(nats_stream &s) {
  if (s.known)
    co_return result<>();
  const auto generation = core_.generation();
  // The answer may be overtaken by that to a message that was put meanwhile.
  const auto had = s.last;
  auto made = co_await api("STREAM.CREATE." + s.name, configuration(s));
  // Made with other options, or changed by who looks after the server: theirs count. Of two that make it at
  // the same time one may be answered before the server knows when that was.
  if (made.code == nats_code::other_configuration || made.created.starts_with("0001-"))
    made = co_await api("STREAM.INFO." + s.name, std::string());
  if (!made.why.code() && s.created == made.created && made.last < had)
    made = co_await caught_up(s);
  if (made.why.code())
    co_return made.why;
  const bool same = s.created == made.created;
  const bool lost_some = same && made.last < had;
  s.last = same && !lost_some ? std::max(s.last, made.last) : made.last;
  s.created = made.created;
  s.window = made.window;
  auto r = co_await look_at_life(s, lost_some);
  if (r.has_error())
    co_return r;
  s.known = generation == core_.generation();
  s.proven = false;
  co_return result<>();
}

// A cluster's new leader may have acknowledged messages that it has not looked at yet. It has when it has
// purged something behind them, which is nothing here.
task<nats_api> nats_streams::caught_up(const nats_stream &s) {
  auto nobody = s.subjects;
  std::replace(nobody.begin(), nobody.end(), '*', '-');
  auto a = co_await purge(s, std::move(nobody), 0);
  if (!a.why.code())
    a = co_await api("STREAM.INFO." + s.name, std::string());
  co_return a;
}

// The server came back with older data: the first engine that sees it says so to all.
task<result<>> nats_streams::look_at_life(nats_stream &s, bool lost_some) {
  if (&s == &records_) {
    if (lost_some)
      s.life = random_epoch(); // of this engine's own
    co_return result<>();
  }
  const auto subject = core_.subject("e.L" + s.name);
  for (;;) {
    auto now = co_await last(records_, subject);
    if (now.has_error())
      co_return now.error();
    const bool told = now->sequence != s.life_at && now->sequence != 0;
    s.life = now->sequence == 0 ? "0" : now->data;
    s.life_at = now->sequence;
    if (!lost_some || told)
      co_return result<>();
    const auto put_now = co_await put(records_, subject, random_epoch(), now->sequence);
    if (put_now.why.code() && put_now.code != nats_code::wrong_last)
      co_return put_now.why;
  }
}

task<result<nats_entry>> nats_streams::last(const nats_stream &s, std::string subject) {
  json::object o;
  o["last_by_subj"] = std::move(subject);
  auto a = co_await api("STREAM.MSG.GET." + s.name, json::serialize(o));
  if (a.code == nats_code::no_message)
    co_return nats_entry();
  if (a.why.code())
    co_return a.why;
  nats_entry e;
  e.sequence = a.sequence;
  e.subject = std::move(a.subject);
  e.data = std::move(a.data);
  co_return e;
}

task<result<nats_entry>> nats_streams::next(const nats_stream &s, std::string subject,
                                            std::uint64_t from) {
  json::object o;
  o["seq"] = from;
  o["next_by_subj"] = std::move(subject);
  auto a = co_await api("STREAM.MSG.GET." + s.name, json::serialize(o));
  if (a.code == nats_code::no_message)
    co_return nats_entry();
  if (a.why.code())
    co_return a.why;
  nats_entry e;
  e.sequence = a.sequence;
  e.subject = std::move(a.subject);
  co_return e;
}

task<nats_api> nats_streams::state(const nats_stream &s, std::string subject) {
  json::object o;
  o["subjects_filter"] = std::move(subject);
  auto a = co_await api("STREAM.INFO." + s.name, json::serialize(o));
  co_return a;
}

task<nats_api> nats_streams::put(nats_stream &s, std::string subject, std::string body,
                                 std::uint64_t before) {
  nats_headers headers;
  headers.emplace_back("Nats-Expected-Last-Subject-Sequence", std::to_string(before));
  const auto r = co_await core_.ask(std::move(subject), std::move(body), std::move(headers));
  auto a = parse(r);
  if (a.code == nats_code::no_stream)
    doubt(s);
  else
    s.last = std::max(s.last, a.sequence);
  co_return a;
}

task<nats_api> nats_streams::purge(const nats_stream &s, std::string subject, std::uint64_t stays) {
  json::object o;
  o["filter"] = std::move(subject);
  o["seq"] = stays;
  auto a = co_await api("STREAM.PURGE." + s.name, json::serialize(o));
  co_return a;
}

void nats_streams::remove(const nats_stream &s, std::uint64_t sequence) {
  json::object o;
  o["seq"] = sequence;
  o["no_erase"] = true;
  core_.request("$JS.API.STREAM.MSG.DELETE." + s.name, json::serialize(o), {},
                [](const nats_reply &) {});
}

} // namespace chorus::detail
