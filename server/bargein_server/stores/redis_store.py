"""Store in a Redis or Valkey server, which many servers share.

A batch is one pipeline: each session's part is one script, which takes effect completely or not at all. One
connection writes, another one reads, so that a long list holds up no write.

Redis 6.2 and Valkey 7.2 are the oldest servers. It needs nothing but strings, hashes, lists, sorted sets and
scripts: no streams, no publish and subscribe, no blocking reads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from bargein_protocol import SessionId

from . import redis_scripts as scripts
from .interface import ListPlace, Outcome, StoredSession, StoreError, Summary, Write
from .redis_address import RedisAddress
from .redis_link import ANSWER_S, Command, RedisLink, call_of
from .redis_rows import arguments, keys_of, request_of, stored_session, summaries, uses
from .shared import Beat, MoveRequest, Node

log = logging.getLogger("bargein.store")

SCRIPTS = (
    scripts.WRITE, scripts.READ, scripts.CLAIM, scripts.DELETE, scripts.TOUCH, scripts.SUMMARY, scripts.USE,
    scripts.BEAT, scripts.ASK, scripts.RENAME,
)  # fmt: skip

TOMBSTONE_S = 3600.0
"""Time for which a deleted session cannot be written by an owner that has not noticed."""

GRACE_S = 7200.0
"""Time that keys outlive `keep_s`, so that a sweep each hour can keep what is in use."""

MARK_S = 86_400.0
"""Time after which the mark and the address of a node that is away are forgotten."""

ASK_S = 5.0
"""Time for which a request and its answer are kept."""

YOUNG_S = 1.0
"""Time after the store went back in which its records are not to be relied on."""

CLOCK_S = 0.5
"""Time of a beat above which its answer does not set the clock."""

_PAGE = 200


class RedisStore:
    """Store in a Redis or Valkey server; implements `SharedStore`.

    Args:
        address: The server.
        keep_s: Time after its last use for which a session is kept, in seconds.
    """

    def __init__(self, address: RedisAddress, keep_s: float) -> None:
        self.address = address
        self._ttl_ms = int((keep_s + GRACE_S) * 1000)
        self._connector, where = address.connector(), str(address)
        self._writer = RedisLink(self._connector.make, SCRIPTS, where)
        self._reader = RedisLink(self._connector.make, SCRIPTS, where)
        self._node: tuple[Node, float] | None = None
        self._sent = self._known = 0  # marks: sent so far, and the last that the store has answered
        self._rollback = self._started_at = 0.0
        self._ahead_s = 0.0  # of the server's clock before that of this machine
        self._forgot = False
        self._requests: list[tuple[MoveRequest, float]] = []  # and when the beat was sent that brought each

    def __str__(self) -> str:
        return str(self.address)

    # --- the interface ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and check the server's configuration."""
        await self._reader.connect()
        [info] = await self._reader.call([("INFO",)])
        self._started_at = time.monotonic() - self._check(info.decode("utf-8", "replace"))
        await self._writer.connect()

    async def write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write a batch in one pipeline."""
        calls = [
            call_of(scripts.WRITE, self._keys(write.session_id), *arguments(write, self._ttl_ms))
            for write in writes
        ]
        lists = [self._use(write) for write in writes if uses(write)]
        beats = [] if self._node is None else [self._beat(*self._node)]
        sent_at = time.monotonic()
        answers = await self._writer.call([*calls, *lists, *(command for _, command in beats)])
        for mark, _ in beats:
            self._beaten(mark, answers[-1], sent_at)
        return [Outcome(answer.decode()) for answer in answers[: len(calls)]]

    async def read(self, session_id: SessionId) -> StoredSession | None:
        """Return a session."""
        [answer] = await self._reader.call([call_of(scripts.READ, self._keys(session_id))])
        return stored_session(answer, self._rollback)

    async def claim(self, session_id: SessionId, expected: str, writes: int, fence: str) -> bool:
        """Change the owner of a session that is still as it was read."""
        keys = self._keys(session_id)
        [answer] = await self._writer.call([call_of(scripts.CLAIM, keys, expected, writes, fence)])
        return bool(answer)

    async def sessions(
        self,
        principal: str | None,
        *,
        every: bool = False,
        limit: int = 100,
        before: ListPlace | None = None,
    ) -> list[Summary]:
        """Return sessions, the last used first."""
        key = self._list("all") if every else self._list_of(principal)
        until = repr(before[0]) if before is not None else "+inf"
        found: list[Summary] = []
        at = 0
        while len(found) < limit:
            [names] = await self._reader.call(
                [("ZREVRANGEBYSCORE", key, until, "-inf", "LIMIT", at, min(limit, _PAGE))]
            )
            if not names:
                break
            at += len(names)
            ids = [SessionId(name.decode()) for name in names]
            calls = [call_of(scripts.SUMMARY, self._keys(each)) for each in ids]
            listed = summaries(ids, await self._reader.call(calls))
            found += [each for each in listed if before is None or (each.used_at, each.session_id) < before]
        return found[:limit]

    async def rename(self, session_id: SessionId, name: str | None) -> bool:
        """Name a session."""
        [answer] = await self._writer.call([call_of(scripts.RENAME, self._keys(session_id), name or "")])
        return bool(answer)

    async def delete(self, session_id: SessionId) -> bool:
        """Forget a session for good."""
        keys = self._keys(session_id)
        [answer] = await self._writer.call([call_of(scripts.DELETE, keys, int(TOMBSTONE_S * 1000), "")])
        await self._writer.call(self._unlist(session_id, answer[1]))
        return bool(answer[0])

    async def sweep(self, used_before: float, living: Sequence[SessionId]) -> int:
        """Forget sessions that were last used before a time.

        Other servers have living sessions as well: each keeps its own from being forgotten for two hours.
        """
        until = min(self.wall(), used_before + GRACE_S)
        for first in range(0, len(living), _PAGE):
            part = living[first : first + _PAGE]
            await self._reader.call(
                [call_of(scripts.TOUCH, self._keys(each), repr(until), self._ttl_ms) for each in part]
            )
        forgotten = at = 0
        while True:
            [names] = await self._reader.call(
                [("ZRANGEBYSCORE", self._list("all"), "-inf", f"({used_before!r}", "LIMIT", at, _PAGE)]
            )
            if not names:
                return forgotten
            ids = [SessionId(name.decode()) for name in names]
            calls = [call_of(scripts.DELETE, self._keys(each), 0, repr(used_before)) for each in ids]
            answers = await self._writer.call(calls)
            gone = [(each, answer) for each, answer in zip(ids, answers, strict=True) if answer]
            at += len(ids) - len(gone)
            forgotten += sum(answer[0] for _, answer in gone)
            unlisted = [command for each, answer in gone for command in self._unlist(each, answer[1])]
            if unlisted:
                await self._writer.call(unlisted)

    async def close(self) -> None:
        """Close the connections after all calls before."""
        await self._writer.close()
        await self._reader.close()
        await self._connector.close()

    # --- nodes -----------------------------------------------------------------------------------

    async def beat(self, node: Node, lease_s: float) -> Beat:
        """Renew the lease of a node."""
        self._node = (node, lease_s)
        # A connection that got lost is noticed, and made anew, within the lease.
        self._writer.answer_s = self._reader.answer_s = min(ANSWER_S, lease_s / 3)
        mark, command = self._beat(node, lease_s)
        sent_at = time.monotonic()
        [answer] = await self._writer.call([command])
        young_s = self._beaten(mark, answer, sent_at)
        forgot, self._forgot = self._forgot, False
        requests, self._requests = self._requests, []
        # The answer may have waited for this process, as one that stood still.
        now = time.monotonic()
        aged = [replace(each, age_s=each.age_s + now - sent_at) for each, sent_at in requests]
        return Beat(forgot, young_s, aged)

    def wall(self) -> float:
        """Return the server's time."""
        return time.time() + self._ahead_s

    async def leave(self, node: Node) -> None:
        """End the lease of a node."""
        self._node = None
        keys = [self._of_node(node.name, kind) for kind in ("lease", "mark")]
        await self._writer.call([("DEL", *keys, self._of_node(node.worker, "address"))])

    async def node(self, name: str) -> Node | None:
        """Return a node, None when its lease is over."""
        [address] = await self._reader.call([("GET", self._of_node(name, "lease"))])
        return None if address is None else Node(name, address.decode())

    async def last_address(self, worker: str) -> str:
        """Return the address of a worker's node, also after its lease."""
        [address] = await self._reader.call([("GET", self._of_node(worker, "address"))])
        return "" if address is None else str(address.decode())

    async def ask(self, name: str, request: MoveRequest) -> None:
        """Put a request into the mailbox of a node."""
        box = self._of_node(name, "asked")
        await self._reader.call([call_of(scripts.ASK, [box], request.encoded(), int(ASK_S * 1000))])

    async def answer(self, number: str, answer: str) -> None:
        """Answer a request."""
        await self._reader.call(
            [("SET", f"{self.address.prefix}answer:{number}", answer, "PX", int(ASK_S * 1000))]
        )

    async def answered(self, number: str) -> str | None:
        """Return the answer to a request."""
        [answer] = await self._reader.call([("GET", f"{self.address.prefix}answer:{number}")])
        return None if answer is None else str(answer.decode())

    # --- tickets ---------------------------------------------------------------------------------

    async def keep_ticket(
        self, digest: bytes, content: bytes, lifetime_s: float, dropped: Sequence[bytes] = ()
    ) -> None:
        """Keep a new ticket, and forget others."""
        commands: list[Command] = [
            ("SET", self._ticket(digest), content, "PX", max(1, int(lifetime_s * 1000)))
        ]
        commands += [("DEL", self._ticket(each)) for each in dropped]
        await self._reader.call(commands)

    async def take_ticket(self, digest: bytes) -> bytes | None:
        """Return the content of a ticket and forget it."""
        key = self._ticket(digest)
        content, deleted = await self._reader.call([("GET", key), ("DEL", key)])
        # Another server may have read it as well. Only one deletes it.
        return content if deleted == 1 else None

    # --- beats -----------------------------------------------------------------------------------

    def _beat(self, node: Node, lease_s: float) -> tuple[int, Command]:
        self._sent += 1
        keys = [
            self._of_node(node.name, "lease"),
            self._of_node(node.name, "mark"),
            f"{self.address.prefix}{{nodes}}:rollback",
            self._of_node(node.name, "asked"),
            self._of_node(node.worker, "address"),
        ]
        times = (int(lease_s * 1000), int(MARK_S * 1000), self._ttl_ms)
        command = call_of(scripts.BEAT, keys, self._known, self._sent, node.address, *times)
        return self._sent, command

    def _beaten(self, mark: int, answer: Any, sent_at: float) -> float:
        """Take the answer of a beat that was sent at a time.

        Returns:
            The seconds until the store is not young.
        """
        forgot, rollback, now, asked = answer
        self._known = mark
        if time.monotonic() - sent_at < CLOCK_S or not self._ahead_s:  # a late answer has an old time
            self._ahead_s = float(now) - time.time()
        self._forgot = self._forgot or bool(forgot)
        self._requests += [(request_of(each, float(now)), sent_at) for each in asked]
        self._rollback = float(rollback) if rollback else 0.0
        young_s = max(self._rollback - float(now), self._started_at - time.monotonic()) + YOUNG_S
        return max(0.0, young_s)

    # --- keys ------------------------------------------------------------------------------------

    def _keys(self, session_id: SessionId) -> tuple[str, str, str, str, str]:
        return keys_of(self.address.prefix, session_id)

    def _ticket(self, digest: bytes) -> str:
        return f"{self.address.prefix}ticket:{digest.hex()}"

    def _of_node(self, name: str, kind: str) -> str:
        return f"{self.address.prefix}{{nodes}}:{kind}:{name}"

    def _list(self, name: str) -> str:
        return f"{self.address.prefix}{{lists}}:{name}"

    def _list_of(self, principal: str | None) -> str:
        # A hash, because a principal may be an address of a person, and keys are shown by many tools.
        return self._list("-" if principal is None else sha256(principal.encode()).hexdigest()[:32])

    def _use(self, write: Write) -> Command:
        keys = (self._list("all"), self._list_of(write.principal))
        return call_of(scripts.USE, keys, repr(write.used_at), write.session_id, self._ttl_ms)

    def _unlist(self, session_id: SessionId, principal: bytes) -> list[Command]:
        whose = principal.decode()[1:] if principal[:1] == b"=" else None
        return [("ZREM", self._list("all"), session_id), ("ZREM", self._list_of(whose), session_id)]

    # --- the server's configuration ----------------------------------------------------------------

    def _check(self, info: str) -> float:
        """Refuse a server that evicts at random; warn of one without persistence.

        Returns:
            The seconds for which it has run.
        """
        facts = dict(line.split(":", 1) for line in info.split("\r\n") if ":" in line)
        version = facts.get("valkey_version") or facts.get("redis_version", "")
        oldest = (7, 2) if "valkey_version" in facts else (6, 2)
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if numbers and numbers < oldest:
            raise StoreError("old", f"{self} is of version {version}: use {oldest[0]}.{oldest[1]} or newer")
        policy = facts.get("maxmemory_policy", "")
        if policy.startswith("allkeys"):
            raise StoreError(
                "evicts", f"{self} drops keys that are in use: set its maxmemory-policy to noeviction"
            )
        if policy.startswith("volatile") and policy != "volatile-ttl":
            log.warning("%s may drop conversations when its memory is full: set noeviction", self)
        if facts.get("aof_enabled", "1") == "0":
            log.warning("%s loses conversations when it ends: set appendonly to yes", self)
        return float(facts.get("uptime_in_seconds", "3600"))
