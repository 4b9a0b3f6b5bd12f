"""A full server gives places of sessions that nobody uses to those who come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bargein_protocol import InputId, InputText, Ping
from bargein_protocol.errors import OVERLOADED
from bargein_server import Output, Turn
from bargein_server.hosting.registry import SessionRegistry
from memory_client import Line, serve


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
