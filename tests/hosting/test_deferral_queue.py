"""Deferred text that goes back into the queue: what closes its run neither loses nor delays it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from bargein_protocol import (
    JSON,
    Cursor,
    InputId,
    InputText,
    Ping,
    Resume,
    Seq,
    SessionOpened,
    TextDelta,
)
from bargein_protocol.errors import CLOSED
from bargein_server.transport.event_stream import EventStreamWire, FollowerConnection
from deferred_turn import DeferredTurn
from memory_client import FakeWire


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> DeferredTurn:
    """A turn of which the text is deferred."""
    return DeferredTurn(monkeypatch)


async def test_deferred_text_goes_back_into_the_queue_when_the_wire_is_full(scene: DeferredTurn) -> None:
    """There an interrupt can purge it, and the drained wire takes it."""
    scene.send("it ")
    scene.line.block()
    assert scene.scheduler.write() == [True]
    assert scene.host.core.turn(scene.turn).queued_bytes > 0
    scene.send("and more")
    assert scene.text() == "all of "
    scene.line.block(False)
    assert scene.text() == "all of it and more"
    scene.check()


async def test_a_full_wire_keeps_deferred_text_where_an_interrupt_purges_it(scene: DeferredTurn) -> None:
    """Also when it went back into the queue before."""
    scene.send("it ")
    scene.line.block()
    scene.scheduler.write()
    scene.line.interrupt(scene.turn)
    scene.line.block(False)
    assert scene.text() == "all of "
    assert scene.line.ends()[0].heard.text == "all of "
    scene.check()


async def test_text_for_a_full_wire_waits_where_an_interrupt_purges_it(scene: DeferredTurn) -> None:
    """An open run does not pass the wire's mark by (contract 12)."""
    scene.scheduler.deferring = False
    scene.line.block()
    scene.send("it")
    assert scene.text() == "all of "
    scene.line.interrupt(scene.turn)
    scene.line.block(False)
    assert scene.text() == scene.line.ends()[0].heard.text == "all of "
    scene.check()


async def test_text_for_a_full_wire_stands_behind_deferred_text(scene: DeferredTurn) -> None:
    """The wire has filled before the deferred text's time came."""
    scene.send("it ")
    scene.line.block()
    scene.send("and more")
    scene.scheduler.write()
    scene.line.block(False)
    assert scene.text() == "all of it and more"
    scene.check()


async def test_deferred_text_of_a_lost_client_goes_to_the_log(scene: DeferredTurn) -> None:
    """The turn goes on, and whoever comes back gets all of it (contract 11)."""
    scene.send("it ")
    scene.line.drop()
    assert scene.scheduler.write() == [False]
    record = scene.host.core.turn(scene.turn)
    assert record.queued_bytes == 0
    scene.host.core.output.settle()
    assert str(record.fold.main_lane.text) == "all of it "
    assert record.heard_position.taken == record.fold.last_output_seq - 1


def follow(scene: DeferredTurn) -> tuple[FollowerConnection, FakeWire]:
    """Let a follower join; returns its connection and its wire."""
    host, wire = scene.host, FakeWire()
    follower = host.core.side_channel.follow(JSON, None)
    assert follower is not None
    following = FollowerConnection(cast(EventStreamWire, wire), scene.line.sessions, host, follower)
    return following, wire


async def test_a_follower_that_joins_reads_deferred_text_when_it_is_written(scene: DeferredTurn) -> None:
    """It reads the log, so the text goes through the core from then on."""
    scene.send("it ")
    following, wire = follow(scene)
    scene.send("and more")
    scene.scheduler.write()
    texts = [event.text for event in wire.events if isinstance(event, TextDelta)]
    assert "".join(texts) == scene.text() == "all of it and more"
    scene.check()
    following.close(CLOSED)


async def test_a_follower_that_joins_does_not_delay_deferred_text(scene: DeferredTurn) -> None:
    """It goes back into the queue, and is written in its time though the agent adds nothing."""
    scene.send("it")
    following, wire = follow(scene)
    scene.scheduler.write()
    await asyncio.sleep(0)
    assert scene.text() == "all of it"
    assert "".join(event.text for event in wire.events if isinstance(event, TextDelta)) == "all of it"
    following.close(CLOSED)


async def test_a_section_that_begins_does_not_delay_deferred_text(scene: DeferredTurn) -> None:
    """The agent may be busy in it for seconds: what it said before must not wait for that."""
    scene.send("I place the order.")
    assert scene.host.core.enter_section(scene.turn)
    scene.scheduler.write()
    await asyncio.sleep(0)
    assert scene.text() == "all of I place the order."


@pytest.mark.parametrize("asked", ["cursor", "refusal"])
async def test_a_question_to_the_core_does_not_delay_deferred_text(scene: DeferredTurn, asked: str) -> None:
    """Whoever asks for its numbers closes the run and changes nothing else."""
    scene.send("it")
    core = scene.host.core
    if asked == "cursor":
        assert core.side_channel.cursor.seq == scene.numbers()[-1]
    else:
        [opened] = [event for event in scene.line.events if isinstance(event, SessionOpened)]
        cursor = Cursor(epoch=opened.epoch, seq=Seq(scene.numbers()[-1] + 1))
        resume = Resume(session_id=opened.session_id, token=opened.token, cursor=cursor)
        assert core.refusal(resume, scene.host.loop.time()) == "cursor_ahead"
    scene.scheduler.write()
    await asyncio.sleep(0)
    assert scene.text() == "all of it"


@pytest.mark.virtual_time
async def test_the_timer_does_not_delay_deferred_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick closes the run, and writes what was deferred."""
    scene = DeferredTurn(monkeypatch, heartbeat_s=2.0)
    scene.send("it")
    scene.host.act(scene.host.core.tick)
    assert scene.text() == "all of it"
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_an_answer_overtakes_deferred_text_and_loses_none_of_it(scene: DeferredTurn) -> None:
    """Answers must not wait; the text follows."""
    scene.send("it")
    scene.line.send(Ping(id="p"))
    assert scene.line.types().count("pong") == 1
    scene.scheduler.write()
    assert scene.text() == "all of it"
    scene.check()


async def test_an_input_that_queues_loses_no_deferred_text(scene: DeferredTurn) -> None:
    """Nothing is cut by it."""
    scene.send("it")
    scene.line.send(InputText(id=InputId("next"), text="and?", on_busy="queue"))
    scene.scheduler.write()
    assert scene.text() == "all of it"
    scene.check()
