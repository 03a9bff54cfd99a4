#include <chorus/cluster/redis_scripts.hpp>

namespace chorus::detail {

namespace {

// "c" must last as long as anybody is present, since it counts them; afterwards a day, so that offsets and
// the epoch go on for who still listens.
constexpr std::string_view presence_prelude = R"lua(
local function parts(v) return string.match(v, '^(%d+) (%d+) (.*)$') end
local function counted(c, incarnation, by)
  local n = call('HINCRBY', c, 'n' .. incarnation, by)
  if n <= 0 then call('HDEL', c, 'n' .. incarnation) end
  return n
end
local function place(c, fresh)
  local h = call('HMGET', c, 'e', 'l')
  if h[1] then return h[1], tonumber(h[2]) end
  call('HSET', c, 'e', fresh, 'l', 0)
  return fresh, 0
end
local function fade(p, c)
  if call('EXISTS', p) == 0 then call('PEXPIRE', c, 86400000) else call('PERSIST', c) end
end
)lua";

// Who is there with the same data but by an older incarnation of its node is there by the new one from here
// on, and nobody is told.
constexpr std::string_view enter_text = R"lua(
local p, c, d = KEYS[1], KEYS[2], KEYS[3]
local who, member, incarnation, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if call('ZSCORE', d, incarnation) then return {-1, 0} end
local v = call('HGET', p, who)
local of, at, was
if v then of, at, was = parts(v) end
if was == member and of == incarnation then
  return {0, tonumber(call('HGET', c, 'n' .. incarnation) or 0)}
end
if was ~= member and most > 0 and call('HLEN', p) - (v and 1 or 0) >= most then
  return {-2, tonumber(call('HGET', c, 'n' .. incarnation) or 0)}
end
local e, l = place(c, ARGV[7])
if was ~= member then at = text(following(l, now())) end
call('HSET', p, who, incarnation .. ' ' .. at .. ' ' .. member)
if of and of ~= incarnation then counted(c, of, -1) end
local n = counted(c, incarnation, of == incarnation and 0 or 1)
fade(p, c)
if was == member then return {0, n} end
call('HSET', c, 'l', at)
call(ARGV[6], ARGV[5], 'c' .. e .. ' ' .. at .. ' +' .. member)
return {1, n}
)lua";

// The member's bytes begin with its node.
constexpr std::string_view leave_text = R"lua(
local p, c, who, node, incarnation = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local v = call('HGET', p, who)
local of, at, was
if v then of, at, was = parts(v) end
if not was or string.sub(was, 1, #node) ~= node then
  return {tonumber(call('HGET', c, 'n' .. incarnation) or 0)}
end
call('HDEL', p, who)
local n = counted(c, of, -1)
if of ~= incarnation then n = tonumber(call('HGET', c, 'n' .. incarnation) or 0) end
local e, l = place(c, ARGV[6])
at = text(following(l, now()))
call('HSET', c, 'l', at)
fade(p, c)
call(ARGV[5], ARGV[4], 'c' .. e .. ' ' .. at .. ' -' .. was)
return {n}
)lua";

// In pages: who changes meanwhile is told as a change after "last", which is that of the first page.
constexpr std::string_view members_text = R"lua(
local p, c, cursor = KEYS[1], KEYS[2], ARGV[1]
local e, l
if call('EXISTS', c) == 0 then
  e, l = place(c, ARGV[2])
  fade(p, c)
else
  e, l = place(c, ARGV[2])
end
local page = {e, l, '0'}
local most = tonumber(ARGV[3])
repeat
  local r = call('HSCAN', p, cursor, 'COUNT', 256)
  cursor = r[1]
  for i = 2, #r[2], 2 do page[#page + 1] = r[2][i] end
until cursor == '0' or #page >= most
page[3] = cursor
return page
)lua";

constexpr std::string_view remove_text = R"lua(
local p, c, d, incarnation = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local t = now()
call('ZADD', d, text(t), incarnation)
call('ZREMRANGEBYSCORE', d, '-inf', text(t - 3600000))
call('PEXPIRE', d, 3600000)
local left = tonumber(call('HGET', c, 'n' .. incarnation) or 0)
if left <= 0 then return '0' end
local e, l = place(c, ARGV[5])
local r = call('HSCAN', p, ARGV[2], 'COUNT', 512)
for i = 1, #r[2], 2 do
  local of, at, was = parts(r[2][i + 1])
  if of == incarnation and call('HDEL', p, r[2][i]) == 1 then
    l = following(l, t)
    left = left - 1
    call(ARGV[4], ARGV[3], 'c' .. e .. ' ' .. text(l) .. ' -' .. was)
  end
end
call('HSET', c, 'l', text(l))
if left > 0 and r[1] ~= '0' then
  call('HSET', c, 'n' .. incarnation, left)
else
  call('HDEL', c, 'n' .. incarnation)
  r[1] = '0'
end
fade(p, c)
return r[1]
)lua";

// Incarnations are numbers that no other has, also when all else is lost: they follow the clock.
constexpr std::string_view renew_text = R"lua(
local leases, inc, count, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local node, alive, lasts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local t = now()
local had, own, claim = 0, '0', ''
local function finish(which, until_then)
  local one = (call('HGET', inc, which) or '0') .. ' ' .. which
  call('ZADD', ended, text(until_then), one)
  call('HDEL', inc, which)
  call('ZREM', leases, which)
  return one
end
if node ~= '' then
  own = call('HGET', inc, node) or '0'
  if own ~= '0' and call('ZSCORE', leases, node) then had = 1 end
  if alive > 0 then
    if had == 0 then
      own = text(math.max(tonumber(call('GET', count) or 0) + 1, t))
      call('SET', count, own)
      call('HSET', inc, node, own)
    end
    call('ZADD', leases, text(t + alive), node)
  elseif had == 1 then
    claim = finish(node, t + lasts)
  end
end
for _, one in ipairs(call('ZRANGEBYSCORE', leases, '-inf', '(' .. text(t), 'LIMIT', 0, 16)) do
  finish(one, 0)
end
if claim == '' and ARGV[3] == '1' then
  local one = call('ZRANGEBYSCORE', ended, '-inf', text(t), 'LIMIT', 0, 1)[1]
  if one then
    call('ZADD', ended, text(t + lasts), one)
    claim = one
  end
end
return {had, own, claim}
)lua";

// An empty name among the rooms: the incarnation is dead.
constexpr std::string_view add_room_text = R"lua(
if call('SISMEMBER', KEYS[1], '') == 1 then return 0 end
call('SADD', KEYS[1], ARGV[1])
return 1
)lua";

constexpr std::string_view take_rooms_text = R"lua(
call('SADD', KEYS[1], '')
call('PEXPIRE', KEYS[1], 3600000)
local rooms = {}
for _, one in ipairs(call('SRANDMEMBER', KEYS[1], ARGV[1])) do
  if one ~= '' then rooms[#rooms + 1] = one end
end
return rooms
)lua";

} // namespace

void make_presence_scripts(redis_scripts &all, std::string_view prelude) {
  const auto make = [&](std::string_view text, std::string_view flags = {}) {
    return make_redis_script(
        std::string(flags).append(prelude).append(presence_prelude).append(text));
  };
  // A Redis that is full of history must not make nodes look dead, nor keep those who have left.
  constexpr std::string_view full = "#!lua flags=allow-oom\n";
  all.enter = make(enter_text);
  all.leave = make(leave_text, full);
  all.members = make(members_text);
  all.remove = make(remove_text, full);
  all.renew = make(renew_text, full);
  all.add_room = make(add_room_text);
  all.take_rooms = make(take_rooms_text, full);
}

} // namespace chorus::detail
