"""Scripts of the Redis store, each one atomic step of the server.

All keys of a session have one hash tag, so a script stays in one slot. A session has:

- `{id}:m`, a hash: fence, number of writes, last number, clean, principal, created, used, head, version of
  the records, time of the last write by the clock of the store, name;
- `{id}:t`, a hash: each turn's place in the history and its record;
- `{id}:a`, a list: the last answers; `{id}:w`, a list: output of the turn that runs;
- `{id}:x`: set for a while after the session was deleted.
"""

from __future__ import annotations

from hashlib import sha1

from msgspec import Struct


class Script(Struct, frozen=True):
    """A script with the name that the server caches it by."""

    text: str

    @property
    def digest(self) -> str:
        """SHA-1 of the script, for `EVALSHA`."""
        return sha1(self.text.encode()).hexdigest()


_COUNTER = """
local function counter(fence) return tonumber(string.match(fence, '^%d+')) or 0 end
"""

_NOW = """
local function now()
    local time = redis.call('TIME')
    return string.format('%d.%06d', time[1], time[2])
end
"""

WRITE = Script(
    _COUNTER
    + _NOW
    + """
local fence, follows, whole, ttl = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local has = redis.call('HMGET', KEYS[1], 'f', 'w')
if not has[1] then
    if redis.call('EXISTS', KEYS[5]) == 1 then return 'closed' end
    if not whole then return 'behind' end
elseif has[1] ~= fence then
    if counter(has[1]) >= counter(fence) then return 'fenced' end
    if not whole then return 'behind' end
elseif not whole and has[2] ~= follows then
    return 'behind'
end
local meta = {'w', tostring(tonumber(follows) + 1), 'n', ARGV[5], 'k', now()}
local named = false
if whole then
    named = redis.call('HGET', KEYS[1], 'y')
    redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
end
local at = 6
local function take()
    local first = at + 1
    at = first + tonumber(ARGV[at])
    return first, at - 1
end
local from, to = take()
for i = from, to do meta[#meta + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], 'f', fence, unpack(meta))
if named then redis.call('HSET', KEYS[1], 'y', named) end
from, to = take()
for i = from, to, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
from, to = take()
for i = from, to do redis.call('HDEL', KEYS[2], ARGV[i]) end
from, to = take()
if to >= from then
    local kept = {}
    for _, piece in ipairs(redis.call('LRANGE', KEYS[4], 0, -1)) do
        local keep = true
        for i = from, to do
            local start = '["' .. ARGV[i] .. '",'
            if string.sub(piece, 1, #start) == start then keep = false end
        end
        if keep then kept[#kept + 1] = piece end
    end
    redis.call('DEL', KEYS[4])
    for _, piece in ipairs(kept) do redis.call('RPUSH', KEYS[4], piece) end
end
from, to = take()
for i = from, to do redis.call('RPUSH', KEYS[3], ARGV[i]) end
if to >= from and redis.call('LLEN', KEYS[3]) > 1280 then redis.call('LTRIM', KEYS[3], -1024, -1) end
from, to = take()
for i = from, to do
    if redis.call('RPUSH', KEYS[4], ARGV[i]) == 1 then redis.call('PEXPIRE', KEYS[4], ttl) end
end
if #meta > 6 then  -- more than the number of the write, the last number and the time
    for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ttl) end
end
return 'stored'
"""
)
"""Write a part of a session, or all of it, if its owner and its number of writes are as expected.

The lists in the arguments are preceded by their lengths: fields of the hash, turns, dropped turns, ended
turns, answers, pieces. Output alone does not touch the expiry, which is days away.
"""

READ = Script(
    """
local meta = redis.call('HMGET', KEYS[1], 'f', 'w', 'n', 'c', 'u', 'h', 'k', 'v', 'y')
if not meta[1] or not meta[6] then return false end
return {meta, redis.call('HVALS', KEYS[2]), redis.call('LRANGE', KEYS[3], -1024, -1),
    redis.call('LRANGE', KEYS[4], 0, -1)}
"""
)
"""Return all of a session as of one moment."""

CLAIM = Script(
    """
local has = redis.call('HMGET', KEYS[1], 'f', 'w')
if has[1] ~= ARGV[1] or has[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'f', ARGV[3], 'c', '0')
return 1
"""
)
"""Change the owner of a session that is as it was read."""

RENAME = Script(
    """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[1] == '' then redis.call('HDEL', KEYS[1], 'y') else redis.call('HSET', KEYS[1], 'y', ARGV[1]) end
return 1
"""
)
"""Name a session that is there; an empty name takes it away."""

DELETE = Script(
    """
local meta = redis.call('HMGET', KEYS[1], 'p', 'f', 'u')
if ARGV[2] ~= '' and meta[3] and tonumber(meta[3]) >= tonumber(ARGV[2]) then return 0 end
if ARGV[1] ~= '0' then redis.call('SET', KEYS[5], '1', 'PX', ARGV[1]) end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return {meta[2] and 1 or 0, meta[1] or ''}
"""
)
"""Delete a session; with a time, only if it was last used before."""

TOUCH = Script(
    """
local used = redis.call('HGET', KEYS[1], 'u')
if not used then return 0 end
if tonumber(used) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'u', ARGV[1]) end
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
return 1
"""
)
"""Keep a session that is in use from being forgotten."""

SUMMARY = Script(
    """
local meta = redis.call('HMGET', KEYS[1], 'f', 'p', 'b', 'u', 'y')
if not meta[1] then return false end
local first, turns = nil, redis.call('HVALS', KEYS[2])
local record = ''
for _, value in ipairs(turns) do
    local place, text = string.match(value, '^(%d+)\\n(.*)$')
    place = tonumber(place)
    if not first or place < first then first, record = place, text end
end
return {meta[2] or '', meta[3], meta[4], #turns, record, meta[5]}
"""
)
"""Return what a list shows of a session."""

USE = Script(
    """
for i = 1, 2 do
    redis.call('ZADD', KEYS[i], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 1
"""
)
"""Put a session into the lists of all sessions and of its principal."""

BEAT = Script(
    _NOW
    + """
local known, mark = tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[2]) or '0')
local forgot = known > 0 and mark < known
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[5])
redis.call('SET', KEYS[2], string.format('%d', math.max(mark, tonumber(ARGV[2]))), 'PX', ARGV[5])
if forgot then redis.call('SET', KEYS[3], now(), 'PX', ARGV[6]) end
local asked = redis.call('LRANGE', KEYS[4], 0, -1)
if #asked > 0 then redis.call('DEL', KEYS[4]) end
return {forgot and 1 or 0, redis.call('GET', KEYS[3]) or '', now(), asked}
"""
)
"""Renew the lease of a node; compare its mark, which shows a store that has forgotten; take its requests.

The beat of a connection that was given up may come behind one of the next connection: it sets nothing back.
"""

ASK = Script(
    _NOW
    + """
redis.call('RPUSH', KEYS[1], now() .. ' ' .. ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
)
"""Put a request into the mailbox of a node, behind the time and a space."""
