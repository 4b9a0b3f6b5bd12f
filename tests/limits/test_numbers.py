"""Every number of the settings: so many pass, one more does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bargein_protocol import (
    NO_SEQ,
    Cursor,
    InputAccepted,
    InputId,
    InputQueued,
    InputRejected,
    InputText,
    Ping,
    Pong,
    Resume,
    SessionOpen,
    SessionOpened,
    Snapshot,
)
from bargein_protocol.errors import FLOODED, OVERLOADED, SHARE_USED
from bargein_server import Output, Turn
from bargein_server.hosting.http_client import create_http_client
from bargein_server.transport.connection import RESENT_MESSAGES
from core_driver import Talk
from live_server import echo, serving
from memory_client import Line, serve
from model_server import Upstream
from waiting import until


async def patient(turn: Turn) -> AsyncIterator[Output]:
    """Says a word and waits for its end."""
    yield "word "
    await asyncio.Event().wait()


def answers(lines: list[Line]) -> list[str]:
    """What each line's input was answered."""
    kinds = (InputAccepted, InputQueued, InputRejected)
    tags = []
    for line in lines:
        [answer] = [event for event in line.events if isinstance(event, kinds)]
        tags.append(str(type(answer).__struct_config__.tag).removeprefix("input."))
    return tags


async def test_max_running_turns_and_max_waiting_turns() -> None:
    """So many run, so many wait, one more is rejected."""
    sessions = serve(patient, max_running_turns=2, max_waiting_turns=3)
    lines = [Line(sessions) for _ in range(6)]
    for number, line in enumerate(lines):
        line.send(InputText(id=InputId(f"i{number}"), text="x"))
    assert answers(lines) == ["accepted"] * 2 + ["queued"] * 3 + ["rejected"]
    [rejected] = [event for event in lines[-1].events if isinstance(event, InputRejected)]
    assert (rejected.code, rejected.retry_after_ms) == ("at_capacity", 5000)
    await sessions.shut_down()


def test_max_queued_inputs() -> None:
    """So many wait behind a turn of their session."""
    talk = Talk(max_queued_inputs=3)
    talk.ask()
    for _ in range(3):
        talk.ask(on_busy="queue")
    assert talk.of(InputRejected) == []
    talk.ask(on_busy="queue")
    assert [event.code for event in talk.of(InputRejected)] == ["queue_full"]


async def test_max_sessions() -> None:
    """One more is closed with 1013."""
    sessions = serve(echo, max_sessions=2)
    lines = [Line(sessions) for _ in range(3)]
    for line in lines:
        line.send(Ping(id="p"))
    assert [line.wire.closed for line in lines] == [None, None, OVERLOADED]


async def test_max_client_share() -> None:
    """One more session of a client is refused, and another client gets it."""
    sessions = serve(echo, max_sessions=4, max_client_share=0.5)
    lines = [Line(sessions, address) for address in ("a", "a", "a", "b")]
    for line in lines:
        line.send(Ping(id="p"))
    assert [line.wire.closed for line in lines] == [None, None, SHARE_USED, None]


@pytest.mark.parametrize(("name", "status"), [("max_connections", 503), ("max_connections_per_address", 429)])
async def test_max_connections_and_max_connections_per_address(name: str, status: int) -> None:
    """One more is refused before the upgrade, and told when to come back."""
    limit: dict[str, Any] = {name: 2}
    async with serving(echo, **limit) as server, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(server.connect())
        with pytest.raises(InvalidStatus) as refused:
            await stack.enter_async_context(server.connect())
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (status, "5")


@pytest.mark.virtual_time
async def test_max_messages_per_s() -> None:
    """Twice as many at once, then so many in a second."""
    sessions = serve(echo, max_messages_per_s=10)
    line = Line(sessions)
    for _ in range(20):
        line.send(Ping(id="p"))
    await asyncio.sleep(1)
    for _ in range(10):
        line.send(Ping(id="p"))
    assert sum(isinstance(event, Pong) for event in line.events) == 30
    assert line.wire.closed is None
    line.send(Ping(id="one more"))
    assert line.events[-1] == Pong(id="one more")  # it might have been an interrupt
    assert line.wire.closed is FLOODED


@pytest.mark.virtual_time
async def test_what_is_sent_again_after_a_resume_is_no_flood() -> None:
    """Or a slow rate would close a client that says what it kept, and do so again whenever it comes back."""
    sessions = serve(echo, max_messages_per_s=10)
    first = Line(sessions)
    first.send(SessionOpen())
    [opened] = [event for event in first.events if isinstance(event, SessionOpened)]
    first.drop()
    cursor = Cursor(epoch=opened.epoch, seq=NO_SEQ)
    line = Line(sessions)
    line.send(SessionOpen(resume=Resume(session_id=opened.session_id, token=opened.token, cursor=cursor)))
    for _ in range(RESENT_MESSAGES + 19):  # and twice the rate, of which the opening was one
        line.send(Ping(id="p"))
    assert line.wire.closed is None
    line.send(Ping(id="one more"))
    assert line.wire.closed is FLOODED


@pytest.mark.parametrize(("missing", "snapshots"), [(16, 0), (17, 1)])
def test_max_log_events(missing: int, snapshots: int) -> None:
    """So many frames can be replayed; whoever misses more gets a snapshot."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    seen = talk.numbers()[-1]
    talk.detach()
    talk.emit(turn, *(f"{n} " for n in range(missing)))
    talk.attach(cursor=seen)
    assert len(talk.of(Snapshot)) == snapshots


def test_max_history_turns() -> None:
    """So many turns are remembered."""
    talk = Talk(max_history_turns=3)
    for number in range(4):
        turn = talk.ask(f"question {number}")
        talk.emit(turn, f"answer {number}")
        if number < 3:
            talk.finish(turn)
    told = [message["content"] for message in talk.heard_by_next(turn)]
    assert told[0] == "question 0"
    talk.finish(turn)
    turn = talk.ask("question 4")
    told = [message["content"] for message in talk.heard_by_next(turn)]
    assert told[0] == "question 1"


async def test_max_model_calls() -> None:
    """So many requests leave, one more waits until another is answered."""
    async with Upstream() as upstream, create_http_client(max_connections=2) as client:
        tasks = [asyncio.create_task(client.get(upstream.url)) for _ in range(3)]
        first, second = await upstream.call(), await upstream.call()
        await asyncio.sleep(0)
        assert len(upstream.calls) == 2
        first.reply(200, {})
        third = await upstream.call()
        second.reply(200, {})
        third.reply(200, {})
        await asyncio.gather(*tasks)


@pytest.mark.parametrize(("keepalive", "connections"), [(1, 1), (0, 2)])
async def test_max_idle_model_connections(keepalive: int, connections: int) -> None:
    """So many idle connections are kept for the next call."""
    async with Upstream() as upstream, create_http_client(max_keepalive=keepalive) as client:
        for _ in range(2):
            task = asyncio.create_task(client.get(upstream.url))
            (await upstream.call()).reply(200, {})
            await task
        await until(lambda: len(upstream.calls) == 2)
        assert len({call.connection for call in upstream.calls}) == connections
