"""What telemetry keeps of turns: every end once, whatever came first, and the times between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context

import pytest

from bargein_protocol import InputId, InputText, Interrupt, InterruptId, SessionClose
from bargein_server import Agent, Output, Settings, Turn
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.telemetry import (
    NO_TELEMETRY,
    SessionRecord,
    SessionTelemetry,
    Sink,
    Telemetry,
    TurnTiming,
)
from memory_client import Line
from waiting import until


class Notes(Sink):
    """A sink that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.turns: list[TurnTiming] = []
        self.sessions: list[SessionRecord] = []

    def connected(self) -> None:
        self.calls.append("connected")

    def disconnected(self, code: str) -> None:
        self.calls.append(f"disconnected {code}")

    def session_opened(self, session: SessionRecord) -> None:
        self.sessions.append(session)
        self.calls.append("opened")

    def session_attached(self, session: SessionRecord, result: str) -> None:
        self.calls.append(result)

    def session_detached(self, session: SessionRecord) -> None:
        self.calls.append("detached")

    def session_closed(self, session: SessionRecord, reason: str, now: float) -> None:
        self.calls.append(reason)

    def turn_asked(self, session: SessionRecord, turn: TurnTiming) -> None:
        self.turns.append(turn)
        self.calls.append("asked")

    def turn_started(self, session: SessionRecord, turn: TurnTiming, context: Context) -> None:
        self.calls.append("started")

    def turn_output(self, session: SessionRecord, turn: TurnTiming) -> None:
        self.calls.append("output")

    def turn_ended(self, session: SessionRecord, turn: TurnTiming) -> None:
        assert turn.event is not None
        self.calls.append(turn.event.status)

    def turn_over(self, session: SessionRecord, turn: TurnTiming) -> None:
        self.calls.append("over")


def watched(agent: Agent, **settings: object) -> tuple[Line, Notes]:
    """Return a client of a server whose telemetry is written down."""
    notes = Notes()
    limits = Settings(**{"drain_s": 0.0, **settings})  # type: ignore[arg-type]
    return Line(SessionRegistry(agent, limits, Telemetry([notes]))), notes


async def brief(turn: Turn) -> AsyncIterator[Output]:
    """Says a word."""
    yield ""
    yield None  # type: ignore[misc]
    yield "word"
    yield "word"


async def endless(turn: Turn) -> AsyncIterator[Output]:
    """Speaks until it is cut; cleans up for a moment."""
    try:
        while True:
            yield "word"
            await asyncio.sleep(0.001)
    finally:
        await asyncio.sleep(0.01)


TURN = ["asked", "started", "output", "completed", "over"]
OPENED = ["connected", "opened", "fresh"]


async def test_a_turn_is_told_in_order() -> None:
    """Asked, started, first output, end, over; each once."""
    line, notes = watched(brief)
    line.ask()
    await until(lambda: "over" in notes.calls)
    assert notes.calls == OPENED + TURN
    [turn] = notes.turns
    assert turn.started_at is not None
    assert turn.output_at is not None
    assert turn.ended_at is not None
    assert turn.over_at is not None
    assert turn.asked_at <= turn.started_at <= turn.output_at <= turn.ended_at <= turn.over_at
    assert turn.cut_at is None
    assert not turn.abandoned


async def test_an_interrupt_has_its_times() -> None:
    """Read, then the fence in the same step, then the end of the cleanup."""
    line, notes = watched(endless)
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    assert notes.calls[-1] == "interrupted"
    await until(lambda: "over" in notes.calls)
    [record] = notes.turns
    assert record.cut_at is not None
    assert record.ended_at is not None
    assert record.over_at is not None
    assert record.asked_at < record.cut_at < record.ended_at
    assert record.over_at - record.ended_at >= 0.009
    assert notes.sessions[0].interrupts == 1


async def test_an_input_that_interrupts_cuts_too() -> None:
    """And the turn that takes over is none that was cut."""
    line, notes = watched(endless)
    line.ask()
    await line.until("text.delta")
    line.ask()
    first, second = notes.turns
    assert first.cut_at is not None
    assert second.cut_at is None
    line.send(SessionClose())
    await until(lambda: notes.calls.count("over") == 2)
    assert second.cut_at is None, "the end of a session is no interrupt"


async def test_a_deferred_interrupt_counts_from_its_request() -> None:
    """The time until a section is over is part of what the user waits for."""
    inside = asyncio.Event()

    async def careful(turn: Turn) -> AsyncIterator[Output]:
        async with turn.uninterruptible():
            yield "word"
            await inside.wait()
        yield "more"
        await asyncio.Event().wait()

    line, notes = watched(careful)
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    cut_at = notes.turns[0].cut_at
    assert cut_at is not None
    assert "interrupted" not in notes.calls
    await asyncio.sleep(0.01)
    line.interrupt(turn)  # another one does not set the time back
    inside.set()
    await until(lambda: "over" in notes.calls)
    assert notes.turns[0].cut_at == cut_at
    assert notes.turns[0].ended_at is not None
    assert notes.turns[0].ended_at - cut_at >= 0.009


async def test_a_turn_that_never_started_is_over_with_its_end() -> None:
    """No task, no cleanup to wait for."""
    line, notes = watched(endless)
    line.send(Interrupt(id=InterruptId("x"), input_id=InputId("i")))
    line.send(InputText(id=InputId("i"), text="hello"))
    assert notes.calls == [*OPENED, "asked", "interrupted", "over"]


async def test_an_agent_that_is_done_before_its_client_has_read() -> None:
    """The task ends first, the turn when its output is taken; it is over once."""
    line, notes = watched(brief)
    line.block()
    line.ask()
    await until(lambda: "output" in notes.calls)
    for _ in range(5):
        await asyncio.sleep(0)
    assert "completed" not in notes.calls
    line.block(False)
    await until(lambda: "over" in notes.calls)
    assert notes.calls == OPENED + TURN
    assert notes.turns[0].over_at == notes.turns[0].ended_at


@pytest.mark.virtual_time
async def test_a_task_that_does_not_end_is_abandoned() -> None:
    """The turn is over all the same, and says so."""
    release = asyncio.Event()

    async def stubborn(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    line, notes = watched(stubborn)
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    await asyncio.sleep(3)
    assert notes.calls[-1] == "over"
    assert notes.turns[0].abandoned
    release.set()


@pytest.mark.virtual_time
async def test_a_session_tells_its_connections_and_its_end() -> None:
    """A lost line is no end; the end comes when nobody came back for it."""
    line, notes = watched(brief, resume_s=5)
    line.ask()
    await line.until("turn.ended")
    line.drop()
    assert notes.calls[-2:] == ["disconnected peer", "detached"]
    await asyncio.sleep(6)
    assert notes.calls[-1] == "expired"
    assert notes.sessions[0].connections == 1
    assert notes.sessions[0].turns == 1


async def test_a_session_that_is_closed_is_detached_once() -> None:
    """Whatever is closed first."""
    line, notes = watched(brief)
    line.ask()
    await line.until("turn.ended")
    line.send(SessionClose())
    line.drop()
    await until(lambda: "over" in notes.calls)
    assert [notes.calls.count(what) for what in ("detached", "closed", "disconnected closed")] == [1, 1, 1]


async def test_a_shutdown_ends_every_session() -> None:
    """Those of clients that are away too."""
    line, notes = watched(endless)
    line.ask()
    await line.until("text.delta")
    line.drop()
    await line.connection._registry.shut_down()
    assert notes.calls[-1] == "shutdown"
    assert "over" in notes.calls


async def test_without_sinks_nothing_is_kept() -> None:
    """Every session reports to the same one, which does nothing."""
    sessions = SessionRegistry(brief, Settings())
    lines = [Line(sessions), Line(sessions)]
    for line in lines:
        line.ask()
        await line.until("turn.ended")
    first, second = (live.telemetry for live in sessions)
    assert first is second
    assert type(first) is SessionTelemetry
    assert sessions.telemetry is NO_TELEMETRY
