"""Text that waits for other sessions' turn to write: purged without a number, else written in its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from bargein_protocol import (
    JSON,
    AgentOutput,
    Cursor,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    Numbered,
    Ping,
    Played,
    Resume,
    Seq,
    SessionClose,
    SessionOpened,
    Status,
    TextDelta,
    Thought,
    TurnHold,
    TurnId,
    TurnResume,
)
from bargein_protocol.errors import CLOSED
from bargein_server import Output, Turn
from bargein_server.core.text_run import MAX_UNSETTLED
from bargein_server.core.turn_record import COMPLETED, MAX_TURN_CHARS
from bargein_server.core.validation import TEXT_PIECE
from bargein_server.hosting import host as host_module
from bargein_server.hosting import registry as registry_module
from bargein_server.hosting.flush_scheduler import Deferred, FlushScheduler
from bargein_server.transport.event_stream import EventStreamWire, FollowerConnection
from memory_client import FakeWire, Line, serve


class HandScheduler(FlushScheduler):
    """Defers when the test says so, and writes when the test says so.

    Attributes:
        deferring: Whether text must wait.
        waiting: The sessions with text that waits.
    """

    deferring = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.waiting: list[Deferred] = []

    def defers(self, session: Deferred, now: float) -> bool:
        if self.deferring:
            self.waiting.append(session)
        return self.deferring

    def write(self) -> list[bool]:
        """Let those that wait write, as one of the loop's next iterations does."""
        waiting, self.waiting = self.waiting, []
        return [session.write_deferred() for session in waiting]


async def waits(turn: Turn) -> AsyncIterator[Output]:
    """Lets the test speak in its place."""
    await asyncio.Event().wait()
    yield "never"


class Scene:
    """A client that has read the first words of a turn; what the turn adds is deferred."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
        self._clock = 1000.0
        monkeypatch.setattr(host_module, "perf_counter", lambda: self._clock)
        monkeypatch.setattr(registry_module, "FlushScheduler", HandScheduler)
        self.line = Line(serve(waits, **settings))
        self.scheduler = cast(HandScheduler, self.line.sessions.flush_scheduler)
        self.turn = self.line.ask()
        [self.host] = self.line.sessions
        assert self.send("all ")
        assert self.send("of ")
        self.scheduler.deferring = True

    def send(self, output: str | AgentOutput) -> bool | None:
        """Do what the runner does with an output that trickles."""
        self._clock += 1.0
        return self.host.send_output(self.turn, output, self._clock)

    def gush(self, output: str | AgentOutput) -> bool | None:
        """Do the same with one that comes right after the one before."""
        return self.host.send_output(self.turn, output, self._clock)

    def numbers(self) -> list[int]:
        return [event.seq for event in self.line.events if isinstance(event, Numbered) and event.seq]

    def text(self) -> str:
        return "".join(self.line.texts())

    def check(self) -> None:
        """Numbers follow one another, and nothing of the turn follows its end."""
        assert self.numbers() == list(range(1, len(self.numbers()) + 1))
        for end in self.line.ends():
            assert end.last_seq < end.seq
            assert not [
                event
                for event in self.line.events
                if isinstance(event, TextDelta) and event.turn_id == end.turn_id and event.seq > end.seq
            ]


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """See the class."""
    return Scene(monkeypatch)


# --- purged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("played", [None, Played(chars=2)])
async def test_deferred_text_is_neither_heard_nor_numbered(scene: Scene, played: Played | None) -> None:
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


async def test_an_input_purges_deferred_text(scene: Scene) -> None:
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
async def test_every_end_purges_deferred_text(scene: Scene, how: str) -> None:
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


async def test_a_hold_stops_deferred_text_until_the_resume(scene: Scene) -> None:
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


async def test_deferred_text_is_written_in_its_order_and_in_one_write(scene: Scene) -> None:
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


async def test_a_session_waits_once_for_all_of_its_text(scene: Scene) -> None:
    """Text that joins waiting text asks the scheduler for nothing."""
    for word in ("it", " and", " more"):
        scene.send(word)
    assert scene.scheduler.waiting == [scene.host]


async def test_an_interrupt_of_something_else_loses_no_word(scene: Scene) -> None:
    """Deferred text is written when nothing cuts it."""
    scene.send("it")
    scene.line.interrupt(TurnId("another"))
    scene.line.flush()
    scene.scheduler.write()
    assert scene.text() == "all of it"
    scene.check()


@pytest.mark.parametrize("output", [Status(message="s"), Thought(text="t"), "x" * (TEXT_PIECE + 1)])
async def test_other_output_stands_behind_deferred_text(scene: Scene, output: str | AgentOutput) -> None:
    """It takes the way through the core, and the deferred text goes before it."""
    scene.send("it ")
    assert scene.send(output)
    shown = [event for event in scene.line.events if isinstance(event, (Status, TextDelta, Thought))]
    assert isinstance(shown[2], TextDelta)
    assert shown[2].text == "it "
    assert len(shown) == (5 if isinstance(output, str) else 4)
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_text_that_gushes_stands_behind_deferred_text(scene: Scene) -> None:
    """All of it leaves together at the end of the iteration."""
    scene.send("it ")
    assert scene.gush("and ")
    assert scene.gush("more")
    await asyncio.sleep(0)
    assert scene.text() == "all of it and more"
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_text_that_comes_while_the_records_are_full_is_written_behind_the_deferred_text(
    scene: Scene,
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
    scene = Scene(monkeypatch, output_bytes=output_bytes)
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


# --- back into the queue -----------------------------------------------------------------------------


async def test_deferred_text_goes_back_into_the_queue_when_the_wire_is_full(scene: Scene) -> None:
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


async def test_a_full_wire_keeps_deferred_text_where_an_interrupt_purges_it(scene: Scene) -> None:
    """Also when it went back into the queue before."""
    scene.send("it ")
    scene.line.block()
    scene.scheduler.write()
    scene.line.interrupt(scene.turn)
    scene.line.block(False)
    assert scene.text() == "all of "
    assert scene.line.ends()[0].heard.text == "all of "
    scene.check()


async def test_text_for_a_full_wire_stands_behind_deferred_text(scene: Scene) -> None:
    """The wire has filled before the deferred text's time came."""
    scene.send("it ")
    scene.line.block()
    scene.send("and more")
    scene.scheduler.write()
    scene.line.block(False)
    assert scene.text() == "all of it and more"
    scene.check()


async def test_deferred_text_of_a_lost_client_goes_to_the_log(scene: Scene) -> None:
    """The turn goes on, and whoever comes back gets all of it (contract 11)."""
    scene.send("it ")
    scene.line.drop()
    assert scene.scheduler.write() == [False]
    record = scene.host.core.turn(scene.turn)
    assert record.queued_bytes == 0
    scene.host.core.output.settle()
    assert str(record.fold.main_lane.text) == "all of it "
    assert record.heard_position.taken == record.fold.last_output_seq - 1


def follow(scene: Scene, start: Callable[[], object] = lambda: None) -> tuple[FollowerConnection, FakeWire]:
    host, wire = scene.host, FakeWire()
    follower = host.core.side_channel.follow(JSON, None)
    assert follower is not None
    start()
    following = FollowerConnection(cast(EventStreamWire, wire), scene.line.sessions, host, follower)
    return following, wire


async def test_a_follower_that_joins_reads_deferred_text_when_it_is_written(scene: Scene) -> None:
    """It reads the log, so the text goes through the core from then on."""
    scene.send("it ")
    following, wire = follow(scene)
    scene.send("and more")
    scene.scheduler.write()
    texts = [event.text for event in wire.events if isinstance(event, TextDelta)]
    assert "".join(texts) == scene.text() == "all of it and more"
    scene.check()
    following.close(CLOSED)


async def test_a_follower_that_joins_does_not_delay_deferred_text(scene: Scene) -> None:
    """It goes back into the queue, and is written in its time though the agent adds nothing."""
    scene.send("it")
    following, wire = follow(scene)
    scene.scheduler.write()
    await asyncio.sleep(0)
    assert scene.text() == "all of it"
    assert "".join(event.text for event in wire.events if isinstance(event, TextDelta)) == "all of it"
    following.close(CLOSED)


async def test_a_section_that_begins_does_not_delay_deferred_text(scene: Scene) -> None:
    """The agent may be busy in it for seconds: what it said before must not wait for that."""
    scene.send("I place the order.")
    assert scene.host.core.enter_section(scene.turn)
    scene.scheduler.write()
    await asyncio.sleep(0)
    assert scene.text() == "all of I place the order."


@pytest.mark.parametrize("asked", ["cursor", "refusal"])
async def test_a_question_to_the_session_does_not_delay_deferred_text(scene: Scene, asked: str) -> None:
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
    scene = Scene(monkeypatch, heartbeat_s=2.0)
    scene.send("it")
    scene.host.act(scene.host.core.tick)
    assert scene.text() == "all of it"
    assert scene.scheduler.write() == [False]
    scene.check()


async def test_an_answer_overtakes_deferred_text_and_loses_none_of_it(scene: Scene) -> None:
    """Answers must not wait; the text follows."""
    scene.send("it")
    scene.line.send(Ping(id="p"))
    assert scene.line.types().count("pong") == 1
    scene.scheduler.write()
    assert scene.text() == "all of it"
    scene.check()


async def test_an_input_that_queues_loses_no_deferred_text(scene: Scene) -> None:
    """Nothing is cut by it."""
    scene.send("it")
    scene.line.send(InputText(id=InputId("next"), text="and?", on_busy="queue"))
    scene.scheduler.write()
    assert scene.text() == "all of it"
    scene.check()


# --- bounded -------------------------------------------------------------------------------------


async def test_deferred_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that goes on while nothing is written is not pulled for ever."""
    scene = Scene(monkeypatch, output_bytes=4096)
    pieces = 0
    while scene.send("x" * 100):
        pieces += 1
        assert pieces <= 100, "10 kB wait unwritten, and the agent is pulled on"
    scene.scheduler.write()
    assert scene.text() == "all of " + "x" * 100 * (pieces + 1)
    scene.check()


async def test_what_waits_is_written_before_the_end_of_the_turn(scene: Scene) -> None:
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
    scene = Scene(monkeypatch)
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


async def test_a_session_without_a_run_has_nothing_deferred() -> None:
    """The scheduler may ask at any time."""
    line = Line(serve(waits))
    line.ask()
    [host] = line.sessions
    assert not host.write_deferred()
    line.drop()
    assert not host.write_deferred()
