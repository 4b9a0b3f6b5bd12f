"""One conversation over a line that breaks after every single byte of it, in both directions.

Between the real client and the real server stand the real protocols, `websockets` and uvicorn's with
h11; only the sockets are a cable in memory. The conversation has an interrupt in the middle of an
answer, a tool that the client runs, and an input that waits behind a turn. Wherever the line breaks, and
in whatever way, the client resumes and what it has in the end is what an unbroken line gives: every
numbered event once and in order, the same ends, and a model that is told the same history.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any, NamedTuple

import pytest
from msgspec import structs
from uvicorn.server import ServerState

import bargein_protocol as bp
from bargein_client import ConnectError, EventsDropped, EventsLost, SessionRestarted, TurnSnapshot, connect
from bargein_client.session import ClientSession
from bargein_client.turn import ClientTurn
from bargein_server import Output, Settings, Turn, create_app, lifespan
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.serving.server import uvicorn_config
from client_script import Surroundings, patiently
from live_server import serving
from memory_net import Cut, Direction, How, MemoryLoop
from relay import Relay, relay
from still_clock import reads_take_no_time

__all__ = ["reads_take_no_time"]

URL = "ws://127.0.0.1:8000/v1/session"


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Is cut in its first answer, asks the client in its second, and tells its history in its last."""
    if turn.text == "a":
        yield "one "
        yield "two "
        await asyncio.Event().wait()
    elif turn.text == "b":
        call = turn.tools.claim("call")
        answer = turn.tools.expect(call, bp.ToolOutput)
        yield bp.ToolRunning(call_id=call, arguments={"n": 1}, runs_in="client")
        output = (await answer).output
        yield bp.ToolResult(call_id=call, output=output, status="completed")
        yield f"said {output}"
    elif turn.text == "c":
        yield "three"
    else:
        yield json.dumps([message["content"] for message in turn.history.messages()])


class Transcript(NamedTuple):
    """What a client has of a conversation in the end.

    Args:
        seen: Type, number and text of every numbered event of the stream, answers to inputs left out:
            when one was lost its copy comes without a number.
        read: The same of each turn, as its consumer read it.
        folds: The turns.
        outcome: What the interrupt was told.
        last: The last number that the client took.
        accepted: The answers to the inputs.
    """

    seen: list[Any]
    read: list[list[Any]]
    folds: list[bp.TurnState]
    outcome: str
    last: int
    accepted: list[str]


async def converse(session: ClientSession) -> Transcript:
    """Play the client's part."""
    stream = session.events()
    first = session.send("a")
    read = [await read_until(first, "two ")]
    outcome = (await first.interrupt()).outcome
    read[0] += await read_until(first)
    second = session.send("b")
    read.append(await read_until(second, "call"))
    third = session.send("c", on_busy="queue")
    await third.accepted()
    session.send_tool_output("call", "yes")
    read[1] += await read_until(second)
    read.append(await read_until(third))
    last = session.send("d")  # now all was heard, also what was said while the line was down
    read.append(await read_until(last))
    turns = (first, second, third, last)
    seen: list[Any] = []
    while not seen or seen[-1][:2] != (last.id, "TurnEnded"):
        event = await anext(stream)
        assert not isinstance(event, (EventsLost, EventsDropped, SessionRestarted, TurnSnapshot)), event
        if isinstance(event, bp.TurnEvent) and not isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            seen.append((event.turn_id, *brief(event)))
    names = {turn.id: f"turn {number}" for number, turn in enumerate(turns, 1)}
    return Transcript(
        [(names[turn], *rest) for turn, *rest in seen],
        read,
        [plain(turn.state) for turn in turns],
        outcome,
        session._core.last_seq,
        [type(await turn.accepted()).__name__ for turn in turns],
    )


async def read_until(turn: ClientTurn, last: str | None = None) -> list[Any]:
    """Read a turn's events up to a text or a call, or to its end."""
    events: list[Any] = []
    async for event in turn:
        assert isinstance(event, bp.TurnEvent), event
        if not isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            events.append(brief(event))
        if last is not None and last in (getattr(event, "text", None), getattr(event, "call_id", None)):
            break
    return events


def plain(turn: bp.TurnState) -> bp.TurnState:
    """Return a turn without what may differ.

    That is its random id, and how much of a whole answer had been heard when it ended, which is nothing
    while the line is down.
    """
    heard = turn.heard if turn.status == "interrupted" else None
    return structs.replace(turn, turn_id=bp.TurnId("t"), heard=heard)


def brief(event: bp.TurnEvent) -> tuple[str, int, Any]:
    """Return what is compared of an event."""
    return type(event).__name__, event.seq, getattr(event, "text", None)


class Bench:
    """A server and its network in one loop."""

    def __init__(self, loop: MemoryLoop) -> None:
        self.loop = loop
        settings = Settings(no_output_s=1000)  # in silence, time passes
        self.app = app = create_app(agent, settings)
        self.sessions = app.state.sessions = SessionRegistry(agent, settings)
        config = uvicorn_config(app, settings, "127.0.0.1", 8000, "critical")
        config.load()
        state = ServerState()
        loop.accept = lambda: config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=state, app_state={}, _loop=loop
        )

    async def run(self, *cuts: Cut) -> Transcript:
        """Hold the conversation over lines that are cut, and leave nothing of it behind."""
        self.loop.cuts = list(cuts)
        async with AsyncExitStack() as stack:
            while True:
                # The first connection is not retried by the client; an application does that.
                try:
                    session = await stack.enter_async_context(
                        connect(URL, environment=Surroundings().environment(), give_up_after_s=float("inf"))
                    )
                    break
                except ConnectError:
                    continue
            transcript = await converse(session)
        self.loop.unplug()
        for live in self.sessions:
            # One that was opened and whose client never heard of it, or whose close was lost.
            live.core.shut_down(self.loop.time())
            live.flush()
            self.sessions.forget(live)
        return transcript

    async def quiet(self) -> None:
        """Wait until nothing runs any more."""
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(1)


async def uncut(bench: Bench) -> tuple[Transcript, dict[Direction, int]]:
    """Return what an unbroken line gives, and how many bytes pass on it."""
    loop = bench.loop
    carried: dict[Direction, int] = {}
    unplug = loop.unplug

    def measure() -> None:
        carried.update(loop.cables[0].carried)
        unplug()

    loop.unplug = measure  # type: ignore[method-assign]
    transcript = await bench.run()
    loop.unplug = unplug  # type: ignore[method-assign]
    return transcript, carried


async def cut_everywhere(
    direction: Direction, how: How, first: int = 0, last: int | None = None, step: int = 1
) -> int:
    """Cut after every byte of a direction, or some of them; returns the number of bytes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    bench = Bench(loop)
    async with lifespan(bench.app):
        whole, carried = await uncut(bench)
        for after in range(first, carried[direction] if last is None else last, step):
            broken = await bench.run(Cut(direction, after, how))
            assert broken == whole, f"cut after byte {after} of {direction}"
    await bench.quiet()
    return carried[direction]


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.weekly)])
@pytest.mark.parametrize("how", ["fin", "rst", "silence"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_line_that_breaks_anywhere_loses_doubles_and_reorders_nothing(
    direction: Direction, how: How, step: int
) -> None:
    """The transcript is that of an unbroken line: after every third byte at night, after every one weekly."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        assert runner.run(cut_everywhere(direction, how, step=step)) > 500


@pytest.mark.parametrize("how", ["fin", "rst", "silence"])
def test_a_line_that_breaks_while_the_first_answer_begins(how: How) -> None:
    """The agent speaks while its client is away: its pieces stay as they are, and go to the log."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        assert runner.run(cut_everywhere("up", how, first=340, last=420)) > 500


async def cut_twice(step: int) -> int:
    """Cut at every so many bytes, and the line on which the client resumes as well; returns the runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    bench = Bench(loop)
    async with lifespan(bench.app):
        whole, carried = await uncut(bench)
        places: list[tuple[Direction, int]] = [
            (direction, after) for direction, size in carried.items() for after in range(0, size, step)
        ]
        ways: tuple[How, ...] = ("fin", "rst", "silence")
        runs = 0
        for first in places:
            for second in places:
                one, other = Cut(*first, ways[runs % 3]), Cut(*second, ways[runs // 3 % 3])
                assert await bench.run(one, other) == whole, f"{one}, then {other}"
                runs += 1
    await bench.quiet()
    return runs


@pytest.mark.timeout(300)  # all of it is work, which coverage triples
def test_a_line_that_breaks_again_while_the_session_is_resumed() -> None:
    """Nor does a resume that is broken itself."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        assert runner.run(cut_twice(131)) > 300


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_the_same_over_real_sockets(direction: Direction, how: How) -> None:
    """A sample of the bytes, through a relay on the loopback."""
    async with serving(agent) as server, relay(server.port) as line:
        whole = await over(line)
        for after in range(1, line.carried[direction], 97):
            line.cut_next(direction, after, how)
            assert await over(line) == whole, f"cut after byte {after} of {direction}"


async def over(line: Relay) -> Transcript:
    """Hold the conversation through a relay."""
    while True:
        with suppress(ConnectError):
            async with connect(
                f"ws://127.0.0.1:{line.port}/v1/session", environment=Surroundings().environment()
            ) as session:
                return await patiently(converse(session))
