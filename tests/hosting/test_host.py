"""A session that lives: when output is written, who is woken, and when its timer fires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from bargein_protocol import (
    JSON,
    InputId,
    InputText,
    Playback,
    SessionClose,
    SessionOpen,
    SessionUpdate,
    Status,
    TextDelta,
    TurnHeld,
    TurnHold,
    TurnId,
)
from bargein_protocol.errors import CLOSED
from bargein_server import Output, Turn
from bargein_server.hosting import host as host_module
from bargein_server.hosting.host import SessionHost
from bargein_server.hosting.pacing import FlushScheduler
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.transport.event_stream import EventStreamWire, FollowerConnection
from memory_client import FakeWire, Line, serve
from waiting import until


def only(sessions: SessionRegistry) -> SessionHost:
    [live] = sessions
    return live


class Clock:
    """Stands in for `perf_counter`: the flush policy's clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the flush policy, moved by hand."""
    clock = Clock()
    monkeypatch.setattr(host_module, "perf_counter", clock)
    # Nothing waits for other sessions (`test_deferral`): uvloop's clock does not go on within a step.
    monkeypatch.setattr(FlushScheduler, "defers", lambda *_: False)
    return clock


async def waits(turn: Turn) -> AsyncIterator[Output]:
    """Lets the test speak in its place."""
    await asyncio.Event().wait()
    yield "never"


def speak(live: SessionHost, turn: TurnId, text: str, clock: Clock) -> None:
    """Do what the runner does with an output."""
    assert live.send_output(turn, text, clock.now)


def spoken_to(clock: Clock, *words: str) -> tuple[Line, TurnId]:
    """Return a client to whom a turn is saying something."""
    line = Line(serve(waits))
    turn = line.ask()
    for word in words:
        clock.now += 1
        speak(only(line.sessions), turn, word, clock)
    return line, turn


async def quick(turn: Turn) -> AsyncIterator[Output]:
    """Answers without waiting, and then waits."""
    yield "At once." if turn.text == "text.delta" else turn.thought("Hm.")
    await asyncio.Event().wait()


@pytest.mark.parametrize("kind", ["text.delta", "thought"])
async def test_an_agent_that_answers_at_once_does_so_in_one_write_with_the_answer_to_its_input(
    kind: str,
) -> None:
    """A write costs more than all the rest of a short turn."""
    line = Line(serve(quick))
    line.send(SessionOpen())
    line.wire.writes.clear()
    line.send(InputText(id=InputId("i"), text=kind))
    await line.until(kind)
    assert line.types()[-3:] == ["input.accepted", "turn.started", kind]
    assert line.wire.writes == [3]


@pytest.mark.virtual_time
async def test_an_agent_that_falls_silent_at_once_is_noticed() -> None:
    """Its first words leave before the timers of its turn are set."""
    line = Line(serve(quick, no_output_s=10, heartbeat_s=1000))
    line.send(SessionOpen())
    line.send(InputText(id=InputId("i"), text="text.delta"))
    await asyncio.sleep(15)
    assert [end.reason for end in line.ends()] == ["no_output"]


async def test_the_answer_to_an_input_does_not_wait_for_its_agent() -> None:
    """It leaves with the iteration of the loop in which the input was read."""
    line = Line(serve(waits))
    line.send(SessionOpen())
    line.send(InputText(id=InputId("i"), text="hello"))
    await asyncio.sleep(0)
    assert line.types()[-2:] == ["input.accepted", "turn.started"]


async def test_what_an_input_cuts_off_has_ended_in_the_same_step() -> None:
    """Silence comes first (contract 3): only an input that nothing stands before is answered later."""
    line = Line(serve(waits))
    turn = line.ask()
    line.wire.writes.clear()
    line.send(InputText(id=InputId("next"), text="hello"))
    assert [end.turn_id for end in line.ends()] == [turn]
    assert line.wire.writes == [3]


async def test_a_token_that_trickles_is_written_at_once(clock: Clock) -> None:
    """In the step in which it was yielded, each in its own write."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    for n in range(1, 4):
        clock.now += 1
        speak(only(sessions), turn, f"{n} ", clock)
        assert len(line.texts()) == n


async def test_what_was_said_is_known_before_anything_else_is_asked(clock: Clock) -> None:
    """The interrupt's answer tells all of it as heard, under the numbers that it had (contract 7)."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    for word in ("all ", "of ", "it"):
        clock.now += 1
        speak(only(sessions), turn, word, clock)
    line.interrupt(turn)
    end = line.ends()[0]
    assert (end.heard.text, end.heard.seq, end.last_seq) == ("all of it", end.seq - 1, end.seq - 1)


async def test_an_interrupt_of_an_open_run_is_written_before_the_books_are_kept(clock: Clock) -> None:
    """The user waits for the answer and the end, and not for the log and the turn's text."""
    line, turn = spoken_to(clock, "all ", "of it")
    sequencer = only(line.sessions).core.output._sequencer
    tops: list[int] = []

    class LookingWire(FakeWire):
        def write(self, frames: Sequence[bytes]) -> None:
            tops.append(sequencer._log.top)
            super().write(frames)

    line.wire.__class__ = LookingWire
    before = len(line.events)
    line.interrupt(turn)
    assert line.types()[before:] == ["interrupt.result", "turn.ended"]
    [end] = line.ends()
    assert (end.heard.text, end.heard.seq, end.last_seq) == ("all of it", end.seq - 1, end.seq - 1)
    assert tops[0] == end.seq - 3
    assert sequencer.top == end.seq
    assert line.wire.writes[-1] == 2


async def test_who_joins_in_the_middle_of_an_open_run_reads_along_at_once(clock: Clock) -> None:
    """Between asking for a place and taking it, the agent may have gone on."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    live = only(sessions)
    wire = FakeWire()
    follower = live.core.side_channel.follow(JSON, live.core.side_channel.cursor)
    assert follower is not None
    clock.now += 1
    speak(live, turn, "early ", clock)
    following = FollowerConnection(cast(EventStreamWire, wire), sessions, live, follower)
    clock.now += 1
    speak(live, turn, "late", clock)
    assert [event.text for event in wire.events if isinstance(event, TextDelta)] == ["early ", "late"]
    following.close(CLOSED)


async def test_text_beside_other_output_keeps_its_order(clock: Clock) -> None:
    """Status, words, and a status again: numbers follow one another."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    live = only(sessions)
    for output in (Status(message="1"), "2", "3", Status(message="4"), "5"):
        clock.now += 1
        assert live.send_output(turn, output, clock.now)
    said = [event for event in line.events if isinstance(event, (Status, TextDelta))]
    assert [event.text if isinstance(event, TextDelta) else event.message for event in said] == list("12345")
    assert [event.seq for event in said] == list(range(said[0].seq, said[0].seq + 5))


async def test_tokens_that_gush_are_written_together_at_the_end_of_the_iteration(clock: Clock) -> None:
    """The first at once, the others in one write; they do not wait for a timer."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    clock.now += 1
    line.wire.writes.clear()
    for n in range(50):
        speak(only(sessions), turn, f"{n} ", clock)
    assert line.wire.writes == [1]
    await asyncio.sleep(0)
    assert line.wire.writes == [1, 49]


async def test_a_gush_counts_from_its_last_write(clock: Clock) -> None:
    """After the late write the next token is soon again, and waits for its own iteration."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    live = only(sessions)
    clock.now += 1
    for text in ("a", "b"):
        speak(live, turn, text, clock)
    await asyncio.sleep(0)
    clock.now += host_module.FLUSH_GAP_S / 2
    speak(live, turn, "c", clock)
    assert line.texts() == ["a", "b"]
    await asyncio.sleep(0)
    clock.now += host_module.FLUSH_GAP_S * 1.5
    speak(live, turn, "d", clock)
    assert line.texts() == ["a", "b", "c", "d"]


async def test_what_gushed_is_purged_by_an_interrupt_of_the_same_iteration(clock: Clock) -> None:
    """It was not written yet, so it never is (contract 2)."""
    sessions = serve(waits)
    line = Line(sessions)
    turn = line.ask()
    clock.now += 1
    for text in ("a", "b", "c"):
        speak(only(sessions), turn, text, clock)
    line.interrupt(turn)
    await asyncio.sleep(0)
    assert line.texts() == ["a"]


async def test_whoever_waits_to_pull_is_woken_by_the_drained_line_and_by_the_fence() -> None:
    """Not before; a task that is cancelled while it waits leaves nothing behind."""
    sessions = serve(waits, max_queued_output_bytes=1024)
    line = Line(sessions)
    line.block()
    turn = line.ask()
    live = only(sessions)
    live.core.emit(turn, "x" * 2000, live.loop.time())
    waiters = [asyncio.ensure_future(live.pullable()) for _ in range(3)]
    for _ in range(5):
        live.flush()
        await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    waiters[0].cancel()
    line.block(False)
    await until(lambda: all(waiter.done() for waiter in waiters))
    line.block()
    live.core.emit(turn, "x" * 2000, live.loop.time())
    waiter = asyncio.ensure_future(live.pullable())
    await asyncio.sleep(0)
    line.interrupt(turn)
    await until(waiter.done)
    assert live._waiters == set()


@pytest.mark.virtual_time
async def test_a_deadline_that_comes_nearer_moves_the_timer() -> None:
    """A hold of two seconds ends in time though the timer stood at a later deadline."""
    sessions = serve(waits, hold_s=2, heartbeat_s=1000, no_output_s=500)
    line = Line(sessions)
    turn = line.ask()
    await asyncio.sleep(1)
    line.send(TurnHold(turn_id=turn))
    assert [event for event in line.events if isinstance(event, TurnHeld)]
    await asyncio.sleep(1.9)
    assert line.types()[-1] == "turn.held"
    await asyncio.sleep(0.2)
    assert line.types()[-1] == "turn.resumed"


async def test_what_is_due_at_once_does_not_hinder_the_next_message() -> None:
    """Of a timer without a delay uvloop makes a handle that does not know its time."""
    line = Line(serve(waits, hold_s=1e-5))
    turn = line.ask()
    line.send(TurnHold(turn_id=turn))
    line.interrupt(turn)
    assert [end.status for end in line.ends()] == ["interrupted"]


@pytest.mark.virtual_time
async def test_a_silent_agent_is_ended_by_the_timer_and_cancelled() -> None:
    """Nobody has to call for the no-output time to be over."""
    sessions = serve(waits, no_output_s=30)
    line = Line(sessions)
    line.ask()
    await asyncio.sleep(31)
    assert [(end.status, end.reason) for end in line.ends()] == [("failed", "no_output")]
    assert only(sessions).tasks() == []


async def test_the_commands_of_one_step_are_carried_out_in_order() -> None:
    """An input and its interrupt in one opening: the task is made, cancelled and gone."""
    entered: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        entered.append(turn.text)
        yield "x"

    sessions = serve(agent, max_history_turns=1)
    line = Line(sessions)
    inputs = [InputText(id=InputId(f"i{n}"), text=str(n)) for n in range(4)]
    line.send(SessionOpen(pending=list(inputs)))
    await line.until("turn.ended", 4)
    assert entered == ["3"]
    await until(lambda: only(sessions).tasks() == [])


async def test_an_agent_reads_the_metadata_and_the_id_of_its_session() -> None:
    """They are those of the client's `session.update` and `session.opened`."""
    seen: list[object] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        seen.append((turn.session.id, turn.session.metadata, turn.session.principal))
        yield "x"

    sessions = serve(agent)
    line = Line(sessions)
    line.send(SessionUpdate(metadata={"voice": "low"}))
    line.ask()
    await line.until("turn.ended")
    assert seen == [(only(sessions).view.id, {"voice": "low"}, None)]


@pytest.mark.virtual_time
async def test_a_closed_session_has_no_timer_left() -> None:
    """Nothing of it is ever due again."""
    sessions = serve(waits)
    line = Line(sessions)
    line.ask()
    live = only(sessions)
    line.send(SessionClose())
    line.drop()
    await until(lambda: live.tasks() == [])
    assert live._timer is None
    line.send(Playback(turn_id=TurnId("t")))
    assert live._timer is None
