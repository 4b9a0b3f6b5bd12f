"""Membership of a server among the nodes that share its store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from types import SimpleNamespace

import msgspec
import pytest

from bargein_protocol import JSON, Cursor, Epoch, Resume, Seq, SessionId, SessionOpen, SessionOpened, Token
from bargein_protocol.errors import OVERLOADED
from bargein_server import Output, Turn
from bargein_server.core.records import Head
from bargein_server.hosting.keeper import Keeper
from bargein_server.hosting.membership import BEAT_S, FIRST_S, SLOW_S, Membership
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.hosting.restoring import NOT_NOW, NOTHING, NOTICED_S, Shown
from bargein_server.settings import Settings
from bargein_server.stores import redis_store
from bargein_server.stores.interface import Outcome, StoredSession, StoreError, Write
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_link import Command
from bargein_server.stores.redis_store import RedisStore
from bargein_server.stores.shared import MoveRequest
from bargein_server.transport.connection import Connection
from memory_client import FakeWire
from modelled_store import ModelledLink, modelled
from redis_model import RedisModel
from store_suite import S1, first
from waiting import in_virtual_time, until


async def _silent(turn: Turn) -> AsyncIterator[Output]:
    """Say nothing."""
    yield ""


def store_on(model: RedisModel) -> RedisStore:
    """Return a store on a model."""
    return modelled(RedisStore(RedisAddress((("model", 1),)), 1000.0), model)


@pytest.fixture(autouse=True)
def no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no node listen: a test that fails would leave its port open."""
    monkeypatch.setattr("bargein_server.hosting.membership._machine", lambda: "")


async def joined(store: RedisStore, name: str, lease_s: float = 5.0) -> Membership:
    """Return a membership after its first beat."""
    await store.open()
    membership = Membership(store, lease_s, name)
    await membership.join(after_outage=False)
    return membership


async def opened_line(sessions: SessionRegistry) -> tuple[Connection, SessionOpened]:
    """Open a session; return its connection and what its client was told."""
    wire = FakeWire()
    line = Connection(wire, JSON, sessions)
    line.receive(b'{"type":"session.open"}', True)
    opened = await until(lambda: wire.events[0] if wire.events else None)
    assert isinstance(opened, SessionOpened)
    return line, opened


async def test_a_node_that_has_left_beats_no_more() -> None:
    """Without its mark it would look as if the store had forgotten."""
    model = RedisModel(asyncio.get_running_loop().time)
    one, two = store_on(model), store_on(model)
    leaving, staying = await joined(one, "a"), await joined(two, "b")
    await leaving.leave()
    assert not await leaving.beat()
    assert await staying.find("a") == (None, "lease")
    assert (await two.beat(staying._node, 5.0)).young_s == 0.0
    await staying.leave()


async def test_a_node_whose_lease_was_over_compares_its_sessions() -> None:
    """Others may have claimed them while it stood still."""
    model = RedisModel(asyncio.get_running_loop().time)
    membership = await joined(store_on(model), "a", 0.05)
    assert not await membership.beat()
    await asyncio.sleep(0.06)
    assert await membership.beat()
    assert not await membership.beat()
    await membership.leave()


async def test_a_lease_counts_from_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a beat may have waited for a process that stood still, and the lease was over by then."""
    model = RedisModel(asyncio.get_running_loop().time)
    membership = await joined(store_on(model), "a", 0.05)
    call = ModelledLink.call

    async def waiting(link: ModelledLink, commands: Sequence[Command]) -> list[object]:
        answers = await call(link, commands)
        await asyncio.sleep(0.06)
        return answers

    with monkeypatch.context() as patched:
        patched.setattr(ModelledLink, "call", waiting)
        assert not await membership.beat()
    assert await membership.beat()
    assert not await membership.beat()
    await membership.leave()


async def test_a_new_node_relies_on_nothing_until_others_have_beaten() -> None:
    """Only those notice that the store was emptied who were there before."""
    model = RedisModel(asyncio.get_running_loop().time)
    membership = await joined(store_on(model), "a")
    assert membership.is_young
    began = asyncio.get_running_loop().time()
    await membership.settled()
    assert asyncio.get_running_loop().time() - began > FIRST_S / 2
    await membership.leave()


async def test_a_server_that_stops_claims_nothing() -> None:
    """Its client would be told of a session that is not stored any more."""
    model = RedisModel(asyncio.get_running_loop().time)
    store = store_on(model)
    keeper = Keeper(store, Settings(), asyncio.get_running_loop())
    await keeper.opened.wait()
    await store.write([first()])
    found = await keeper.read(SessionId(S1))
    assert found is not None
    await keeper.stop(asyncio.Event())
    assert await keeper.claim(SessionId(S1), found) is None
    assert not keeper.leases


async def test_a_server_that_stops_attaches_no_client() -> None:
    """The token that it would tell is not stored any more."""
    model = RedisModel(asyncio.get_running_loop().time)
    sessions = SessionRegistry(_silent, Settings(), store=store_on(model))
    assert sessions.keeper is not None
    await sessions.keeper.opened.wait()
    _, opened = await opened_line(sessions)
    stopping = asyncio.ensure_future(sessions.keeper.stop(asyncio.Event()))
    await asyncio.sleep(0)
    resume = Resume(
        session_id=opened.session_id, token=opened.token, cursor=Cursor(epoch=opened.epoch, seq=Seq(0))
    )
    late = FakeWire()
    Connection(late, JSON, sessions).receive(JSON.encode(SessionOpen(resume=resume)), True)
    await stopping
    for _ in range(10):
        await asyncio.sleep(0)
    assert late.closed is OVERLOADED
    assert not late.events


@pytest.mark.virtual_time
@pytest.mark.parametrize("end", ["comes back", "stays away", "hurried"])
async def test_a_server_that_ends_waits_for_a_shared_store_that_is_away(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """For a bounded time, unless it is to hurry: what it has not released waits for its lease."""
    loop, hurried = asyncio.get_running_loop(), asyncio.Event()
    model = RedisModel(loop.time)
    sessions = SessionRegistry(_silent, Settings(), store=store_on(model))
    keeper = sessions.keeper
    assert keeper is not None
    await keeper.opened.wait()
    wire = FakeWire()
    line = Connection(wire, JSON, sessions)
    line.receive(b'{"type":"session.open"}', True)
    opened = await in_virtual_time(lambda: wire.events[0] if wire.events else None)
    assert isinstance(opened, SessionOpened)
    line.disconnected()

    async def away(link: ModelledLink, commands: Sequence[Command]) -> list[object]:
        raise StoreError("unavailable", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(ModelledLink, "call", away)
        await in_virtual_time(lambda: not keeper.health.works)
        began = loop.time()
        stopping = asyncio.ensure_future(keeper.stop(hurried))
        await asyncio.sleep(3.0)
        if end == "hurried":
            hurried.set()
        if end != "comes back":
            await stopping
    await stopping
    assert 3.0 <= loop.time() - began < (5.2 if end == "stays away" else 3.6)
    found = await store_on(model).read(opened.session_id)
    assert found is not None
    assert found.stored.clean == (end == "comes back")


async def test_a_store_that_forgets_a_session_that_was_given_away_gets_it_again() -> None:
    """No process has it in memory until its next owner has read it."""
    model = RedisModel(asyncio.get_running_loop().time)
    sessions = SessionRegistry(_silent, Settings(), store=store_on(model))
    assert sessions.keeper is not None
    await sessions.keeper.opened.wait()
    line, opened = await opened_line(sessions)
    line.disconnected()
    [host] = sessions
    await sessions.release(host)
    assert not len(sessions)
    model.flush()
    await sessions.keeper.beat()
    await sessions.keeper.flush()
    found = await store_on(model).read(opened.session_id)
    assert found is not None
    assert found.stored.clean
    await sessions.keeper.stop(asyncio.Event())


class CountedModel(RedisModel):
    """A model that counts beats."""

    beats = 0

    def _beat(self, keys: list[str], args: list[bytes]) -> list[object]:
        self.beats += 1
        found: list[object] = super()._beat(keys, args)
        return found


async def test_searches_at_the_same_time_share_beats() -> None:
    """A thousand clients of a lost server would make the store late, and wait for that in turn."""
    model = CountedModel(asyncio.get_running_loop().time)
    sessions = SessionRegistry(_silent, Settings(), store=store_on(model))
    assert sessions.keeper is not None
    assert sessions.restorer is not None
    await sessions.keeper.opened.wait()
    before = model.beats
    await asyncio.gather(*(sessions.restorer._beat() for _ in range(100)))
    assert 1 <= model.beats - before < 10
    await sessions.keeper.stop(asyncio.Event())


@pytest.mark.parametrize("shown", [NOTHING, Shown(own_id=True)], ids=["token", "own id"])
async def test_a_session_that_a_late_answer_lacks_is_read_again(
    monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    """Its owner may have opened it while the store stood still, and a beat afterwards is fast."""
    model = RedisModel(asyncio.get_running_loop().time)
    store = store_on(model)
    sessions = SessionRegistry(_silent, Settings(), store=store)
    assert sessions.keeper is not None
    assert sessions.restorer is not None
    assert sessions.keeper.membership is not None
    await sessions.keeper.opened.wait()
    await sessions.keeper.membership.settled()
    read, answers = store.read, list[StoredSession | None]()

    async def late(session_id: SessionId) -> StoredSession | None:
        answers.append(found := await read(session_id))
        if len(answers) == 1:
            await asyncio.sleep(1.2 * SLOW_S)
            await store.write([first(used_at=time.time())])
        return found

    monkeypatch.setattr(store, "read", late)
    assert await sessions.restorer.restore(SessionId(S1), lambda head: True, shown) is None
    assert answers[0] is None
    assert answers[-1] is not None
    assert len(sessions) == 1
    await sessions.keeper.stop(asyncio.Event())


async def test_a_comparison_waits_for_no_other_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is under way when the store is seen to have forgotten does not delay it for ever."""
    loop = asyncio.get_running_loop()
    store = store_on(RedisModel(loop.time))
    sessions = SessionRegistry(_silent, Settings(), store=store)
    keeper = sessions.keeper
    assert keeper is not None
    await keeper.opened.wait()
    wire = FakeWire()
    Connection(wire, JSON, sessions).receive(b'{"type":"session.open"}', True)
    await until(lambda: wire.events)
    write, began, goes_on, written = store.write, asyncio.Event(), asyncio.Event(), list[int]()

    async def slow(writes: Sequence[Write]) -> list[Outcome]:
        written.append(len(writes))
        began.set()
        await goes_on.wait()
        return await write(writes)

    monkeypatch.setattr(store, "write", slow)
    keeper._compare(keeper.leases)
    await began.wait()
    keeper._compare(keeper.leases)
    goes_on.set()
    await until(lambda: keeper._writing is None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert written == [1, 1]
    await keeper.stop(asyncio.Event())


@pytest.mark.virtual_time
async def test_an_unknown_session_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has just forgotten shows that to the nodes whose records it had, at their next beat."""
    loop = asyncio.get_running_loop()
    store = store_on(RedisModel(loop.time))
    sessions = SessionRegistry(_silent, Settings(), store=store)
    assert sessions.keeper is not None
    assert sessions.restorer is not None
    assert sessions.keeper.membership is not None
    await sessions.keeper.opened.wait()
    await sessions.keeper.membership.settled()

    async def write_anew() -> None:
        await asyncio.sleep(BEAT_S)
        await store.write([first(used_at=time.time())])

    owner = asyncio.create_task(write_anew())
    assert await sessions.restorer.restore(SessionId(S1), lambda head: True, NOTHING) is None
    assert len(sessions) == 1
    await owner
    await sessions.keeper.stop(asyncio.Event())


@pytest.mark.virtual_time
async def test_a_new_conversation_by_an_own_id_does_not_wait() -> None:
    """Its session is unknown as a rule."""
    loop = asyncio.get_running_loop()
    sessions = SessionRegistry(_silent, Settings(), store=store_on(RedisModel(loop.time)))
    assert sessions.keeper is not None
    assert sessions.keeper.membership is not None
    await sessions.keeper.opened.wait()
    await sessions.keeper.membership.settled()
    began = loop.time()
    assert await sessions.own_ids.find(None, "mine") is None
    assert loop.time() - began < NOTICED_S
    await sessions.keeper.stop(asyncio.Event())


@pytest.mark.virtual_time
async def test_a_request_is_older_by_the_time_for_which_its_beat_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node that stood still would give a session of a newer connection away."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(redis_store, "time", SimpleNamespace(time=loop.time, monotonic=loop.time))
    model = RedisModel(loop.time)
    store = store_on(model)
    membership = await joined(store, "a")
    ages = list[float]()

    async def asked(request: MoveRequest) -> str:
        ages.append(request.age_s)
        return "busy"

    membership.asked = asked

    class LateLink(ModelledLink):
        async def call(self, commands: Sequence[Command]) -> list[object]:
            answers = await super().call(commands)
            await asyncio.sleep(2.0)
            return answers

    monkeypatch.setattr(store, "_writer", LateLink(model))
    await store.ask("a", MoveRequest("1", SessionId(S1), None, b"", 0.5))
    await membership.beat()
    await until(lambda: len(ages) == 1)
    assert 2.4 < ages[0] < 2.7
    await store.ask("a", MoveRequest("2", SessionId(S1), None, b"", 0.5))
    await store.write([])  # carries a beat
    await membership.beat()
    await until(lambda: len(ages) == 2)
    assert 4.4 < ages[1] < 4.7
    await membership.leave()


async def test_nobody_is_refused_while_the_store_cannot_compare() -> None:
    """The session may be another server's by now, with a newer token."""
    loop = asyncio.get_running_loop()
    sessions = SessionRegistry(_silent, Settings(), store=store_on(RedisModel(loop.time)))
    keeper, restorer = sessions.keeper, sessions.restorer
    assert keeper is not None
    assert restorer is not None
    await keeper.opened.wait()
    wire = FakeWire()
    Connection(wire, JSON, sessions).receive(b'{"type":"session.open"}', True)
    await until(lambda: wire.events)
    opened = wire.events[0]
    assert isinstance(opened, SessionOpened)
    cursor = Cursor(epoch=opened.epoch, seq=Seq(0))
    wrong = Resume(session_id=opened.session_id, token=Token("wrong"), cursor=cursor)
    assert await restorer.restore_resumed(wrong, None) is None
    keeper.health.failed(StoreError("unavailable", "it is away"))
    assert await restorer.restore_resumed(wrong, None) is NOT_NOW
    await keeper.stop(asyncio.Event())


async def test_a_new_server_whose_clock_is_ahead_admits_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's clock decides how long a previous token is valid; it is known after the first beat."""
    loop = asyncio.get_running_loop()
    model = RedisModel(loop.time)
    monkeypatch.setattr(redis_store, "time", SimpleNamespace(time=loop.time, monotonic=loop.time))
    shown = Token("the token of the client")
    head = Head(
        SessionId(S1),
        Epoch("e"),
        token=b"hash of a newer token, which no client has",
        previous=sha256(shown.encode()).digest(),
        previous_until=loop.time() + 60.0,
        confirmed=False,
    )
    store = store_on(model)
    await store.open()
    await store.write([first(used_at=loop.time(), head=msgspec.json.encode(head))])
    ahead = SimpleNamespace(time=lambda: loop.time() + 7200.0, monotonic=loop.time)
    monkeypatch.setattr(redis_store, "time", ahead)
    sessions = SessionRegistry(_silent, Settings(), store=store_on(model))
    assert sessions.keeper is not None
    assert sessions.restorer is not None
    resume = Resume(session_id=SessionId(S1), token=shown, cursor=Cursor(epoch=Epoch("e"), seq=Seq(0)))
    assert await sessions.restorer.restore_resumed(resume, None) is None
    assert sessions.has(SessionId(S1))
    await sessions.keeper.stop(asyncio.Event())


async def test_times_of_records_are_those_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other servers compare them, and their clocks may differ by hours."""
    loop = asyncio.get_running_loop()
    model = RedisModel(lambda: 1_000_000.0 + loop.time())
    slow = SimpleNamespace(time=lambda: 990_000.0 + loop.time(), monotonic=loop.time)
    monkeypatch.setattr(redis_store, "time", slow)
    sessions = SessionRegistry(_silent, Settings(), store=store_on(model))
    assert sessions.keeper is not None
    await sessions.keeper.opened.wait()
    assert abs(sessions.wall() - 1_000_000.0 - loop.time()) < 60.0
    await sessions.keeper.stop(asyncio.Event())
