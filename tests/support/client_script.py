"""Tools for tests of the client: short server events, scripted server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

import bargein_protocol as bp
from bargein_client import ClientSession, Environment, EventStream, connect
from bargein_client.core import ClientCore
from bargein_client.events import SessionEvent
from bargein_client.inbox import Bounds, Inbox
from bargein_client.tracked_turn import TrackedTurn

E = TypeVar("E")

SESSION = bp.SessionId("s_1")
EPOCH = bp.Epoch("e_1")
LIMITS = bp.Limits(frame_bytes=262_144, pending=64, queued=8)
PATIENCE_S = 20.0
"""Timeout of a condition; a test that passes never waits so long."""


# --- what a server says ------------------------------------------------------------------------------


def opened(
    *,
    resumed: bool = False,
    session: str = SESSION,
    epoch: str = EPOCH,
    token: str = "k_1",
    reason: str | None = None,
    heartbeat_ms: int = 0,
    limits: bp.Limits = LIMITS,
) -> bp.SessionOpened:
    """`session.opened`; without heartbeats unless a test is about them."""
    return bp.SessionOpened(
        session_id=bp.SessionId(session),
        token=bp.Token(token),
        epoch=bp.Epoch(epoch),
        resumed=resumed,
        reason=reason,
        heartbeat_ms=heartbeat_ms,
        limits=limits,
    )


def accepted(seq: int, turn: str, input_id: str, *, again: bool = False) -> bp.InputAccepted:
    """`input.accepted`; the answer to a resend has no number."""
    return bp.InputAccepted(
        seq=bp.Seq(0 if again else seq),
        turn_id=bp.TurnId(turn),
        input_id=bp.InputId(input_id),
        duplicate=again,
    )


def queued(seq: int, turn: str, input_id: str, position: int = 1) -> bp.InputQueued:
    """`input.queued`."""
    return bp.InputQueued(
        seq=bp.Seq(seq), turn_id=bp.TurnId(turn), input_id=bp.InputId(input_id), position=position
    )


def started(seq: int, turn: str, input_id: str) -> bp.TurnStarted:
    """`turn.started`."""
    return bp.TurnStarted(seq=bp.Seq(seq), turn_id=bp.TurnId(turn), input_id=bp.InputId(input_id))


def text(seq: int, turn: str, words: str) -> bp.TextDelta:
    """`text.delta`."""
    return bp.TextDelta(seq=bp.Seq(seq), turn_id=bp.TurnId(turn), text=words)


def ended(
    seq: int, turn: str, status: bp.TurnStatus = "completed", reason: str | None = None
) -> bp.TurnEnded:
    """`turn.ended`."""
    reasons = {"completed": "completed", "interrupted": "client", "failed": "agent_error"}
    return bp.TurnEnded(
        seq=bp.Seq(seq),
        turn_id=bp.TurnId(turn),
        status=status,
        reason=reason or reasons[status],
        last_seq=bp.Seq(seq - 1),
        heard=bp.Heard(),
    )


def result(
    interrupt_id: str, outcome: bp.Outcome, turn: str | None = None, *, again: bool = False
) -> bp.InterruptResult:
    """`interrupt.result`."""
    return bp.InterruptResult(
        interrupt_id=bp.InterruptId(interrupt_id),
        outcome=outcome,
        turn_id=None if turn is None else bp.TurnId(turn),
        duplicate=again,
    )


def replay_done(through: int) -> bp.ReplayDone:
    """`replay.done`."""
    return bp.ReplayDone(through=bp.Seq(through))


def snapshot(through: int) -> bp.Snapshot:
    """A `snapshot` without turns."""
    return bp.Snapshot(through=bp.Seq(through), turns=[])


def session_lost(ref_id: str) -> bp.ErrorEvent:
    """The `error` that a pending request gets when the resume is refused."""
    return bp.ErrorEvent(code="session_lost", message="lost", ref_id=ref_id, retryable=True)


# --- a core that is driven by hand -------------------------------------------------------------------


class Client:
    """A core with its inbox of all events, and ids that count: in_1, x_1, …"""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.core = ClientCore(bounds=bounds)
        self.everything = self.core.subscribe()
        self._ids = 0

    def open(self, event: bp.SessionOpened | None = None) -> Client:
        """Attach and open the session; sent events are discarded."""
        self.core.attach()
        self.core.outgoing()
        self.take(event or opened())
        return self

    def reopen(self, event: bp.SessionOpened | None = None) -> bp.SessionOpen:
        """Reconnect, return the first frame, and answer it."""
        self.core.detach()
        self.core.attach()
        (opening,) = self.core.outgoing()
        assert isinstance(opening, bp.SessionOpen)
        self.take(event or opened(resumed=True, token="k_2"))
        return opening

    def take(self, *events: bp.ServerEvent | bp.UnknownEvent) -> None:
        """Receive events."""
        for event in events:
            self.core.receive(event)

    def ask(self, words: str = "hello", on_busy: bp.OnBusy | None = "queue") -> TrackedTurn:
        """Send an input with the next id."""
        self._ids += 1
        return self.core.send_input(
            bp.InputText(id=bp.InputId(f"in_{self._ids}"), text=words, on_busy=on_busy)
        )

    def interrupt(self, turn: TrackedTurn, number: int = 1, played: bp.Played | None = None) -> None:
        """Interrupt a turn under the id x_<number>."""
        self.core.interrupt(bp.Interrupt(id=bp.InterruptId(f"x_{number}"), played=played), turn)

    def running(self, *words: str) -> TrackedTurn:
        """Return a running turn t_1 of in_1 with `words` as events from 3 on."""
        turn = self.ask()
        self.take(accepted(1, "t_1", "in_1"), started(2, "t_1", "in_1"))
        self.take(*(text(seq, "t_1", word) for seq, word in enumerate(words, start=3)))
        self.core.outgoing()
        return turn


def drain(inbox: Inbox) -> list[SessionEvent]:
    """Take everything that waits."""
    events: list[SessionEvent] = []
    while (event := inbox.take()) is not None:
        events.append(event)
    return events


def said(events: list[SessionEvent]) -> str:
    """Return the text in a list of events."""
    return "".join(event.text for event in events if isinstance(event, bp.TextDelta))


def kinds(events: list[SessionEvent]) -> list[str]:
    """Return the names of events' types."""
    return [type(event).__name__ for event in events]


# --- a server that is played by hand -----------------------------------------------------------------


@dataclass
class ScriptedLine:
    """One connection that a client made."""

    socket: ServerConnection
    path: str = ""

    async def receive(self) -> bp.ClientEvent:
        """Return the next event that the client sent."""
        async with asyncio.timeout(PATIENCE_S):
            return bp.JSON.decode_client(await self.socket.recv(decode=False))

    async def expect(self, kind: type[E]) -> E:
        """Return the next event, which is of this type."""
        event = await self.receive()
        assert isinstance(event, kind), event
        return event

    async def send(self, *events: bp.ServerEvent) -> None:
        """Send events."""
        for event in events:
            await self.socket.send(bp.JSON.encode(event), text=True)

    async def open(self, event: bp.SessionOpened | None = None) -> bp.SessionOpen:
        """Answer the first frame and return it."""
        opening = await self.expect(bp.SessionOpen)
        await self.send(event or opened())
        return opening

    async def answer(self, turn: str = "t_1", seq: int = 1) -> bp.InputText:
        """Accept the next input and start its turn, in two numbers from `seq`."""
        asked = await self.expect(bp.InputText)
        await self.send(accepted(seq, turn, asked.id), started(seq + 1, turn, asked.id))
        return asked

    async def close(self, code: int) -> None:
        """Close with a code."""
        await self.socket.close(code)

    async def cut(self) -> None:
        """Break the line without a word."""
        self.socket.transport.abort()
        await self.socket.wait_closed()

    async def gone(self) -> None:
        """Wait until the client has closed or lost it."""
        async with asyncio.timeout(PATIENCE_S):
            await self.socket.wait_closed()


@dataclass
class ScriptedServer:
    """A WebSocket server on a free port whose lines a test plays by hand."""

    port: int = 0
    lines: asyncio.Queue[ScriptedLine] = field(default_factory=asyncio.Queue)
    refuse: int | None = None
    """The HTTP status that handshakes get."""
    server: Server | None = None
    sockets: set[ServerConnection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"ws://127.0.0.1:{self.port}/v1/session"

    async def line(self) -> ScriptedLine:
        """Return the next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.lines.get()

    async def start(self) -> None:
        """Listen, on the same port as before when there was one."""
        self.server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[bp.JSON.subprotocol],  # type: ignore[list-item]
            process_request=self._greet,
            ping_interval=None,
            close_timeout=1,
        )
        self.port = next(iter(self.server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close every line with 1001 and stop listening."""
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
            self.server = None

    def hang_up(self) -> None:
        """Answer every `session.close` that comes, as a server does, with 1000."""
        for socket in list(self.sockets):
            task = asyncio.create_task(_answer_close(socket))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _serve(self, socket: ServerConnection) -> None:
        await self.lines.put(ScriptedLine(socket))
        self.sockets.add(socket)
        await socket.wait_closed()
        self.sockets.discard(socket)

    def _greet(self, socket: ServerConnection, request: Request) -> Response | None:
        return None if self.refuse is None else socket.respond(self.refuse, "no\n")


async def _answer_close(socket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        while not isinstance(bp.JSON.decode_client(await socket.recv(decode=False)), bp.SessionClose):
            pass
        await socket.close(1000)


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """Run a server that is played by hand."""
    server = ScriptedServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def next_of(stream: EventStream, kind: type[SessionEvent]) -> SessionEvent:
    """Return the next event of a type."""
    async with asyncio.timeout(PATIENCE_S):
        async for event in stream:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"expected a {kind.__name__}, got the end")


async def patiently(awaitable: Awaitable[E]) -> E:
    """Wait, but not for ever."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


# --- a client on a line ------------------------------------------------------------------------------


@dataclass
class Surroundings:
    """Environment with virtual time, given randomness and counted ids."""

    chance: float = 0.5
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    ids: int = 0

    def environment(self) -> Environment:
        """Return the environment for `connect`."""
        return Environment(
            new_id=self._new_id, random=lambda: self.chance, sleep=self._sleep, clock=lambda: self.now
        )

    def _new_id(self) -> str:
        self.ids += 1
        return f"id_{self.ids}"

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def talking(
    server: ScriptedServer,
    surroundings: Surroundings | None = None,
    *,
    first: bp.SessionOpened | None = None,
    reconnect: bool = True,
    bounds: Bounds | None = None,
    token: str | None = None,
) -> AsyncIterator[tuple[ClientSession, ScriptedLine]]:
    """Connect a client; yield its session and the server's side."""
    environment = (surroundings or Surroundings()).environment()
    connecting = connect(server.url, environment=environment, reconnect=reconnect, bounds=bounds, token=token)
    session, line = await asyncio.gather(connecting.__aenter__(), _opened_line(server, first))
    try:
        yield session, line
    finally:
        with suppress(asyncio.QueueEmpty):
            while True:
                server.lines.get_nowait()
        leaving = asyncio.create_task(connecting.__aexit__(None, None, None))
        server.hang_up()
        await leaving


async def _opened_line(server: ScriptedServer, first: bp.SessionOpened | None) -> ScriptedLine:
    line = await server.line()
    await line.open(first)
    return line
