#include <chorus/cluster/redis_calls.hpp>

#include <chorus/cluster/redis_protocol.hpp>
#include <chorus/cluster/wire.hpp>

#include <algorithm>
#include <charconv>
#include <iterator>

namespace chorus::detail {

namespace {

// Up to the next space, which goes as well.
std::string_view take_word(std::string_view &left) {
  const auto space = left.find(' ');
  const auto word = left.substr(0, space);
  left.remove_prefix(space == std::string_view::npos ? left.size() : space + 1);
  return word;
}

bool read_number(std::string_view word, std::uint64_t &n) {
  const auto *const end = word.data() + word.size();
  const auto [at, ec] = std::from_chars(word.data(), end, n);
  return ec == std::errc() && at == end;
}

failure_detail detail_of(const failure &why) {
  auto detail = why.detail();
  if (detail.sentence.empty())
    detail.sentence = why.message();
  return detail;
}

} // namespace

failure why_not(const redis_outcome &o) {
  switch (o.is) {
  case redis_outcome::kind::answered:
    return o.reply.is == redis_reply::type::error ? refused_by_redis(o.reply.text) : failure();
  case redis_outcome::kind::not_done:
    if (o.why == error::queue_full)
      return o.why;
    // However it is away: other codes would say something else of the call, as not_open of a lease.
    if (o.why.code())
      return failure(make_error_code(error::lost), detail_of(o.why));
    return failure(error::lost, stage::none, "Redis is away");
  case redis_outcome::kind::unknown:
  case redis_outcome::kind::doubtful:
    break;
  }
  if (o.why.code())
    return failure(error::lost, stage::none,
                   "the connection to Redis was lost before the answer: " + o.why.message());
  return failure(error::lost, stage::none, "the connection to Redis was lost before the answer");
}

failure refused_by_redis(const std::string &error_text) {
  const std::string_view text = error_text;
  const auto is = [&](std::string_view code) { return text.starts_with(code); };
  failure_detail detail;
  detail.sentence = "Redis refused: " + error_text;
  auto code = error::bad_option;
  if (is("OOM")) {
    code = error::lost;
    detail.hint = "it has no memory left: raise its maxmemory, or keep less history";
  } else if (is("MISCONF")) {
    code = error::lost;
    detail.hint = "it can't write its data to disk: see its log";
  } else if (is("READONLY")) {
    code = error::lost;
    detail.hint = "it is a replica: name the master, or use redis+sentinel://";
  } else if (is("NOPERM") || is("ERR The user executing the script can't")) {
    detail.hint =
        "its user needs the keys and channels of the prefix (~chorus:* &chorus:*) and the "
        "commands of scripts, streams, hashes, sets and PUBLISH";
  } else if (is("WRONGTYPE")) {
    detail.hint = "something else uses keys with this prefix: set redis_options::prefix";
  } else if (is("NOREPLICAS") || is("LOADING") || is("CLUSTERDOWN") || is("MASTERDOWN") ||
             is("TRYAGAIN") || is("BUSY") || is("NOSCRIPT")) {
    code = error::lost;
    detail.hint = "it can't now; it is asked again with the next call";
  } else {
    detail.hint = "Redis 7.0 or later is needed, with scripts";
  }
  return failure(make_error_code(code), std::move(detail));
}

bool is_not_executed(const redis_reply &r) {
  constexpr std::string_view codes[] = {"BUSY",     "CLUSTERDOWN", "TRYAGAIN",
                                        "NOSCRIPT", "LOADING",     "MASTERDOWN",
                                        "READONLY", "MOVED",       "ASK"};
  return std::any_of(std::begin(codes), std::end(codes),
                     [&](std::string_view code) { return is_redis_error(r, code); });
}

failure redis_nonsense() {
  return failure(error::protocol, stage::none,
                 "Redis' answer is not what this version's scripts give");
}

redis_news read_redis_news(std::string_view payload) {
  redis_news news;
  if (payload.empty())
    return news;
  const char form = payload.front();
  payload.remove_prefix(1);
  if (form == 'g')
    news.is = redis_news::kind::gap;
  if (form == 'p')
    news.is = redis_news::kind::passing;
  news.rest = payload;
  if (form != 'm' && form != 'c')
    return news;
  news.epoch = take_word(payload);
  if (!read_number(take_word(payload), news.offset))
    return news;
  if (form == 'm') {
    if (!read_number(take_word(payload), news.before))
      return news;
    news.is = redis_news::kind::kept;
  } else {
    if (payload.empty())
      return news;
    news.is = payload.front() == '+' ? redis_news::kind::entered : redis_news::kind::left;
    payload.remove_prefix(1);
  }
  news.rest = payload;
  return news;
}

result<broker_member> read_present(std::string_view value) {
  std::uint64_t incarnation = 0;
  std::uint64_t offset = 0;
  if (!read_number(take_word(value), incarnation) || !read_number(take_word(value), offset))
    return redis_nonsense();
  auto who = read_broker_member(value);
  if (who.has_value())
    who->at = offset;
  return who;
}

} // namespace chorus::detail
