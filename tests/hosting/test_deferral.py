"""Deferred text: purged without a number by an end, else written in its order, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from bargein_protocol import (
    AgentOutput,
    Interrupt,
    InterruptId,
    Played,
    SessionClose,
    Status,
    TextDelta,
    Thought,
    TurnHold,
    TurnId,
    TurnResume,
)
from bargein_server.core.author_code import TEXT_PIECE
from bargein_server.core.text_run import MAX_UNSETTLED
from bargein_server.core.turn_record import COMPLETED, MAX_TURN_CHARS
from deferred_turn import DeferredTurn, waits
from memory_client import Line, serve


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> DeferredTurn:
    """A turn of which the text is deferred."""
    return DeferredTurn(monkeypatch)


# --- purged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("played", [None, Played(chars=2)])
async def test_deferred_text_is_not_heard_or_numbered(scene: DeferredTurn, played: Played | None) -> None:
    """Whether the client reports what was played or not, the interrupt purges it (contract 2)."""
    line = scene.line
    assert scene.send("it")
    assert scene.send(" and more")
    before = len(line.events)
    line.send(Interrupt(id=InterruptId("x"), turn_id=scene.turn, played=played))
    assert line.types()[before:] == ["interrupt.result", "turn.ended"]
    end = line.ends()[0]
    assert end.heard.text == ("all of " if played is None else "al")
    assert end.seq - 1 == end.last_seq
    assert scene.scheduler.write() == [False]
    assert line.texts() == ["all ", "of "]
    assert scene.host.core.turn(scene.turn).queued_bytes == 0
    scene.check()


async def test_an_input_purges_deferred_text(scene: DeferredTurn) -> None:
    """Whatever ends the turn does."""
    scene.send("it")
    following = scene.line.ask("next")
    assert scene.scheduler.write() == [False]
    assert scene.line.texts() == ["all ", "of "]
    assert scene.line.ends()[0].heard.text == "all of "
    scene.turn = following
    assert scene.send("next")
    assert scene.line.texts()[-1] == "next"
    scene.check()


@pytest.mark.parametrize("how", ["close", "shut_down", "guest"])
async def test_every_end_purges_deferred_text(scene: DeferredTurn, how: str) -> None:
    """A closed session, a server that stops, and somebody who interrupts from aside."""
    line, host = scene.line, scene.host
    scene.send("it")
    if how == "close":
        line.send(SessionClose())
    elif how == "shut_down":
        host.act(host.core.shut_down)
    else:
        host.act(host.core.side_channel.request, Interrupt(id=InterruptId("x"), turn_id=scene.turn))
    assert [end.heard.text for end in line.ends()] == ["all of "]
    scene.scheduler.write()
    assert scene.text() == "all of "
    scene.check()


async def test_a_hold_stops_deferred_text_until_the_resume(scene: DeferredTurn) -> None:
    """It has no number yet, so it waits in the queue like any other output (contract 10)."""
    line = scene.line
    scene.send("it")
    line.send(TurnHold(turn_id=scene.turn))
    scene.scheduler.write()
    assert line.types()[-1] == "turn.held"
    assert scene.text() == "all of "
    line.send(TurnResume(turn_id=scene.turn))
    assert line.types()[-2:] == ["turn.resumed", "text.delta"]
    assert scene.text() == "all of it"
    scene.check()


# --- written -------------------------------------------------------------------------------------


async def test_deferred_text_is_written_in_its_order_and_in_one_write(scene: DeferredTurn) -> None:
    """Each piece under a number of its own; then text is written immediately again."""
    for word in ("it", " and", " more"):
        assert scene.send(word)
    assert scene.text() == "all of "
    scene.line.wire.writes.clear()
    assert scene.scheduler.write() == [True]
    assert scene.line.wire.writes == [3]
    assert scene.line.texts()[2:] == ["it", " and", " more"]
    scene.scheduler.deferring = False
    scene.send(".")
    assert scene.text() == "all of it and more."
    scene.line.interrupt(scene.turn)
    assert scene.line.ends()[0].heard.text == "all of it and more."
    scene.check()


async def test_a_session_waits_once_for_all_of_its_text(scene: DeferredTurn) -> None:
    """Text that joins waiting text asks the scheduler for nothing."""
    for word in ("it", " and", " more"):
        scene.send(word)
    assert scene.scheduler.waiting == [scene.host]


async def test_an_interrupt_of_something_else_loses_no_word(scene: DeferredTurn) -> None:
    """Deferred text is written when nothing cuts it."""
    scene.send("it")
    scene.line.interrupt(TurnId("another"))
    scene.line.flush()
    scene.scheduler.write()
    assert scene.text() == "all of it"
    scene.check()


@pytest.mark.parametrize("output", [Status(message="s"), Thought(text="t"), "x" * (TEXT_PIECE + 1)])
async def test_other_output_follows_deferred_text(scene: DeferredTurn, output: str | AgentOutput) -> None:
    """It takes the way through the core, and the deferred text goes before it."""
    scene.send("it ")
    assert scene.send(output)
    shown = [event for event in scene.line.events if isinstance(event, (Status, TextDelta, Thought))]
    assert isinstance(shown[2], TextDelta)
    assert shown[2].text == "it "
    assert len(shown) == (5 if isinstance(output, str) else 4)
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_text_that_gushes_stands_behind_deferred_text(scene: DeferredTurn) -> None:
    """All of it leaves together at the end of the iteration."""
    scene.send("it ")
    assert scene.gush("and ")
    assert scene.gush("more")
    await asyncio.sleep(0)
    assert scene.text() == "all of it and more"
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_text_that_comes_while_the_records_are_full_is_written_behind_the_deferred_text(
    scene: DeferredTurn,
) -> None:
    """A run takes so many pieces; the others go through the queue, in their order."""
    words = [f"{n} " for n in range(MAX_UNSETTLED + 5)]
    for word in words:
        assert scene.send(word) is not None
    scene.scheduler.write()
    assert scene.text() == "all of " + "".join(words)
    scene.check()


@pytest.mark.parametrize("output_bytes", [1 << 30])
async def test_deferred_text_beyond_what_a_turn_remembers_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, output_bytes: int
) -> None:
    """The records take no more of it, and the client gets it by the frames."""
    scene = DeferredTurn(monkeypatch, max_queued_output_bytes=output_bytes)
    scene.scheduler.deferring = False
    for _ in range(MAX_TURN_CHARS // TEXT_PIECE - 1):
        scene.send("x" * TEXT_PIECE)
    scene.scheduler.deferring = True
    scene.send("y" * (TEXT_PIECE - 10))
    scene.send("over the edge ")
    scene.send("and beyond")
    scene.scheduler.write()
    assert scene.text().endswith("yover the edge and beyond")
    scene.line.interrupt(scene.turn)
    assert scene.line.ends()[0].heard.text == scene.text()[:MAX_TURN_CHARS]
    scene.check()


# --- bounded -------------------------------------------------------------------------------------


async def test_deferred_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `max_queued_output_bytes` it is written, or the agent is not pulled any more."""
    scene = DeferredTurn(monkeypatch, max_queued_output_bytes=8192)
    sent, goes_on = len("all of "), True
    while goes_on and sent < 100_000:
        goes_on = bool(scene.send("x" * 100))
        sent += 100
        assert sent - len(scene.text()) <= 8192 + 100
    scene.scheduler.write()
    assert len(scene.text()) == sent
    scene.check()


async def test_what_waits_is_written_before_the_end_of_the_turn(scene: DeferredTurn) -> None:
    """An agent that returns ends its turn behind the deferred text."""
    core = scene.host.core
    scene.send("it")
    scene.host.act(core.finish, scene.turn, COMPLETED)
    assert scene.text() == "all of it"
    [end] = scene.line.ends()
    assert (end.status, end.heard.text) == ("completed", "all of it")
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_only_the_session_that_waits_is_asked_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose run was reopened by another turn writes nothing of the old one."""
    scene = DeferredTurn(monkeypatch)
    scene.send("old")
    scene.line.interrupt(scene.turn)
    scene.turn = scene.line.ask("again")
    scene.scheduler.deferring = False
    scene.send("new ")
    scene.scheduler.deferring = True
    scene.send("and newer")
    assert scene.scheduler.write() == [True, False]
    assert scene.line.texts()[2:] == ["new ", "and newer"]
    scene.check()


async def test_only_the_turn_of_a_run_writes_into_it(scene: DeferredTurn) -> None:
    """Text that an agent yields after its end is dropped, though the next turn has an open run."""
    scene.scheduler.deferring = False
    old, new = scene.turn, scene.line.ask("again")
    scene.turn = new
    scene.send("new ")
    scene.turn = old
    assert scene.send("stale ") is None
    scene.turn = new
    scene.send("words")
    assert scene.text() == "all of new words"
    scene.check()


async def test_a_session_without_a_run_has_nothing_deferred() -> None:
    """The scheduler may ask at any time."""
    line = Line(serve(waits))
    line.ask()
    [host] = line.sessions
    assert not host.write_deferred()
    line.drop()
    assert not host.write_deferred()
