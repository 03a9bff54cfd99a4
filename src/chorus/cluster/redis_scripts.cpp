#include <chorus/cluster/redis_scripts.hpp>

#include <charconv>

namespace chorus::detail {

namespace {

// Numbers pass as text by '%.0f': ".." would round them to 14 digits.
constexpr std::string_view prelude = R"lua(
local base = 1577836800000
local call = redis.call
local function now()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function text(n) return string.format('%.0f', n) end
local function id(o)
  local s = o % 4096
  return text((o - s) / 4096 + base) .. '-' .. text(s)
end
local function offset(i)
  local ms, s = string.match(i, '^(%d+)-(%d+)$')
  return (ms - base) * 4096 + s
end
local function following(l, t) return math.max(l + 1, (t - base) * 4096) end
)lua";

// XADD comes first: what refuses writes refuses it, and nothing has been done. What can't be published is
// taken back. What another process may have published is never published again: members would get it twice.
constexpr std::string_view publish_text = R"lua(
local s, m, message = KEYS[1], KEYS[2], ARGV[1]
local t = now()
local h = call('HMGET', m, 'e', 'l', 'c', 'b', 'k', 'x', 'r')
local e, l, c, b = h[1], tonumber(h[2] or 0), tonumber(h[3] or 0), tonumber(h[4] or 0)
if not e then
  e, l, c, b = ARGV[4], 0, 0, 0
  if call('EXISTS', s) == 1 then call('DEL', s) end
end
-- Another process may have published it, whose newest data may be lost; or it was here, and all has gone.
-- Before anything is written: what refuses writes would say that it was not published.
if ARGV[#ARGV] == '0' or (ARGV[9] == '1' and not h[1]) then return {0, e, 0} end
-- Redis has come back with older data: members of other nodes are told of that before they get more.
if h[1] and ARGV[10] == e and tonumber(ARGV[11]) > l then
  h[6], e, l = e, ARGV[4], tonumber(ARGV[11])
  call('HSET', m, 'e', e, 'x', h[6], 'y', text(l), 'l', text(l))
  redis.pcall(ARGV[3], ARGV[2], 'g')
end
-- The clock of a replica that has taken over may be behind.
local seen = 0
if ARGV[10] == e or ARGV[10] == h[6] or not h[1] then seen = tonumber(ARGV[11]) end
local o = following(math.max(l, seen, tonumber(h[7] or 0)), t)
call('XADD', s, id(o), 'p', text(l), 'b', text(c), 'm', message)
local told = redis.pcall(ARGV[3], ARGV[2],
  'm' .. e .. ' ' .. text(o) .. ' ' .. text(l) .. ' ' .. message)
if type(told) == 'table' then
  if h[1] then
    call('XDEL', s, id(o))
    call('HSET', m, 'r', text(o)) -- the stream takes no such id again
  else
    call('DEL', s)
  end
  return told
end
local most, age, bytes, lives = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
c = c + #message + 64
if most > 0 then call('XTRIM', s, 'MAXLEN', '~', most) end
if age > 0 then call('XTRIM', s, 'MINID', '~', id(math.max(0, (t - age - base) * 4096))) end
-- "b" grows only when it is looked at: trimming by number and age does not say how many bytes went.
while c - b > bytes do
  local some = call('XRANGE', s, '-', '+', 'COUNT', 16)
  if #some == 0 then b = c break end
  local stays
  for _, one in ipairs(some) do
    b = tonumber(one[2][4])
    if c - b <= bytes then stays = one[1] break end
  end
  if stays then
    call('XTRIM', s, 'MINID', '=', stays)
  else
    call('XTRIM', s, 'MINID', '=', id(offset(some[#some][1]) + 1))
    if #some < 16 then b = c end
  end
end
local k = ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. lives
if h[1] and h[5] == k then
  call('HSET', m, 'l', text(o), 'c', text(c), 'b', text(b))
else
  call('HSET', m, 'e', e, 'l', text(o), 'c', text(c), 'b', text(b), 'k', k)
end
call('PEXPIRE', s, lives)
call('PEXPIRE', m, lives)
return {o, e, told}
)lua";

// In pages, so that it never holds Redis up for long, and once for all that is looked for.
constexpr std::string_view look_up_text = R"lua(
local s = KEYS[1]
local h = call('HMGET', KEYS[2], 'e', 'l')
if not h[1] then return {'', 1, 0, 0} end
local l, from = tonumber(h[2] or 0), tonumber(ARGV[1])
if from < 0 or from > l then from = math.max(0, (now() - base - tonumber(ARGV[2])) * 4096) end
local first = call('XRANGE', s, '-', '+', 'COUNT', 1)[1]
local all = (first and tonumber(first[2][2]) or l) <= from
local page = {h[1], all and 1 or 0, l, 0}
local count, bytes, most, most_bytes = 0, 0, tonumber(ARGV[3]), tonumber(ARGV[4])
while count < most and bytes < most_bytes do
  local some = call('XRANGE', s, '(' .. id(from), '+', 'COUNT', 16)
  if #some == 0 then return page end
  for _, one in ipairs(some) do
    local message = one[2][6]
    local size, at = string.byte(message, 3) or 0, 4
    if size >= 128 then size, at = size - 128 + 128 * (string.byte(message, 4) or 0), 5 end
    page[#page + 1] = one[1]
    page[#page + 1] = string.sub(message, at, at + size - 1)
    bytes = bytes + #message
  end
  count = count + #some
  from = offset(some[#some][1])
end
page[4] = from
return page
)lua";

// An offset that was given and is neither here nor trimmed has been lost: Redis has come back with older
// data. That ends the epoch, once for all that was given by then ("y"), and no offset is given twice.
constexpr std::string_view history_text = R"lua(
local s, m = KEYS[1], KEYS[2]
local h = call('HMGET', m, 'e', 'l', 'x', 'k', 'y')
local e, l, x, y = h[1], tonumber(h[2] or 0), h[3], tonumber(h[5] or 0)
if not e then
  if call('EXISTS', s) == 1 then call('DEL', s) end
  call('HSET', m, 'e', ARGV[3], 'l', 0, 'c', 0, 'b', 0)
  call('PEXPIRE', m, ARGV[6])
  return {ARGV[3], 0, 0, 0}
end
if h[4] then
  local most, age = string.match(h[4], '^(%d+) (%d+)')
  if tonumber(most) > 0 then call('XTRIM', s, 'MAXLEN', '=', most) end
  if tonumber(age) > 0 then
    call('XTRIM', s, 'MINID', '=', id(math.max(0, (now() - age - base) * 4096)))
  end
else
  call('PEXPIRE', m, ARGV[6]) -- nothing was published yet
end
local first = call('XRANGE', s, '-', '+', 'COUNT', 1)[1]
local trimmed = first and tonumber(first[2][2]) or l
local after = 0
if ARGV[1] == e or ARGV[1] == x then after = tonumber(ARGV[2]) end
local lost = ARGV[1] == e and after > trimmed and after > y and
  #call('XRANGE', s, id(after), id(after)) == 0
if after > l then
  l = after
  call('HSET', m, 'l', text(l))
end
if lost then
  x, e = e, ARGV[3]
  call('HSET', m, 'e', e, 'x', x, 'y', text(l))
  call(ARGV[5], ARGV[4], 'g')
end
local page = {e, l, trimmed, 0}
local count, bytes, most, most_bytes = 0, 0, tonumber(ARGV[7]), tonumber(ARGV[8])
while count < most and bytes < most_bytes do
  local some = call('XRANGE', s, '(' .. id(after), '+', 'COUNT', math.min(16, most - count))
  if #some == 0 then return page end
  for _, one in ipairs(some) do
    page[#page + 1] = one[1]
    page[#page + 1] = one[2][6]
    count = count + 1
    bytes = bytes + #one[2][6]
    after = offset(one[1])
    if bytes >= most_bytes then break end
  end
end
if after < l then page[4] = 1 end
return page
)lua";

constexpr std::string_view begin_epoch_text = R"lua(
if call('HGET', KEYS[1], 'e') ~= ARGV[1] then return 0 end
call('HSET', KEYS[1], 'e', ARGV[2], 'x', ARGV[1])
call(ARGV[4], ARGV[3], 'g')
return 1
)lua";

constexpr std::string_view touch_text = R"lua(
local k = call('HGET', KEYS[2], 'k')
local lives = k and string.match(k, ' (%d+)$') or ARGV[1]
call('PEXPIRE', KEYS[1], lives)
return call('PEXPIRE', KEYS[2], lives)
)lua";

} // namespace

std::string redis_names::channel(std::string_view room) const { return key(room, {}); }

std::string redis_names::key(std::string_view room, std::string_view of) const {
  std::string made;
  made.reserve(prefix.size() + room.size() + of.size() + 2);
  made += prefix;
  made += '{';
  made += room;
  made += '}';
  made += of;
  return made;
}

std::string redis_names::nodes(std::string_view of) const { return key("nodes", of); }

std::string redis_names::rooms(std::string_view node, std::string_view incarnation) const {
  return key("node/" + std::string(node), ":rooms:" + std::string(incarnation));
}

std::uint64_t redis_offset(std::string_view id) {
  std::uint64_t ms = 0;
  std::uint64_t sequence = 0;
  const auto *const end = id.data() + id.size();
  const auto first = std::from_chars(id.data(), end, ms);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-')
    return 0;
  const auto second = std::from_chars(first.ptr + 1, end, sequence);
  constexpr std::uint64_t base = 1'577'836'800'000;
  if (second.ec != std::errc() || second.ptr != end || ms < base)
    return 0;
  return (ms - base) * 4096 + sequence;
}

// In redis_presence_scripts.cpp.
void make_presence_scripts(redis_scripts &all, std::string_view prelude);

const redis_scripts &all_redis_scripts() {
  static const redis_scripts all = [] {
    const auto make = [](std::string_view text) {
      return make_redis_script(std::string(prelude).append(text));
    };
    redis_scripts made;
    made.publish = make(publish_text);
    made.look_up = make(look_up_text);
    made.history = make(history_text);
    made.begin_epoch = make(begin_epoch_text);
    made.touch = make(touch_text);
    make_presence_scripts(made, prelude);
    return made;
  }();
  return all;
}

} // namespace chorus::detail
