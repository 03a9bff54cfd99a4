// The records of rooms with history: which epoch it is, and which stream has their messages.

#include <chorus/cluster/nats_rooms.hpp>

#include <chorus/server/history.hpp>

#include <utility>

namespace chorus::detail {

std::string nats_record::str() const {
  return epoch + " " + (ended.empty() ? "-" : ended) + " " + policy + " " + tag;
}

std::optional<nats_record> nats_record::parse(std::string_view text, std::uint64_t at) {
  const auto parts = split(text, ' ');
  if (parts.size() != 4 || parts[0].empty())
    return std::nullopt;
  nats_record r;
  r.epoch = parts[0];
  if (parts[1] != "-")
    r.ended = parts[1];
  r.policy = parts[2];
  r.tag = parts[3];
  r.at = at;
  return r;
}

task<result<nats_record>> nats_rooms::record_of(room r, std::string policy) {
  auto &streams = core_.streams();
  for (int attempt = 0; attempt < 16; ++attempt) {
    if (!r->record) {
      const auto subject = core_.subject("e." + r->token);
      const auto now = co_await streams.last(streams.records(), subject);
      if (now.has_error())
        co_return now.error();
      auto found = nats_record::parse(now->data, now->sequence);
      if (!found) { // none yet
        found.emplace();
        found->at = now->sequence;
      }
      if (!r->record || r->record->at < found->at)
        r->record = std::move(found);
    }
    auto wanted = *r->record;
    // Servers that are told otherwise may differ for a while: each says it once.
    if (!policy.empty() && wanted.policy != policy && !(wanted.policy != "-" && r->chose)) {
      if (wanted.policy != "-")
        wanted.epoch.clear();
      wanted.policy = policy;
      wanted.tag = "-";
    }
    if (wanted.policy != "-") {
      auto *const s = streams.kept(wanted.policy);
      if (!s)
        co_return failure(error::limit_reached, stage::none,
                          "there are too many policies of history for one NATS prefix");
      const auto there = co_await streams.ensure(*s);
      if (there.has_error())
        co_return there.error();
      if (wanted.tag != s->tag()) { // its numbers begin anew
        if (wanted.tag != "-")
          wanted.epoch.clear();
        wanted.tag = s->tag();
      }
    }
    if (wanted.epoch.empty()) {
      wanted.epoch = random_epoch();
      wanted.ended.clear();
    }
    if (!r->record || r->record->at != wanted.at)
      continue; // meanwhile
    if (wanted.str() == r->record->str())
      co_return wanted;
    const auto put = co_await streams.put(streams.records(), core_.subject("e." + r->token),
                                          wanted.str(), wanted.at);
    if (put.code == nats_code::wrong_last) {
      r->record.reset();
      continue;
    }
    if (put.why.code())
      co_return put.why;
    if (wanted.policy == policy)
      r->chose = true;
    wanted.at = put.sequence;
    if (!r->record || r->record->at < wanted.at) {
      const bool other = r->record && !r->record->epoch.empty() && r->record->epoch != wanted.epoch;
      r->record = wanted;
      if (other) {
        r->top = r->checked = 0;
        gap(r);
      }
    }
  }
  co_return failure(error::timed_out, stage::none, "the room's record changes all the time");
}

task<result<>> nats_rooms::end_epoch(room r, std::string ended) {
  auto &streams = core_.streams();
  for (int attempt = 0; attempt < 16; ++attempt) {
    const auto now = co_await record_of(r, {});
    if (now.has_error())
      co_return now.error();
    if (now->epoch != ended)
      co_return result<>(); // over already
    auto wanted = *now;
    wanted.ended = std::exchange(wanted.epoch, random_epoch());
    const auto put = co_await streams.put(streams.records(), core_.subject("e." + r->token),
                                          wanted.str(), now->at);
    if (!put.why.code()) {
      wanted.at = put.sequence;
      if (!r->record || r->record->at < wanted.at) {
        r->record = std::move(wanted);
        gap(r);
      }
      co_return result<>();
    }
    if (put.code != nats_code::wrong_last)
      co_return put.why;
    r->record.reset();
  }
  co_return failure(error::timed_out, stage::none, "the room's record changes all the time");
}

} // namespace chorus::detail
