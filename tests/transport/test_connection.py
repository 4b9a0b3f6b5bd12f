"""A connection: whole messages in, frames out in as few writes as possible, and its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from bargein_protocol import (
    ErrorEvent,
    Heartbeat,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    Ping,
    Played,
    SessionOpen,
    TextDelta,
    TurnId,
)
from bargein_protocol.errors import INTERNAL, OPEN_TIMEOUT
from bargein_server import Agent, Output, Turn
from bargein_server.hosting.host import SessionHost
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.transport.connection import STEP_BYTES, WRITE_BYTES
from memory_client import FakeWire, Line, serve
from waiting import until


async def patient(turn: Turn) -> AsyncIterator[Output]:
    """Says a word and waits for its end."""
    yield "word "
    await asyncio.Event().wait()


async def silent(turn: Turn) -> AsyncIterator[Output]:
    """Waits for its end."""
    await asyncio.Event().wait()
    yield "never"


def errors(line: Line) -> list[str]:
    return [event.code for event in line.events if isinstance(event, ErrorEvent)]


def only(sessions: SessionRegistry) -> SessionHost:
    [live] = sessions
    return live


# --- out -----------------------------------------------------------------------------------------


async def test_all_that_one_frame_causes_leaves_in_one_write() -> None:
    """The answer and the end of a turn, then the old end with the new turn (contract 3)."""
    sessions = serve(silent)
    line = Line(sessions)
    turn = line.ask()
    line.wire.writes.clear()
    line.interrupt(turn)
    await until(lambda: only(sessions).tasks() == [])  # else the third turn would wait for a cleanup
    line.ask()
    line.ask()
    assert line.wire.writes == [2, 2, 3]
    assert line.types()[-5:] == [
        "input.accepted", "turn.started", "turn.ended", "input.accepted", "turn.started",
    ]  # fmt: skip


async def test_the_end_of_an_interrupted_turn_is_written_before_its_books_are_kept() -> None:
    """Whoever interrupts waits for nothing but that. The answer goes with it, in one write."""
    line = Line(serve(patient))
    turn = line.ask()
    await until(lambda: line.texts() == ["word "])
    stream = only(line.connection._registry).core._sequencer
    logged: list[int] = []

    class LookingWire(FakeWire):
        def write(self, frames: Any) -> None:
            logged.append(stream.top)
            super().write(frames)

    line.wire.__class__ = LookingWire
    line.wire.writes.clear()
    line.interrupt(turn)
    [end] = line.ends()
    assert (line.wire.writes, logged) == ([2], [end.seq - 1])
    assert stream.top == end.seq


@pytest.mark.parametrize("played", [None, Played(chars=5)])
async def test_a_fault_of_the_wire_leaves_no_turn_half_ended(
    played: Played | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn has its end and its agent is cancelled; this connection alone is closed."""
    sessions = serve(patient)
    line = Line(sessions)
    turn = line.ask()
    await until(lambda: line.texts() == ["word "])

    class BrokenWire(FakeWire):
        def write(self, frames: Any) -> None:
            raise OSError("no socket")

    line.wire.__class__ = BrokenWire
    line.send(Interrupt(id=InterruptId("x"), turn_id=turn, played=played))
    for _ in range(5):
        await asyncio.sleep(0)
    assert line.wire.closed is INTERNAL
    assert not only(sessions).tasks()
    ended = only(sessions).core.turn(turn).fold.ended
    assert ended is not None
    assert ended.heard.text == "word "
    assert "connection failed" in caplog.text


class FillingWire(FakeWire):
    """A wire that is full after one write."""

    def write(self, frames: Any) -> None:
        super().write(frames)
        self.blocked = True


async def test_what_waits_is_handed_over_in_portions() -> None:
    """The rest stays where an interrupt can purge it when the wire fills after the first portion."""

    async def gush(turn: Turn) -> AsyncIterator[Output]:
        for _ in range(100):
            yield "x" * 1000
        await asyncio.Event().wait()

    sessions = serve(gush, max_queued_output_bytes=1024 * 1024)
    line = Line(sessions)
    line.block()
    turn = line.ask()
    core = only(sessions).core
    await until(lambda: core.turn(turn).queued_bytes > 100_000)
    line.wire.__class__ = FillingWire
    line.wire.writes.clear()
    line.block(False)
    assert len(line.wire.writes) == 1
    frames = line.wire.writes[0]
    assert WRITE_BYTES <= frames * 1050 < WRITE_BYTES + 2 * 1050
    line.interrupt(turn)
    line.block(False)
    assert len(line.texts()) == frames


async def test_a_long_output_to_a_fast_reader_lets_the_loop_run() -> None:
    """Its wire is never full; other sessions, and its own interrupt, come between two portions."""

    async def at_once(turn: Turn) -> AsyncIterator[Output]:
        yield "x" * 2**22
        await asyncio.Event().wait()

    line = Line(serve(at_once))
    turn = line.ask()
    loop = asyncio.get_running_loop()
    steps = [0]

    def step() -> None:
        steps.append(sum(map(len, line.texts())))
        if steps[-1] < 2**20:
            loop.call_soon(step)
        elif not line.ends():
            line.interrupt(turn)

    loop.call_soon(step)
    await until(line.ends, "the end")
    assert max(after - before for before, after in pairwise(steps)) <= STEP_BYTES + WRITE_BYTES
    assert sum(map(len, line.texts())) < 2**21


async def test_a_long_output_to_a_fast_reader_is_written_to_its_end() -> None:
    """Nobody else needs to call the session."""

    async def at_once(turn: Turn) -> AsyncIterator[Output]:
        yield "x" * 2**20

    line = Line(serve(at_once))
    line.ask()
    await until(line.ends, "the end")
    assert sum(map(len, line.texts())) == 2**20


async def test_a_full_wire_takes_answers_and_no_output() -> None:
    """Output waits for the buffer; pongs, ends and errors do not."""
    line = Line(serve(patient))
    line.block()
    turn = line.ask()
    line.send(Ping(id="p"))
    line.interrupt(turn)
    assert line.types() == [
        "session.opened", "input.accepted", "turn.started", "pong", "interrupt.result", "turn.ended",
    ]  # fmt: skip


async def test_a_client_that_never_reads_its_answers_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound of unread answers the connection is aborted, and takes nothing more."""
    line = Line(serve(patient, max_queued_answer_bytes=2048))
    line.send(SessionOpen())
    line.block()
    for n in range(1000):
        line.send(Ping(id=f"p{n}"))
    assert line.wire.aborted
    assert 2048 < line.wire.backlog < 2048 + 100
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_backlog_that_is_within_the_bound_or_drains_is_no_reason_to_drop() -> None:
    """Only what a full wire holds beyond the bound is."""
    line = Line(serve(patient, max_queued_answer_bytes=4096))
    line.send(SessionOpen())
    for _ in range(10):
        line.block()
        for n in range(50):
            line.send(Ping(id=f"p{n}"))
        line.block(False)
    line.wire.backlog = 10_000  # much is on its way, and the wire takes more
    line.send(Ping(id="p"))
    assert not line.wire.aborted


# --- in ------------------------------------------------------------------------------------------


async def test_a_frame_that_is_no_event_is_answered_before_and_after_the_opening() -> None:
    """The first frame is still awaited after a broken one, and the session lives on."""
    line = Line(serve(patient))
    for frame in (b"{", b'{"type":"no.such"}', b'{"type":"ping"}'):
        line.connection.receive(frame, True)
    assert errors(line) == ["bad_frame", "unknown_type", "bad_event"]
    line.send(SessionOpen())
    line.connection.receive(b'{"type":"no.such","id":"n"}', True)
    assert line.types()[3:] == ["session.opened", "error"]
    assert [event.ref_id for event in line.events if isinstance(event, ErrorEvent)][-1] == "n"


async def test_a_binary_frame_on_json_is_the_wrong_codec() -> None:
    """Nothing of it is decoded."""
    line = Line(serve(patient))
    line.connection.receive(b'{"type":"session.open"}', False)
    assert errors(line) == ["wrong_codec"]
    assert line.types() == ["error"]


async def test_a_fault_of_ours_ends_one_connection_and_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """1011 to this client, the exception to the log; the session can be resumed."""
    sessions = serve(patient)
    line, other = Line(sessions), Line(sessions)
    line.send(SessionOpen())
    other.send(SessionOpen())
    live = next(live for live in sessions if live.connection is line.connection)

    def fails(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(live.core, "receive", fails)
    line.send(Ping(id="p"))
    other.send(Ping(id="p"))
    assert line.wire.closed is INTERNAL
    assert "secret" not in repr(line.events)
    assert "ZeroDivisionError" in caplog.text
    assert other.types()[-1] == "pong"


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.virtual_time
@pytest.mark.parametrize("frames", [0, 1])
async def test_a_connection_without_a_first_event_is_closed_in_time(frames: int) -> None:
    """4408 after `first_frame_s`; a frame that is no event does not count."""
    line = Line(serve(patient, first_frame_s=10))
    for _ in range(frames):
        line.connection.receive(b"{", True)
    await asyncio.sleep(9.9)
    assert line.wire.closed is None
    await asyncio.sleep(0.2)
    assert line.wire.closed is OPEN_TIMEOUT


@pytest.mark.virtual_time
async def test_a_connection_with_a_first_event_is_not() -> None:
    """Nor one that was lost before."""
    sessions = serve(patient, first_frame_s=10)
    line, lost = Line(sessions), Line(sessions)
    line.send(SessionOpen())
    lost.drop()
    await asyncio.sleep(11)
    assert (line.wire.closed, lost.wire.closed) == (None, None)


@pytest.mark.virtual_time
async def test_a_silent_session_sends_heartbeats() -> None:
    """They are due by the clock alone, with nobody calling the session."""
    line = Line(serve(patient, heartbeat_s=10, no_output_s=1000))
    line.ask()
    await asyncio.sleep(61)
    assert 5 <= len([event for event in line.events if isinstance(event, Heartbeat)]) <= 12


async def test_a_lost_connection_tells_who_waits_for_it_and_is_told_once() -> None:
    """`lost` is set; a second report of the loss is harmless."""
    sessions = serve(patient)
    line = Line(sessions)
    line.send(SessionOpen())
    line.drop()
    line.drop()
    assert line.connection.lost.done()
    assert only(sessions).connection is None


async def test_a_lost_connection_is_not_written_to(caplog: pytest.LogCaptureFixture) -> None:
    """What the turn says meanwhile goes to the log of the session."""
    go_on = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        await go_on.wait()
        yield "after"

    caplog.set_level(logging.WARNING)
    sessions = serve(agent)
    line = Line(sessions)
    turn = line.ask()
    line.drop()
    seen = len(line.events)
    go_on.set()
    core = only(sessions).core
    await until(lambda: core.turn(turn).fold.ended)
    line.send(InputText(id=InputId("late"), text="x"))
    assert len(line.events) == seen
    assert not [event for event in line.events if isinstance(event, TextDelta)]


async def talkative(turn: Turn) -> AsyncIterator[Output]:
    """Writes two words, both of them in an open run since the second comes late enough, and then waits."""
    yield "One "
    await asyncio.sleep(0.01)
    yield "two "
    await asyncio.Event().wait()


async def test_an_end_past_a_full_buffer_counts_as_an_answer() -> None:
    """It is handed over at once, and must be counted all the same (contract 12)."""
    line = Line(serve(talkative, max_queued_answer_bytes=10))
    turn = line.ask()
    await until(lambda: line.texts() == ["One ", "two "])
    line.wire.blocked = True
    line.interrupt(turn)
    assert line.types()[-2:] == ["interrupt.result", "turn.ended"]
    assert line.wire.aborted


@pytest.mark.parametrize("answer_bytes", [10, 100_000])
async def test_an_end_in_time_is_no_backlog(answer_bytes: int) -> None:
    """What a wire takes that is not full counts for nothing."""
    line = Line(serve(talkative, max_queued_answer_bytes=answer_bytes))
    turn = line.ask()
    await until(lambda: line.texts() == ["One ", "two "])
    line.interrupt(turn)
    assert line.types()[-2:] == ["interrupt.result", "turn.ended"]
    assert not line.wire.aborted


@pytest.mark.parametrize("agent", [patient, talkative])
async def test_an_interrupted_turn_is_told_with_all_that_was_written(agent: Agent) -> None:
    """In one write, with the numbers that the client has seen (contracts 3 and 7)."""
    line = Line(serve(agent))
    turn = line.ask()
    words = ["word "] if agent is patient else ["One ", "two "]
    await until(lambda: line.texts() == words)
    line.wire.writes.clear()
    line.interrupt(turn)
    [end] = line.ends()
    assert line.wire.writes == [2]
    assert (end.heard.text, end.heard.seq, end.last_seq) == ("".join(words), end.seq - 1, end.seq - 1)


@pytest.mark.parametrize("named", [True, False])
async def test_an_interrupt_that_ends_nothing_leaves_the_sentence_going(named: bool) -> None:
    """Its answer goes out, and the text that follows has the next number."""
    go_on = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "One "
        await asyncio.sleep(0.01)
        yield "two "
        await go_on.wait()
        yield "three"
        await asyncio.Event().wait()

    line = Line(serve(agent))
    turn = line.ask()
    await until(lambda: line.texts() == ["One ", "two "])
    last = [event.seq for event in line.events if isinstance(event, TextDelta)][-1]
    line.send(
        Interrupt(
            id=InterruptId("x"),
            turn_id=TurnId("another") if named else None,
            input_id=None if named else InputId("another"),
        )
    )
    assert line.types()[-1] == "interrupt.result"
    go_on.set()
    await until(lambda: line.texts() == ["One ", "two ", "three"])
    assert [event.seq for event in line.events if isinstance(event, TextDelta)][-1] == last + 1
    line.interrupt(turn)
    assert line.ends()[0].heard.text == "One two three"
