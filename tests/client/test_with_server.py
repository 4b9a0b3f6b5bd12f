"""The client and the real server, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest

import bargein_protocol as bp
from bargein_client import SessionReplaced, SessionRestarted, SessionResumed, TurnSnapshot, connect
from bargein_client.session import ClientSession
from bargein_server import Output, Turn
from client_script import Surroundings, patiently, until
from live_server import serving
from relay import Relay, relay

Way = dict[str, Any]


@pytest.fixture(params=[{}, {"codec": "msgpack"}, {"transport": "sse"}], ids=["json", "msgpack", "sse"])
def way(request: pytest.FixtureRequest) -> Way:
    """How the client connects."""
    given: Way = request.param
    return given


class Storyteller:
    """Agent that yields a word whenever the test allows it."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str | None] = asyncio.Queue()
        self.heard: list[str] = []

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        self.heard.append(" | ".join(str(message["content"]) for message in turn.history.messages()))
        if turn.text == "legal":
            async with turn.uninterruptible():
                yield "protected "
                while (word := await self.words.get()) is not None:
                    yield word
            yield "never said"
        while (word := await self.words.get()) is not None:
            yield word


def talk_through(line: Relay, way: Way) -> AbstractAsyncContextManager[ClientSession]:
    """Connect over a relay; waiting to reconnect takes no time."""
    url = f"ws://127.0.0.1:{line.port}/v1/session"
    return connect(url, environment=Surroundings().environment(), give_up_after_s=float("inf"), **way)


async def say(agent: Storyteller, session: ClientSession, *words: str) -> None:
    """Yield words, and wait until the current turn's text ends with them."""
    turn = session.current
    assert turn is not None
    for word in words:
        agent.words.put_nowait(word)
    await until(lambda: turn.text.endswith("".join(words)))


async def test_an_interrupt_cuts_and_history_is_what_was_read(way: Way) -> None:
    """The next turn's history holds the read text, and nothing more."""
    agent = Storyteller()
    async with serving(agent) as server, connect(server.url, **way) as session:
        turn = session.send("story")
        await patiently(turn.accepted())
        agent.words.put_nowait("once ")
        agent.words.put_nowait("upon ")
        read = ""
        async for event in turn:
            if isinstance(event, bp.TextDelta):
                read += event.text
            if read.endswith("upon "):
                break
        await say(agent, session, "unread ")
        answer = await patiently(turn.interrupt(reason="enough"))
        assert answer.outcome == "interrupted"
        ended = await patiently(turn.ended())
        assert (ended.status, ended.reason, ended.heard.text) == ("interrupted", "enough", "once upon ")
        assert [type(event) async for event in turn] == [bp.TurnEnded]
        again = session.send("go on")
        await patiently(again.accepted())
        await until(lambda: len(agent.heard) == 2)
        assert "unread" not in agent.heard[1]
        agent.words.put_nowait(None)
        assert (await patiently(again.ended())).status == "completed"


async def test_a_new_input_supersedes(way: Way) -> None:
    """The old turn ends, the new one is accepted."""
    agent = Storyteller()
    async with serving(agent) as server, connect(server.url, **way) as session:
        old = session.send("story")
        await patiently(old.accepted())
        await say(agent, session, "once ")
        new = session.send("stop", on_busy="interrupt")
        await patiently(new.accepted())
        assert (await patiently(old.ended())).reason == "superseded"
        agent.words.put_nowait(None)
        assert (await patiently(new.ended())).status == "completed"


async def test_a_protected_section_is_heard_to_its_end(way: Way) -> None:
    """The interrupt is deferred, and withheld output is delivered."""
    agent = Storyteller()
    async with serving(agent) as server, connect(server.url, **way) as session:
        turn = session.send("legal")
        await patiently(turn.accepted())
        await until(lambda: turn.text == "protected ")
        interrupting = asyncio.create_task(turn.interrupt())
        assert (await patiently(interrupting)).outcome == "deferred"
        agent.words.put_nowait("to the end")
        agent.words.put_nowait(None)
        assert (await patiently(turn.ended())).status == "interrupted"
        text = "".join([event.text async for event in turn if isinstance(event, bp.TextDelta)])
        assert text == "protected to the end"


async def test_an_interrupt_right_after_the_input(way: Way) -> None:
    """Before anything of the turn is known here."""
    agent = Storyteller()
    async with serving(agent) as server, connect(server.url, **way) as session:
        turn = session.send("story")
        answer = await patiently(turn.interrupt())
        assert answer.outcome == "interrupted"
        assert (await patiently(turn.ended())).status == "interrupted"


async def test_a_broken_line_loses_nothing(way: Way) -> None:
    """The turn goes on at the server, and its words come once and in order."""
    agent = Storyteller()
    async with (
        serving(agent) as server,
        relay(server.port) as line,
        talk_through(line, way) as session,
    ):
        stream = session.events()
        turn = session.send("story")
        await patiently(turn.accepted())
        words = ""
        for number in range(5):
            await say(agent, session, f"{number}a ")
            line.cut()
            agent.words.put_nowait(f"{number}b ")
            words += f"{number}a {number}b "
            await until(lambda words=words: turn.text == words)  # type: ignore[misc]
        agent.words.put_nowait(None)
        assert (await patiently(turn.ended())).status == "completed"
        assert "".join([e.text async for e in turn if isinstance(e, bp.TextDelta)]) == words
        resumed = 0
        while resumed < 5:
            resumed += isinstance(await patiently(anext(stream)), SessionResumed)


async def test_an_interrupt_while_the_line_is_down(way: Way) -> None:
    """Sent first on the next connection; the replay is not rendered."""
    agent = Storyteller()
    async with (
        serving(agent) as server,
        relay(server.port) as line,
        talk_through(line, way) as session,
    ):
        turn = session.send("story")
        await patiently(turn.accepted())
        await say(agent, session, "once ")
        line.cut()
        await until(lambda: session.state.name != "open")
        interrupting = asyncio.create_task(turn.interrupt())
        agent.words.put_nowait("missed ")
        assert (await patiently(interrupting)).outcome == "interrupted"
        assert (await patiently(turn.ended())).status == "interrupted"
        assert [type(e) async for e in turn if isinstance(e, bp.TextDelta)] == []


async def test_a_server_that_lost_everything(way: Way) -> None:
    """After a restart the turn is `session_lost`; the next input works."""
    agent = Storyteller()
    async with AsyncExitStack() as first, serving(agent) as second:
        server = await first.enter_async_context(serving(agent))
        async with (
            relay(server.port) as line,
            talk_through(line, way) as session,
        ):
            stream = session.events()
            turn = session.send("story")
            await patiently(turn.accepted())
            await say(agent, session, "once ")
            line.target = second.port
            line.cut()
            lost = await patiently(turn.ended())
            assert (lost.status, lost.reason) == ("failed", "session_lost")
            while not isinstance(await patiently(anext(stream)), SessionRestarted):
                pass
            again = session.send("again")
            await patiently(again.accepted())
            await patiently(again.interrupt())


async def test_a_log_that_ran_over_gives_a_snapshot(way: Way) -> None:
    """The state comes instead of the events, and the text is whole."""
    agent = Storyteller()
    async with (
        serving(agent, max_log_events=8) as server,
        relay(server.port) as line,
        talk_through(line, way) as session,
    ):
        turn = session.send("story")
        await patiently(turn.accepted())
        await say(agent, session, "once ")
        target, line.target = line.target, 9
        line.cut()
        await until(lambda: session.state.name != "open")
        for number in range(40):
            agent.words.put_nowait(f"{number} ")
        await until(agent.words.empty)
        line.target = target
        agent.words.put_nowait(None)
        assert (await patiently(turn.ended())).status == "completed"
        assert turn.text == "once " + "".join(f"{number} " for number in range(40))
        assert [event for event in [event async for event in turn] if isinstance(event, TurnSnapshot)]


async def test_the_newest_connection_wins(way: Way) -> None:
    """The older one is replaced and does not reconnect."""
    async with serving(Storyteller()) as server, connect(server.url, **way) as session:
        core_resume = session.resume_state()
        async with server.connect() as other:
            await other.send(bp.JSON.encode(bp.SessionOpen(resume=core_resume)).decode())
            await other.until("session.opened")
            with pytest.raises(SessionReplaced):
                await patiently(session.closed())
