"""A session from its records goes on as before, and what binds waits until it is stored."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest

from bargein_protocol import (
    JSON,
    AgentOutput,
    AudioDelta,
    CallId,
    InputAccepted,
    InputAudio,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    Playback,
    Resume,
    Seq,
    SessionAudio,
    SessionUpdate,
    Snapshot,
    Status,
    TextDelta,
    Thought,
    Token,
    ToolCall,
    ToolResult,
    TurnEnded,
    TurnId,
)
from bargein_server.core import Transcribe
from bargein_server.core.history import Message, conversation
from bargein_server.core.lifecycle import Stage
from bargein_server.core.persistence import LEAP, TOOL_LOST, Persistence
from bargein_server.core.records import Stored
from bargein_server.core.speech.floor import Frame
from bargein_server.core.speech.negotiation import AudioSupport
from bargein_server.core.speech.words import Transcript
from bargein_server.core.tool_ledger import CallRecord
from core_driver import SOUND, Talk
from ear_driver import INPUT as FORMAT
from ear_driver import LOUD, PIECE, QUIET
from memory_store import Kept

WALL = 1_000_000.0
INPUT = SessionAudio(input=FORMAT, output=SOUND.output)


class KeptTalk(Talk):
    """A conversation whose changes go to a model of a store.

    Attributes:
        records: The records of the store.
        waits: Whether the store does not answer.
        bound: Number of calls that reported a binding change.
    """

    def __init__(self, restored: Stored | None = None, **settings: Any) -> None:
        self.records: Kept | None = None
        self.waits = False
        self.bound = 0
        super().__init__(**settings)
        if restored is not None:
            self.persistence.restore(restored, self.now, WALL)
            self.flush()

    def changed(self) -> Callable[[bool], None]:
        """Return the function that counts."""
        return self._count

    def _count(self, binds: bool) -> None:
        self.bound += binds

    def begin(self) -> None:
        """Wait for a client."""

    @property
    def persistence(self) -> Persistence:
        """The session's records."""
        assert self.session.persistence is not None
        return self.session.persistence

    def flush(self) -> None:
        """Do what the host and the keeper do after every call."""
        super().flush()
        if not self.waits:
            self.store()
            super().flush()

    def store(self) -> None:
        """Write all changes to the store, and let it answer."""
        changes = self.persistence.collect(self.now, WALL)
        if changes is not None:
            if self.records is None:
                self.records = Kept.of(changes)
            else:
                self.records.change(changes)
            self.persistence.changes.stored(changes.mark)

    def stored(self, clean: bool = False) -> Stored:
        """Return what the next process finds."""
        assert self.records is not None
        self.records.clean = clean
        return self.records.stored()

    def messages(self) -> list[Message]:
        """Return the history that the next turn sees."""
        return conversation(self.session._turns.turns.values())


def a_talk(**settings: Any) -> KeptTalk:
    """Return a conversation with a client."""
    talk = KeptTalk(**settings)
    talk.attach()
    return talk


def restarted(talk: KeptTalk, clean: bool = False, **settings: Any) -> KeptTalk:
    """Return the conversation in the next process."""
    return KeptTalk(talk.stored(clean), **settings)


# --- what comes back ------------------------------------------------------------------------------


def test_a_turn_that_ran_has_failed_and_what_was_heard_is_in_the_history() -> None:
    """`node_lost`, retryable; numbers leap, so that none is given twice."""
    talk = a_talk()
    turn = talk.ask("tell me")
    talk.emit(turn, "Once ", "upon ")
    talk.session.output.settle()
    talk.store()
    top = talk.session.side_channel.cursor.seq
    after = restarted(talk)
    assert after.messages() == [
        {"role": "user", "content": "tell me"},
        {"role": "assistant", "content": "Once upon [interrupted]"},
    ]
    end = after.session.turn(turn).fold.ended
    assert end is not None
    assert (end.status, end.reason, end.retryable) == ("failed", "node_lost", True)
    assert end.seq == top + LEAP + 1


def test_text_is_stored_while_its_run_stays_open() -> None:
    """Writing output does not make the next token slower."""
    talk = a_talk()
    turn = talk.ask()
    run = talk.session.output.open_text(turn)
    assert run is not None
    run.append("one ", talk.now)
    talk.store()
    assert run.open
    run.append("two ", talk.now)
    talk.store()
    assert run.open
    assert [piece.text for piece in talk.stored().pieces] == ["one ", "two "]
    assert restarted(talk).messages()[-1]["content"] == "one two [interrupted]"


def test_the_end_of_another_turn_forgets_no_output() -> None:
    """A queued turn that is interrupted ends while the store has not been written."""
    talk = a_talk()
    first = talk.ask("first")
    queued = talk.ask("second", on_busy="queue")
    talk.waits = True
    talk.emit(first, TextDelta(text="one "))
    talk.send(Interrupt(id=InterruptId("x"), turn_id=queued))
    talk.waits = False
    talk.store()
    assert restarted(talk).messages()[-1]["content"] == "one [interrupted]"


def test_a_turn_speaks_on_after_the_end_of_another() -> None:
    """Its output is written as before, when a queued turn is interrupted."""
    talk = a_talk()
    first = talk.ask("first")
    queued = talk.ask("second", on_busy="queue")
    talk.send(Interrupt(id=InterruptId("x"), turn_id=queued))
    assert talk.persistence.changes.speaking == first
    talk.send(Interrupt(id=InterruptId("y"), turn_id=first))
    assert talk.persistence.changes.speaking is None


def test_a_client_that_saw_more_gets_a_snapshot() -> None:
    """Its cursor is in the gap that the open turn explains."""
    talk = a_talk()
    turn = talk.ask()
    talk.emit(turn, "kept ")
    talk.store()
    talk.waits = True
    talk.emit(turn, "told, not kept")
    talk.session.output.settle()
    cursor = talk.session.side_channel.cursor.seq
    after = restarted(talk)
    resume = Resume(
        session_id=talk.session.identity.session_id,
        token=talk._token,
        cursor=talk.session.side_channel.cursor,
    )
    assert after.session.refusal(resume, after.now) is None
    after._token = talk._token
    after.attach(cursor)
    snapshots = [event for event in after.events if isinstance(event, Snapshot)]
    assert [state.lanes[""].text for state in snapshots[0].turns] == ["kept "]
    assert snapshots[0].turns[0].reason == "node_lost"


def test_a_client_that_saw_what_nothing_explains_is_refused() -> None:
    """The store forgot a whole turn, as after a power cut: the client is told, and not shown another past."""
    talk = a_talk()
    old = talk.stored()
    turn = talk.ask()
    talk.emit(turn, "answer")
    after = KeptTalk(old)
    resume = Resume(
        session_id=talk.session.identity.session_id,
        token=talk._token,
        cursor=talk.session.side_channel.cursor,
    )
    assert after.session.refusal(resume, after.now) == "cursor_ahead"


def test_after_a_clean_end_nothing_leaps() -> None:
    """An up-to-date client gets an empty replay."""
    talk = a_talk()
    turn = talk.ask()
    talk.emit(turn, "answer")
    talk.finish(turn)
    cursor = talk.session.side_channel.cursor
    after = restarted(talk, clean=True)
    assert after.session.side_channel.cursor == cursor
    after._token = talk._token
    after.attach(cursor.seq)
    assert [type(event).__name__ for event in after.events] == ["SessionOpened", "ReplayDone"]


def test_a_queued_input_has_failed_too() -> None:
    """It ran nowhere, and its client may send it again."""
    talk = a_talk()
    talk.ask("first")
    queued = talk.ask("second", on_busy="queue")
    after = restarted(talk)
    end = after.session.turn(queued).fold.ended
    assert end is not None
    assert (end.reason, end.retryable) == ("node_lost", True)
    assert all(message["content"] != "second" for message in after.messages())


def test_a_resend_gets_its_first_answer_in_the_next_process() -> None:
    """Nothing runs twice."""
    talk = a_talk()
    turn = talk.ask("once", id="same")
    after = restarted(talk)
    after._token = talk._token
    after.attach(0)
    after.events.clear()
    after.send(InputText(id=InputId("same"), text="once"))
    [answer] = after.events
    assert isinstance(answer, InputAccepted)
    assert (answer.turn_id, answer.duplicate) == (turn, True)


def test_a_call_that_had_begun_has_a_result() -> None:
    """It may or may not have taken effect, and the model is told so."""
    talk = a_talk()
    turn = talk.ask()
    talk.emit(turn, ToolCall(call_id=CallId("c"), name="pay"))
    talk.session.tools.begin(turn, CallRecord(CallId("c"), "pay", {"euros": 5}))
    talk.store()
    after = restarted(talk)
    assert {"role": "tool", "tool_call_id": "c", "content": f"error: {TOOL_LOST}"} in after.messages()


def test_a_call_in_the_background_is_lost_with_its_process() -> None:
    """History does not hold `running` for ever."""
    talk = a_talk()
    turn = talk.ask()
    talk.session.tools.begin(turn, CallRecord(CallId("c"), "pay", {}, background=True))
    talk.interrupt(turn)
    talk.store()
    assert talk.messages()[-2]["content"] == "running"
    assert restarted(talk, clean=True).messages()[-2]["content"] == f"error: {TOOL_LOST}"


def test_tokens_metadata_values_and_early_interrupts_come_back() -> None:
    """With their bounds."""
    talk = a_talk()
    talk.send(SessionUpdate(metadata={"language": "en"}))
    talk.session.values["visits"] = [1, 2]
    talk.send(Interrupt(id=InterruptId("x"), input_id=InputId("later")))
    talk.store()
    after = restarted(talk)
    assert after.session.metadata == {"language": "en"}
    assert dict(after.session.values) == {"visits": [1, 2]}
    assert after.session.identity.is_current(talk._token)
    after._token = talk._token
    after.attach(0)
    after.ask("cut before it came", id="later")
    assert [event.reason for event in after.events if isinstance(event, TurnEnded)] == ["client"]


def test_a_second_kill_leaves_a_second_gap() -> None:
    """Both are remembered."""
    talk = a_talk()
    talk.ask()
    one = restarted(talk)
    two = restarted(one)
    assert len(two.persistence.gaps) == 2
    assert not two.persistence.gaps[1].explained


def test_values_that_have_no_json_do_not_break_a_write() -> None:
    """Arguments of a model may hold half a character."""
    talk = a_talk()
    turn = talk.ask()
    talk.session.tools.begin(turn, CallRecord(CallId("c"), "n", {"text": "\ud83d", "n": 2**70}))
    talk.store()
    [(_, record)] = talk.stored().turns
    assert record.calls[0].arguments["text"] == "?"


def test_a_client_that_came_back_after_a_kill_can_come_back_again() -> None:
    """The number that its snapshot told is the border of the gap, not inside."""
    talk = a_talk()
    talk.finish(talk.ask())
    after = restarted(talk)
    cursor = after.session.side_channel.cursor
    after._token = talk._token
    token = after.attach(int(talk.session.side_channel.cursor.seq))
    assert [event.through for event in after.events if isinstance(event, Snapshot)] == [cursor.seq]
    resume = Resume(session_id=after.session.identity.session_id, token=token, cursor=cursor)
    assert after.session.refusal(resume, after.now) is None


# --- what binds -----------------------------------------------------------------------------------


def test_nothing_binding_is_handed_over_before_it_is_stored() -> None:
    """Neither the token nor an accepted input nor its first output."""
    talk = KeptTalk()
    talk.waits = True
    talk.attach()
    assert talk.events == []
    talk.store()
    Talk.flush(talk)
    assert [type(event).__name__ for event in talk.events] == ["SessionOpened"]
    talk.events.clear()
    turn_id = TurnId("t1")
    talk.send(InputText(id=InputId("i"), text="hello"))
    talk.emit(turn_id, "word")
    assert talk.events == []
    assert talk.session.output.open_text(turn_id) is None
    talk.store()
    Talk.flush(talk)
    assert [type(event).__name__ for event in talk.events] == ["InputAccepted", "TurnStarted", "TextDelta"]


def test_an_end_that_no_interrupt_asked_for_waits() -> None:
    """A client that saw a turn end finds it ended."""
    talk = a_talk()
    turn = talk.ask()
    talk.waits = True
    talk.finish(turn)
    assert not any(isinstance(event, TurnEnded) for event in talk.events)
    talk.store()
    Talk.flush(talk)
    assert isinstance(talk.events[-1], TurnEnded)


def test_an_interrupt_waits_for_no_store() -> None:
    """Its result and the end leave in its step (contract 3), and are stored afterwards."""
    talk = a_talk()
    turn = talk.ask()
    talk.emit(turn, "word")
    talk.waits = True
    bound = talk.bound
    assert talk.interrupt(turn).outcome == "interrupted"
    assert isinstance(talk.events[-1], TurnEnded)
    assert talk.bound == bound
    talk.store()
    assert talk.stored().turns[0][1].stage == "ended"


def test_an_interrupt_waits_for_no_store_while_something_else_does() -> None:
    """An input was queued in the same moment: the result overtakes it, the end keeps its place behind it."""
    talk = KeptTalk()
    handed: list[bytes] = []
    talk.session.attach(JSON, Token("token"), talk.now, hand_over=handed.extend)
    talk.flush()
    turn = talk.ask()
    talk.waits = True
    talk.send(InputText(id=InputId("q"), text="later", on_busy="queue"))
    talk.session.receive(Interrupt(id=InterruptId("x"), turn_id=turn), talk.now)
    assert [type(JSON.decode_server(frame)).__name__ for frame in handed] == ["InterruptResult"]
    talk.events.clear()
    talk.store()
    Talk.flush(talk)
    assert [type(event).__name__ for event in talk.events][:2] == ["InputQueued", "TurnEnded"]


def test_an_answer_to_an_interrupt_overtakes_what_waits() -> None:
    """Its turn had ended before; only unnumbered frames may overtake."""
    talk = KeptTalk()
    handed: list[bytes] = []
    talk.session.attach(JSON, Token("token"), talk.now, hand_over=handed.extend)
    talk.flush()
    turn = talk.ask()
    talk.waits = True
    talk.finish(turn)
    talk.session.receive(Interrupt(id=InterruptId("x"), turn_id=turn), talk.now)
    assert len(handed) == 1
    assert JSON.decode_server(handed[0]).outcome == "already_ended"  # type: ignore[union-attr]


def test_a_write_under_way_is_not_stored_yet() -> None:
    """What bound after a write began waits for the next one."""
    talk = a_talk()
    talk.waits = True
    turn = talk.ask("one")
    changes = talk.persistence.collect(talk.now, WALL)
    assert changes is not None
    talk.send(InputText(id=InputId("q"), text="later", on_busy="queue"))
    assert not talk.persistence.changes.stored(changes.mark)
    assert talk.persistence.changes.corked
    assert turn == ""


def test_without_a_store_nothing_is_recorded() -> None:
    """The session has no change log."""
    assert Talk().session.persistence is None


# --- at every step --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_a_session_from_its_records_is_as_the_one_that_was(seed: int) -> None:
    """Whatever was done before: same history, same answers, same heard parts, and so after later reports."""
    chance = random.Random(seed)
    talk = a_talk(on_busy=chance.choice(["interrupt", "queue"]))
    for _ in range(chance.randint(3, 40)):
        _do_something(talk, chance)
        if chance.random() < 0.3:
            _compare(talk)


def _do_something(talk: KeptTalk, chance: random.Random) -> None:
    current = talk.session._turns.current
    turns = list(talk.session._turns.turns)
    kind = chance.choice(
        ["ask", "emit", "emit", "emit", "interrupt", "finish", "report", "call", "leave", "update"]
    )
    talk.waits = chance.random() < 0.5
    talk.open = chance.random() < 0.8
    if kind == "ask":
        talk.send(InputText(id=InputId(f"r{chance.random()}"), text="a question", metadata={"n": 1}))
    elif kind == "emit" and current is not None and current.stage is Stage.RUNNING:
        span = AudioDelta(audio=b"12", start_ms=chance.randint(0, 900), duration_ms=100, text="said ")
        outputs: list[str | AgentOutput] = [
            "word ",
            "a longer piece of text ",
            TextDelta(text="lane", source="other"),
            Thought(text="hm"),
            Status(message="busy"),
            span,
        ]
        output = chance.choice(outputs)
        talk.emit(current.id, output)
    elif kind == "interrupt" and current is not None:
        talk.session.receive(Interrupt(id=InterruptId(f"x{chance.random()}"), turn_id=current.id), talk.now)
    elif kind == "finish" and current is not None and current.stage is Stage.RUNNING:
        talk.finish(current.id)
    elif kind == "report" and turns:
        talk.send(
            Playback(
                turn_id=chance.choice(turns),
                chars=chance.choice([None, 3, 30]),
                audio_ms=chance.choice([None, 50, 450]),
                seq=chance.choice([None, Seq(chance.randint(0, 60))]),
            )
        )
    elif kind == "call" and current is not None and current.stage is Stage.RUNNING:
        call_id = talk.session.tools.claim(current.id, "")
        talk.emit(current.id, ToolCall(call_id=call_id, name="tool"))
        if (
            talk.session.tools.begin(current.id, CallRecord(call_id, "tool", {"a": 1}))
            and chance.random() < 0.7
        ):
            talk.session.tools.settle(current.id, ToolResult(call_id=call_id, status="completed", output=[1]))
    elif kind == "leave":
        talk.detach()
        talk.attach(
            int(talk.session.side_channel.cursor.seq)
            if chance.random() < 0.5
            else max(0, int(talk.session.side_channel.cursor.seq) - 3)
        )
    elif kind == "update":
        talk.send(SessionUpdate(metadata={"k": chance.randint(0, 9)}))
    talk.waits = False
    talk.flush()


def _compare(before: KeptTalk) -> None:
    before.session.output.settle()
    before.store()
    after = restarted(before)
    old, new = before.session._turns.turns, after.session._turns.turns
    lost = [turn.id for turn in old.values() if turn.stage is not Stage.ENDED]
    assert list(old) == list(new)
    assert after.session.metadata == before.session.metadata
    assert after.session._requests.replies.all() == before.session._requests.replies.all()
    for turn_id in new:
        one, two = old[turn_id], new[turn_id]
        reports: list[Playback | None] = [
            None,
            Playback(turn_id=turn_id, chars=2),
            Playback(turn_id=turn_id, audio_ms=10_000, chars=10_000),
        ]
        was, became = copy(one.heard_position), copy(two.heard_position)
        for report in reports:
            if report is not None:
                was.report(report)
                became.report(report)
            heard = was.heard(one.fold.main_lane)
            assert became.heard(two.fold.main_lane).text == heard.text
            assert became.heard(two.fold.main_lane).audio_ms == heard.audio_ms
        if turn_id not in lost:
            assert two.fold.folded() == one.fold.folded()
            assert conversation([two]) == conversation([one])


def test_speech_survives_its_process() -> None:
    """Its numbers are explained and its input is kept; the numbers of a barge-in leave no gap."""
    talk = HearingTalk()
    talk.attach(audio=INPUT)
    turn = talk.ask("hello")
    talk.emit(turn, "Well, ")
    hear(talk, LOUD * 15)
    answer(talk, "and why?")
    hear(talk, QUIET * 16)
    answer(talk, "And why?")
    assert talk.end_of(turn).reason == "barge_in"
    top = talk.session._sequencer.top
    token = talk._token
    later = HearingTalk(restored=talk.stored())
    assert [m["content"] for m in later.messages() if m["role"] == "user"] == ["hello", "And why?"]
    assert later.session.refusal(later.resume(token, top), later.now) is None


def test_the_audio_clock_begins_again_in_a_restored_session() -> None:
    """No server remembers the sound before, and the client learns it."""
    talk = HearingTalk()
    token = talk.attach(audio=INPUT)
    hear(talk, QUIET * 10)
    top = talk.session._sequencer.top
    later = HearingTalk(restored=talk.stored())
    later._token = token
    later.attach(top, audio=INPUT)
    opened = later.opened()
    assert opened.resumed
    assert opened.audio is not None
    assert (opened.audio.input, opened.audio.at_ms) == (INPUT.input, None)


class HearingTalk(KeptTalk):
    """The same in a server that hears."""

    support = AudioSupport(hears=True)


def hear(talk: KeptTalk, probabilities: list[float]) -> None:
    """Let the microphone send frames, and the detector find these probabilities."""
    for probability in probabilities:
        talk.wait(0.032)
        talk.send(InputAudio(audio=PIECE))
        ear = talk.session.audio.listening
        assert ear is not None
        ear.frames([Frame(ear.clock.position, probability)], talk.now)
        talk.flush()


def answer(talk: KeptTalk, text: str) -> None:
    """Answer the newest request for words."""
    [*_, request] = [command for command in talk.commands if isinstance(command, Transcribe)]
    ear = talk.session.audio.listening
    assert ear is not None
    ear.transcribed(request, Transcript(text), talk.now)
    talk.flush()
