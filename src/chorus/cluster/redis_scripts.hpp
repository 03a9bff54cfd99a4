#pragma once
// The scripts of the Redis broker and the names of its keys. Of a room R, all in one slot by the hash tag:
//
//   PREFIX{R}      channel
//   PREFIX{R}:s    stream: the id is the offset; p offset of the entry before, b bytes of all before, m message
//   PREFIX{R}:m    hash: e epoch, x the epoch that it ended, l last offset, c bytes ever put, b of those what
//                  was put before the oldest entry (at most), k what is kept: messages, age, bytes, time to live,
//                  r offset of the newest that was taken back
//   PREFIX{R}:p    hash of who is present: id to "INCARNATION OFFSET MEMBER"
//   PREFIX{R}:c    hash: e epoch and l last offset of the changes, nINCARNATION how many are present by it
//   PREFIX{R}:d    sorted set of dead incarnations, by the time of death
//
// and of nodes: PREFIX{nodes}:leases, :ended, :inc and :count, PREFIX{node/ID}:rooms:INCARNATION.
//
// An offset is (MS - 2020-01-01) * 4096 + SEQ of a stream's id MS-SEQ; changes have such offsets, too. So
// they grow even when Redis comes back with nothing, or with less than there was.

#include <chorus/cluster/redis_pool.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace chorus::detail {

// Keys live on for so long after the last message, or the last word of a server that listens; or longer.
inline constexpr std::chrono::milliseconds redis_least_life = std::chrono::hours(1);

struct redis_scripts {
  // KEYS s m; ARGV message, channel, verb, new epoch, messages, age, bytes, time to live, whether something was
  // there at the first attempt (1: it was, and this is not the first), an epoch and its newest offset that
  // are known to be given (empty and 0: none); last the trail's.
  // {offset, epoch, receivers}; offset 0: whether it was published before can't be known any more.
  redis_script publish;
  // KEYS s m; ARGV an offset, or -1 and since how many ms; messages and bytes of a page. What came after that:
  // {epoch, whether all of it is kept, last, where to go on (0: that is all), id, origin, ...}; an empty
  // epoch: nothing is there.
  redis_script look_up;
  // KEYS s m; ARGV epoch and offset, new epoch, channel, verb, time to live, messages and bytes of a page.
  // {epoch, last, trimmed, more, id, message, ...}
  redis_script history;
  // KEYS m; ARGV ended epoch, new epoch, channel, verb.
  redis_script begin_epoch;
  // KEYS s m; ARGV time to live of what was never published to: they are still in use.
  redis_script touch;

  // KEYS p c d; ARGV id, member, incarnation, most, channel, verb, new epoch. {what, how many it has}; what:
  // 0 nothing new, 1 told, -1 dead, -2 full.
  redis_script enter;
  // KEYS p c; ARGV id, the member's bytes up to its id, incarnation, channel, verb, new epoch. {how many it has}
  redis_script leave;
  // KEYS p c; ARGV cursor, new epoch, how many. {epoch, last, next cursor, "INCARNATION OFFSET MEMBER", ...}
  redis_script members;
  // KEYS p c d; ARGV incarnation, cursor, channel, verb, new epoch: all of a dead one go. Next cursor.
  redis_script remove;

  // KEYS leases inc count ended; ARGV node (empty: none), ms, whether to claim a dead one, for how long.
  // {had one, incarnation, "INCARNATION NODE" claimed or empty}
  redis_script renew;
  // KEYS rooms; ARGV room. 0: the incarnation is dead.
  redis_script add_room;
  // KEYS rooms; ARGV how many: no more are added from here on, and these are to be left.
  redis_script take_rooms;
};
const redis_scripts &all_redis_scripts();

struct redis_names {
  std::string prefix;

  std::string channel(std::string_view room) const;
  std::string key(std::string_view room, std::string_view of) const; // of: ":s" and so on
  std::string nodes(std::string_view of) const;
  std::string rooms(std::string_view node, std::string_view incarnation) const;
};

// Of a stream's id; 0 of what is none.
std::uint64_t redis_offset(std::string_view id);

} // namespace chorus::detail
