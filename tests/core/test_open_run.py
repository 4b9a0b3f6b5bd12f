"""An open text run is closed by everything that numbers an event or reads what the run changes.

The host appends to an open run without asking the session, and the records follow when the run is
settled. So each public name of the core is in one of two lists here: either using it closes an open run,
or it is harmless, with the reason. A new name that is in neither fails the first test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bargein_protocol import (
    JSON,
    CallId,
    Cursor,
    Epoch,
    InputId,
    Interrupt,
    InterruptId,
    Numbered,
    Ping,
    Resume,
    Seq,
    SessionId,
    TextDelta,
    Token,
    ToolDecision,
    ToolOutput,
    ToolResult,
    TurnEnded,
    TurnId,
    Usage,
)
from bargein_protocol.errors import BAD_EVENT
from bargein_server.core.change_log import ChangeLog
from bargein_server.core.output_pump import OutputPump
from bargein_server.core.session import Session
from bargein_server.core.side_channel import SideChannel
from bargein_server.core.text_run import TextRun
from bargein_server.core.tool_ledger import CallRecord, ToolLedger
from bargein_server.core.turn_record import COMPLETED
from core_driver import Talk

Use = Callable[["Scene"], object]


class Scene:
    """A session whose turn is in the middle of a sentence, with its public parts at hand."""

    def __init__(self) -> None:
        self.talk = Talk(max_log_events=16, no_output_s=10.0, heartbeat_s=1000.0)
        self.session = self.talk.session
        self.turn = self.talk.ask("hello", id="asked")
        self.record = self.session.turn(self.turn)  # kept: to ask the session for it closes a run
        self.session.tools.begin(self.turn, CallRecord(CallId("begun"), "tool", {}))
        self.session.tools.expect(self.turn, CallId("awaited"), ToolOutput)
        run = self.session.output.open_text(self.turn)
        assert run is not None
        self.run: TextRun = run
        for text in ("One ", "two "):
            frame = run.append(text, self.talk.now + 5.0)
            assert frame is not None
            self.talk.events.append(JSON.decode_server(frame))
        self.now = self.talk.now + 5.0

    def new_call(self) -> CallId:
        return self.session.tools.claim(self.turn, "call")

    def resume(self) -> Resume:
        return self.talk.resume(self.talk._token, 2)


CLOSES: dict[str, Use] = {
    "Session.refusal": lambda s: s.session.refusal(s.resume(), s.now),
    "Session.attach": lambda s: s.session.attach(JSON, Token("k"), s.now, resume=s.resume()),
    "Session.detach": lambda s: s.session.detach(s.now),
    "Session.receive": lambda s: s.session.receive(Ping(id="p"), s.now),
    "Session.emit": lambda s: s.session.emit(s.turn, "three", s.now),
    "Session.enter_section": lambda s: s.session.enter_section(s.turn),
    "Session.finish": lambda s: s.session.finish(s.turn, COMPLETED, s.now),
    "Session.cleaned_up": lambda s: s.session.cleaned_up(TurnId("t0"), s.now),
    "Session.admitted": lambda s: s.session.admitted(s.now),
    "Session.tick": lambda s: s.session.tick(s.now),
    "Session.turn": lambda s: s.session.turn(s.turn),
    "Session.history": lambda s: s.session.history(s.turn).messages(),
    "Session.drain": lambda s: s.session.drain(1.0, s.now),
    "Session.shut_down": lambda s: s.session.shut_down(s.now),
    "Session.expire": lambda s: s.session.expire(s.now),
    "OutputPump.send_snapshot": lambda s: s.session.output.send_snapshot(Seq(0)),
    "OutputPump.received_up_to": lambda s: s.session.output.received_up_to(Seq(0)),
    "OutputPump.settle": lambda s: s.session.output.settle(),
    "SideChannel.cursor": lambda s: s.session.side_channel.cursor,
    "SideChannel.messages": lambda s: s.session.side_channel.messages(),
    "SideChannel.turn_of": lambda s: s.session.side_channel.turn_of(InputId("asked")),
    "SideChannel.request": lambda s: s.session.side_channel.request(Ping(id="p"), s.now),
    "SideChannel.follow": lambda s: s.session.side_channel.follow(JSON, None),
}

HARMLESS: dict[str, tuple[str, Use]] = {
    "Session.busy": ("a run opens and closes no turn", lambda s: s.session.busy),
    "Session.full": ("output that waits keeps a run from opening", lambda s: s.session.full),
    "Session.kept_bytes": ("counts what is recorded", lambda s: s.session.kept_bytes),
    "Session.metadata": ("the client's own", lambda s: s.session.metadata),
    "Session.identity": ("the session's name and secret", lambda s: s.session.identity),
    "Session.tools": ("its parts are classified themselves", lambda s: s.session.tools),
    "Session.audio": ("it closes the run itself when it numbers", lambda s: s.session.audio.output),
    "Session.outside": ("it closes the run itself where it reads", lambda s: s.session.outside),
    "ToolLedger.awaited": ("calls, not text", lambda s: s.session.tools.awaited()),
    "Session.output": ("its parts are classified themselves", lambda s: s.session.output),
    "Session.side_channel": ("its parts are classified themselves", lambda s: s.session.side_channel),
    "Session.add_usage": (
        "tokens of model calls, not of text",
        lambda s: s.session.add_usage(s.turn, Usage(input_tokens=1)),
    ),
    "Session.pulled": ("a later time of progress wins", lambda s: s.session.pulled(s.turn, s.now)),
    "Session.model_works": ("a time for the next tick", lambda s: s.session.model_works(s.turn, s.now)),
    "Session.leave_section": (
        "no section is open beside a run",
        lambda s: s.session.leave_section(s.turn, s.now),
    ),
    "Session.reject_frame": (
        "an answer without a number",
        lambda s: s.session.reject_frame(BAD_EVENT, "detail", None),
    ),
    "Session.commands": ("a run causes none", lambda s: s.session.commands()),
    "Session.next_deadline": ("a tick that comes early does nothing", lambda s: s.session.next_deadline()),
    "OutputPump.next_frames": (
        "no output waits beside an open run",
        lambda s: s.session.output.next_frames(True, 1 << 20),
    ),
    "OutputPump.open_text": ("returns the open run itself", lambda s: s.session.output.open_text(s.turn)),
    "OutputPump.take_ready": ("frames that are numbered already", lambda s: s.session.output.take_ready()),
    "OutputPump.drain_to_log": (
        "no output waits beside an open run",
        lambda s: s.session.output.drain_to_log(),
    ),
    "ToolLedger.claim": ("ids of calls, not of text", lambda s: s.session.tools.claim(s.turn, "call")),
    "ToolLedger.begin": (
        "recorded beside the numbers",
        lambda s: s.session.tools.begin(s.turn, CallRecord(s.new_call(), "n", {})),
    ),
    "ToolLedger.settle": (
        "recorded beside the numbers",
        lambda s: s.session.tools.settle(s.turn, ToolResult(call_id=CallId("begun"), status="completed")),
    ),
    "ToolLedger.expect": (
        "recorded beside the numbers",
        lambda s: s.session.tools.expect(s.turn, CallId("c"), ToolDecision),
    ),
    "ToolLedger.stop_expecting": (
        "recorded beside the numbers",
        lambda s: s.session.tools.stop_expecting(s.turn, CallId("c")),
    ),
    "ToolLedger.receive": (
        "a later time of progress wins",
        lambda s: s.session.tools.receive(ToolOutput(call_id=CallId("awaited"), output="o")),
    ),
    "Session.seed": ("messages before the session", lambda s: s.session.seed),
    "Session.values": ("the author's values are no output", lambda s: s.session.values),
    "Session.persistence": ("records are made on request", lambda s: s.session.persistence),
    "Session.records": (
        "records are made on request",
        lambda s: s.session.records(ChangeLog(lambda binds: None)),
    ),
    "SideChannel.inputs": ("texts of the client", lambda s: s.session.side_channel.inputs()),
    "SideChannel.is_over": (
        "a run neither begins nor ends a turn",
        lambda s: s.session.side_channel.is_over(InputId("asked")),
    ),
}


def public_names() -> set[str]:
    """Return every public method, property and attribute of the four classes."""
    scene = Scene()
    names = set()
    for part in (scene.session, scene.session.output, scene.session.tools, scene.session.side_channel):
        slots = getattr(type(part), "__slots__", ())
        named = {*vars(type(part)), *slots, *getattr(part, "__dict__", {})}
        names |= {f"{type(part).__name__}.{name}" for name in named if not name.startswith("_")}
    return names


def test_every_public_name_is_classified() -> None:
    """A new one closes an open run, or stands in the list of harmless ones with its reason."""
    assert not set(CLOSES) & set(HARMLESS)
    assert public_names() == set(CLOSES) | set(HARMLESS)
    for part in (Session, OutputPump, ToolLedger, SideChannel):
        assert any(name.startswith(f"{part.__name__}.") for name in HARMLESS)


@pytest.mark.parametrize("name", CLOSES)
def test_it_closes_an_open_run(name: str) -> None:
    """All records are up to date with its text then, and nothing more may be appended."""
    scene = Scene()
    CLOSES[name](scene)
    turn = scene.record
    assert not scene.run.open
    assert scene.run.unsettled == 0
    assert (str(turn.fold.main_lane.text), turn.fold.main_lane.text.length) == ("One two ", 8)
    assert (turn.fold.last_output_seq, turn.fold.last_seq >= 4) == (4, True)
    assert scene.session.output._sequencer._log.top >= 4


@pytest.mark.parametrize("name", CLOSES)
def test_deferred_text_is_in_its_place_after_it(name: str) -> None:
    """In the queue, in the log, or purged: nowhere twice, and never in the run (contract 2)."""
    scene = Scene()
    scene.run.deferred = ["three ", "four"]
    CLOSES[name](scene)
    assert list(scene.run.deferred) == []
    turn = scene.record
    numbered = str(turn.fold.main_lane.text).removeprefix("One two ")
    waiting = []
    while (output := turn.take()) is not None:
        waiting.append(str(output))
    whole = numbered + "".join(waiting)
    expected = {"Session.shut_down": "", "Session.emit": "three fourthree"}.get(name, "three four")
    assert whole == expected


@pytest.mark.parametrize("name", HARMLESS)
def test_it_leaves_an_open_run_and_what_follows_as_they_are(name: str) -> None:
    """The next piece has the next number, and an interrupt finds all of the text."""
    scene = Scene()
    talk, run = scene.talk, scene.run
    HARMLESS[name][1](scene)
    assert run.open
    assert run.unsettled == 2
    run.deferred = ["purged"]
    HARMLESS[name][1](scene)
    assert (run.open, list(run.deferred)) == (True, ["purged"])
    frame = run.append("three", scene.now)
    assert frame is not None
    assert JSON.decode_server(frame) == TextDelta(seq=Seq(5), turn_id=scene.turn, text="three")
    talk.session.receive(Interrupt(id=InterruptId("x"), turn_id=scene.turn), scene.now)
    ended = talk.session.turn(scene.turn).fold.ended
    assert isinstance(ended, TurnEnded)
    assert (ended.seq, ended.last_seq, ended.heard.seq, ended.heard.text) == (6, 5, 5, "One two three")
    follower = talk.session.side_channel.follow(JSON, Cursor(epoch=Epoch("e"), seq=Seq(0)))
    assert follower is not None
    logged = []
    while (entry := follower.next_frame()) is not None:
        event = JSON.decode_server(entry)
        if isinstance(event, Numbered):
            logged.append(event)
    assert [event.seq for event in logged] == list(range(1, logged[-1].seq + 1))
    assert [event.text for event in logged if isinstance(event, TextDelta)] == ["One ", "two ", "three"]
    assert talk.session.turn(scene.turn).queued_bytes == 0


def test_the_silence_of_an_agent_counts_from_the_text_of_its_open_run() -> None:
    """A deadline may be told too early, never too late; the tick that comes then finds no silence."""
    scene = Scene()
    scene.session.tools.settle(scene.turn, ToolResult(call_id=CallId("begun"), status="completed"))
    scene.session.tools.stop_expecting(scene.turn, CallId("awaited"))
    due = scene.session.next_deadline()
    assert due is not None
    assert due <= scene.now + 10.0
    scene.session.tick(due)
    assert not scene.session.turn(scene.turn).ended
    assert scene.session.next_deadline() == scene.now + 10.0


def test_a_refused_resume_reads_the_newest_number() -> None:
    """A cursor within an open run is not ahead; one beyond it is."""
    scene = Scene()
    for seq, refused in ((4, None), (5, "cursor_ahead")):
        cursor = Cursor(epoch=Epoch("e"), seq=Seq(seq))
        resume = Resume(session_id=SessionId("s"), token=scene.talk._token, cursor=cursor)
        assert scene.session.refusal(resume, scene.now) == refused
