"""A full server gives places of sessions that nobody uses to those who come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bargein_protocol import ErrorEvent, InputId, InputRejected, InputText, Ping, SessionUpdate
from bargein_protocol.errors import AT_CAPACITY, OVERLOADED
from bargein_server import Output, Turn
from bargein_server.hosting.registry import SessionRegistry
from memory_client import Line, serve
from waiting import until


async def patient(turn: Turn) -> AsyncIterator[Output]:
    """Answers, or runs until it is ended."""
    yield "word "
    if turn.text == "stay":
        await asyncio.Event().wait()


def opened(sessions: SessionRegistry, address: str = "", *, away: bool = False) -> Line:
    line = Line(sessions, address)
    line.send(Ping(id="p"))
    if away:
        line.drop()
    return line


def is_full(sessions: SessionRegistry) -> bool:
    return sessions.full


def alive(sessions: SessionRegistry, *lines: Line) -> list[bool]:
    hosts = list(sessions)
    return [line.connection._host in hosts for line in lines]


async def test_the_longest_away_idle_session_makes_room() -> None:
    """Nobody is refused while there is one; sessions with a client, or with a turn, stay."""
    sessions = serve(patient, max_sessions=3, max_client_share=1)
    busy = opened(sessions)
    busy.send(InputText(id=InputId("i"), text="stay"))
    busy.drop()
    first, second = opened(sessions, away=True), opened(sessions, away=True)
    new = opened(sessions)
    assert alive(sessions, busy, first, second, new) == [True, False, True, True]
    newer = opened(sessions)
    assert alive(sessions, busy, second, new, newer) == [True, False, True, True]
    assert is_full(sessions)
    assert opened(sessions).wire.closed is OVERLOADED
    newer.drop()
    assert not is_full(sessions)
    assert alive(sessions, busy, new, newer, opened(sessions)) == [True, True, False, True]
    await sessions.shut_down()


async def test_a_client_with_many_sessions_gives_up_its_own() -> None:
    """21,000 requests of one address cost nobody else the session to which they want to come back."""
    sessions = serve(patient, max_sessions=8, max_client_share=0.75)
    others = [opened(sessions, address, away=True) for address in ("b", "c")]
    for _ in range(50):
        opened(sessions, "a", away=True)
    assert len(sessions) == 8
    assert alive(sessions, *others) == [True, True]
    newcomer = opened(sessions, "d")
    assert newcomer.wire.closed is None
    opened(sessions, "a")
    assert alive(sessions, others[1], newcomer) == [True, True]
    await sessions.shut_down()


async def test_a_session_that_came_back_is_not_idle() -> None:
    """It does not make room, and is forgotten in no table when it ends."""
    sessions = serve(patient, max_sessions=2, max_client_share=1)
    for _ in range(4):
        opened(sessions, "a", away=True)
    pool = sessions._hosts
    assert (len(pool), len(pool._away), pool._by_owner["address a"]) == (2, 2, 2)
    for host in sessions:
        host.act(host.core.expire)
    assert (len(pool), len(pool._away), len(pool._away_of), len(pool._by_owner)) == (0, 0, 0, 0)


KEPT = 40_000
"""Bytes that a session keeps after a long answer: its log and its history, with the frames around."""


async def talkative(turn: Turn) -> AsyncIterator[Output]:
    """Answers with as many characters as asked for."""
    yield "x" * int(turn.text)


async def conversed(sessions: SessionRegistry, address: str, *, away: bool = True) -> Line:
    line = Line(sessions, address)
    line.ask("10000")
    await line.until("turn.ended")
    await until(
        lambda: line.connection._host is None or not line.connection._host.tasks(), "the end of its task"
    )
    if away:
        line.drop()
    return line


async def test_what_sessions_keep_makes_idle_ones_end() -> None:
    """The longest away first; those with a client stay, and what they all keep is counted."""
    sessions = serve(talkative, max_kept_bytes=3 * KEPT, max_client_share=1)
    first, second = await conversed(sessions, "a"), await conversed(sessions, "b")
    stays = await conversed(sessions, "c", away=False)
    assert alive(sessions, first, second, stays) == [True, True, True]
    kept = sessions.kept_bytes
    assert 3 * 20_000 < kept < 3 * KEPT
    for number in range(5):
        await conversed(sessions, f"d{number}")
        assert sessions.kept_bytes <= 3 * KEPT
    assert alive(sessions, first, second, stays) == [False, False, True]
    assert not is_full(sessions)
    for host in sessions:
        host.act(host.core.expire)
    assert sessions.kept_bytes == 0


async def test_inputs_and_sessions_are_refused_when_no_session_can_end() -> None:
    """The inputs with a code that says when to try again; the others keep their answers."""
    alone = serve(talkative)
    await conversed(alone, "a")
    sessions = serve(talkative, max_kept_bytes=int(3.5 * alone.kept_bytes), max_client_share=1)
    lines = [await conversed(sessions, address, away=False) for address in "abcd"]
    assert is_full(sessions)
    lines[0].send(InputText(id=InputId("refused"), text="10"))
    lines[0].flush()
    answer = lines[0].events[-1]
    assert isinstance(answer, InputRejected)
    assert (answer.code, answer.retry_after_ms) == (AT_CAPACITY.name, 5000)
    assert opened(sessions).wire.closed is OVERLOADED
    lines[1].drop()
    assert not is_full(sessions)
    lines[0].ask("10")
    await lines[0].until("turn.ended")
    assert alive(sessions, *lines) == [True, False, True, True]
    await sessions.shut_down()


async def test_a_client_that_keeps_much_gives_up_its_own() -> None:
    """Its share is used; nobody else loses a session, and others are served."""
    sessions = serve(talkative, max_kept_bytes=8 * KEPT, max_client_share=0.5)
    other = await conversed(sessions, "b")
    greedy = [await conversed(sessions, "a") for _ in range(20)]
    assert alive(sessions, other) == [True]
    assert sum(alive(sessions, *greedy)) < 8
    newcomer = await conversed(sessions, "c")
    assert alive(sessions, other, newcomer) == [True, True]
    await sessions.shut_down()


async def test_inputs_that_wait_are_counted() -> None:
    """With their metadata, encoded; one too many is rejected."""
    sessions = serve(patient, max_kept_bytes=50_000, max_client_share=1, max_queued_inputs=64)
    line = opened(sessions)
    line.send(InputText(id=InputId("i"), text="stay"))
    empty: list[list[int]] = [[]] * 1000
    for number in range(20):
        line.send(InputText(id=InputId(f"q{number}"), text="", on_busy="queue", metadata={"a": empty}))
    answers = [type(event).__name__ for event in line.wire.events]
    assert answers.count("InputQueued") == 10
    assert answers[-1] == "InputRejected"
    assert sessions.kept_bytes >= 50_000
    await sessions.shut_down()


async def test_metadata_of_a_connected_client_counts_at_once() -> None:
    """What the server cannot keep is refused; to take something away is always possible."""
    sessions = serve(talkative, max_kept_bytes=10_000, max_client_share=1)
    line = opened(sessions)
    line.send(SessionUpdate(metadata={"a": "x" * 9_000}))
    assert 9_000 < sessions.kept_bytes < 10_000
    line.send(SessionUpdate(metadata={"b": "x" * 9_000}))
    assert sessions.kept_bytes > 18_000
    line.send(SessionUpdate(metadata={"c": "x"}))
    host = line.connection._host
    assert host is not None
    assert set(host.core.metadata) == {"a", "b"}
    assert isinstance(line.events[-1], ErrorEvent)
    line.send(SessionUpdate(metadata={"a": None}))
    assert set(host.core.metadata) == {"b"}
    assert sessions.kept_bytes < 10_000
    await sessions.shut_down()
