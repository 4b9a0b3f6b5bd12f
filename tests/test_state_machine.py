"""The server's core, the client's core, and a line between them that loses, delays and repeats.

Hypothesis does anything that users, agents, networks and clocks do, in any order. What must hold is
what the contract promises: numbers without gaps, one end for each accepted input and nothing of its
turn after it, one answer for each request, the client's picture equal to the server's, and a history
that a model accepts, at every moment.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import bargein_protocol as bp
from bargein_client.core import ClientCore
from bargein_client.phases import Phase
from bargein_client.tracked_turn import TrackedTurn
from bargein_protocol import JSON
from bargein_server.core.turn_limiter import TurnLimiter
from bargein_server.core.turn_record import COMPLETED, Ending
from host_driver import Served

FAILED = Ending("failed", "agent_error")
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
ON_BUSY = st.sampled_from(["interrupt", "queue", "reject", None])


class Conversation(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.sessions: dict[str, Served] = {}
        self.ever: list[Served] = []
        self.attached: Served | None = None
        self.open_line = True
        self.deaf = False
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.client = ClientCore()
        self.turns: list[TrackedTurn] = []
        self.asked: set[str] = set()
        self.answers: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.numbers = count(1)
        self.turn_limiter = TurnLimiter(most=2, waiting=1)
        self.seen: list[bp.ServerEvent | bp.UnknownEvent] = []

    # --- the server ------------------------------------------------------------------------------

    def pump(self) -> None:
        """Let the host do its part and put its frames onto the line."""
        for served in self.ever:
            frames = served.drain(self.open_line)
            if served is self.attached:
                self.down.extend(frames)
                if served.closed:
                    self.attached = None
                    self.deaf = True

    def serve(self, frame: bytes) -> None:
        """Read a frame from the client."""
        event = JSON.decode_client(frame)
        if self.deaf:
            return
        if self.attached is None:
            assert isinstance(event, bp.SessionOpen)
            self.open_session(event)
        else:
            self.attached.receive(event, self.now)
        self.pump()

    def open_session(self, event: bp.SessionOpen) -> None:
        resume, refused, served = event.resume, None, None
        if resume is not None:
            served = self.sessions.get(resume.session_id)
            refused = "unknown_session"
            if served is not None:
                refused = served.core.refusal(resume, self.now)
            if refused is not None:
                served = None
        if served is None:
            served = Served(next(self.numbers), self.turn_limiter, self.now)
            self.sessions[served.core.identity.session_id] = served
            self.ever.append(served)
        self.attached = served
        served.attach(
            bp.Token(f"token{next(self.numbers)}"), self.now,
            resume=resume if refused is None else None,
            pending=event.pending or (), refused=refused,
        )  # fmt: skip

    # --- the line --------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.connect()
        self.carry(100, 100)

    @rule()
    @precondition(lambda self: self.client.phase is Phase.OFFLINE)
    def connect(self) -> None:
        """A new line; the server may not have noticed that the old one is gone."""
        self.attached = None
        self.open_line = True
        self.deaf = False
        self.up.clear()
        self.down.clear()
        self.client.attach()

    @rule(up=st.integers(0, 20), down=st.integers(0, 60))
    def carry(self, up: int, down: int) -> None:
        """Some frames arrive."""
        self.up.extend(map(JSON.encode, self.client.outgoing()))
        for _ in range(min(up, len(self.up))):
            self.serve(self.up.popleft())
        for _ in range(min(down, len(self.down))):
            event = JSON.decode_server(self.down.popleft())
            self.client.receive(event)
            if isinstance(event, bp.SessionOpened) and not event.resumed:
                self.seen.clear()  # another numbering begins
            elif isinstance(event, bp.Numbered) and event.seq:
                self.seen.append(event)
        self.up.extend(map(JSON.encode, self.client.outgoing()))
        for request_id, outcome in self.client.outcomes():
            (self.ends if isinstance(outcome, bp.TurnEnded) else self.answers)[request_id] += 1

    @rule(up=st.integers(0, 5), down=st.integers(0, 10), noticed=st.booleans())
    @precondition(lambda self: self.client.phase is not Phase.OFFLINE)
    def cut(self, up: int, down: int, noticed: bool) -> None:
        """The line breaks with frames on it."""
        self.carry(up, down)
        self.up.clear()
        self.down.clear()
        self.client.detach()
        if noticed and self.attached is not None:
            self.attached.core.detach(self.now)
        self.attached = None
        self.pump()

    @rule(open_line=st.booleans())
    def jam(self, open_line: bool) -> None:
        """The transport's buffer fills, or drains."""
        self.open_line = open_line
        self.pump()

    @rule()
    @precondition(lambda self: self.up and self.attached is not None)
    def repeat(self) -> None:
        """A request arrives twice, as a client that is unsure sends it."""
        if isinstance(JSON.decode_client(self.up[-1]), (bp.InputText, bp.Interrupt)):
            self.up.append(self.up[-1])

    @rule(back=st.integers(1, 5))
    @precondition(lambda self: self.client.phase is Phase.LIVE)
    def echo(self, back: int) -> None:
        """Events that came before come again, and change nothing."""
        before = self.client.last_seq
        for event in self.seen[-back:]:
            self.client.receive(event)
        assert (self.client.last_seq, self.client.outcomes()) == (before, [])

    @rule(up=st.integers(0, 20), down=st.integers(0, 60))
    @precondition(lambda self: self.client.phase is Phase.LIVE)
    def close(self, up: int, down: int) -> None:
        """The user ends the session, and comes back for another one."""
        self.client.close_session()
        self.cut(up, down, True)

    @rule(down=st.integers(0, 60))
    @precondition(lambda self: self.client.phase is not Phase.OFFLINE)
    def shut_down(self, down: int) -> None:
        """The server stops, with some of its last words on the line."""
        for served in self.ever:
            served.core.shut_down(self.now)
        self.pump()
        assert not any(served.core.busy or served.running for served in self.ever)
        self.cut(3, down, True)
        self.restart()

    @rule()
    @precondition(lambda self: self.client.phase is Phase.OFFLINE)
    def restart(self) -> None:
        """The server comes up anew and knows nobody."""
        self.sessions.clear()
        self.attached = None

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 31.0, 61.0, 130.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        for served in self.ever:
            due = served.core.next_deadline()
            if due is not None and due <= self.now:
                served.core.tick(self.now)
        self.pump()

    # --- the user --------------------------------------------------------------------------------

    def new_id(self) -> str:
        return f"r{next(self.numbers)}"

    def may_ask(self) -> bool:
        """Whether the client may have one more request without an answer."""
        return len(self.asked) - len(self.answers) < bp.MAX_PENDING

    @rule(on_busy=ON_BUSY)
    @precondition(lambda self: len(self.turns) < 40 and self.may_ask())
    def ask(self, on_busy: bp.OnBusy | None) -> None:
        request_id = self.new_id()
        self.asked.add(request_id)
        event = bp.InputText(id=bp.InputId(request_id), text="hello", on_busy=on_busy)
        self.turns.append(self.client.send_input(event))

    @rule(which=st.integers(0, 3), force=st.booleans(), chars=st.none() | st.integers(0, 20))
    @precondition(lambda self: self.turns and self.may_ask())
    def interrupt(self, which: int, force: bool, chars: int | None) -> None:
        """Cut a turn: running, waiting, not answered yet, or over long ago."""
        turn = self.turns[-1 - which % len(self.turns)]
        if turn.turn_id is None and turn.over:
            return
        request_id = self.new_id()
        self.asked.add(request_id)
        played = None if chars is None else bp.Played(chars=chars)
        reason = f"for {turn.input_id}"  # whoever else ends by it would say so
        self.client.interrupt(
            bp.Interrupt(id=bp.InterruptId(request_id), played=played, force=force, reason=reason), turn
        )

    @rule(bare=st.booleans())
    @precondition(lambda self: self.attached is not None and self.client.phase is Phase.LIVE)
    def interrupt_blindly(self, bare: bool) -> None:
        """The form for people, and one for an input that nobody will ever send."""
        event = bp.Interrupt(id=bp.InterruptId(self.new_id()), input_id=None if bare else bp.InputId("never"))
        self.up.append(JSON.encode(event))

    @rule(action=st.sampled_from(["hold", "resume", "playback"]), which=st.integers(0, 2))
    @precondition(lambda self: self.turns)
    def hold_or_report(self, action: str, which: int) -> None:
        turn = self.turns[-1 - which % len(self.turns)]
        if turn.turn_id is None:
            return
        if action == "playback":
            self.client.playback(turn, bp.Played(seq=turn.fold.last_output_seq))
        else:
            (self.client.hold if action == "hold" else self.client.resume)(turn)

    # --- the agents ------------------------------------------------------------------------------

    @rule(texts=st.lists(st.sampled_from(["a", "bc", "word ", "x" * 200]), max_size=20), status=st.booleans())
    def speak(self, texts: list[str], status: bool) -> None:
        """Agents yield while they are pulled; those behind a fence reach nobody."""
        for served in self.ever:
            for turn in served.cleaning:
                assert not served.core.emit(turn, "stale", self.now)
            for turn in list(served.running):
                for text in texts:
                    if self.open_line and (frame := served.append_text(turn, text, self.now)) is not None:
                        if served is self.attached:  # or the line is cut, which nobody has noticed
                            self.down.append(frame)
                        continue
                    if served.core.full or turn not in served.running:
                        break
                    assert served.core.emit(turn, text, self.now)
                    self.pump()
                if status and turn in served.running and not served.core.full:
                    served.core.emit(turn, bp.Status(message="busy"), self.now)
        self.pump()

    @rule(goes_on=st.booleans())
    def call_a_tool(self, goes_on: bool) -> None:
        for served in self.ever:
            for turn in (*served.running, *served.cleaning):
                if turn in served.cleaning or not served.core.full:
                    served.begin_call(turn, self.now, goes_on)
        self.pump()

    @rule()
    def return_from_tools(self) -> None:
        for served in self.ever:
            if not served.core.full:
                served.settle_calls(self.now)
        self.pump()

    @rule(enter=st.booleans())
    def section(self, enter: bool) -> None:
        for served in self.ever:
            for turn, depth in list(served.running.items()):
                if enter and depth < 2 and served.core.enter_section(turn):
                    served.running[turn] += 1
                elif not enter and depth:
                    served.running[turn] -= 1
                    served.core.leave_section(turn, self.now)
        self.pump()

    @rule(well=st.booleans())
    def finish(self, well: bool) -> None:
        for served in self.ever:
            for turn in list(served.running):
                del served.running[turn]
                served.core.finish(turn, COMPLETED if well else FAILED, self.now)
        self.pump()

    @rule()
    def clean_up(self) -> None:
        for served in self.ever:
            while served.cleaning:
                served.core.cleaned_up(served.cleaning.popitem()[0], self.now)
        self.pump()

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def the_server_keeps_its_word(self) -> None:
        for served in self.ever:
            served.check_ends()
            served.check_bounds()
            served.check_history()
            served.check_strangers(self.now)

    @invariant()
    def every_request_is_answered_at_most_once(self) -> None:
        assert all(times == 1 for times in (*self.answers.values(), *self.ends.values()))

    @invariant()
    def the_clients_picture_is_the_servers(self) -> None:
        served = self.sessions.get(self.client.session_id or "")
        if served is None:
            return
        for turn in self.turns:
            if turn.over or turn.turn_id is None or turn.turn_id not in {e.turn_id for e in served.log.truth}:
                continue
            told = bp.TurnFold(turn.turn_id, turn.input_id)
            for event in served.log.truth[: self.client.last_seq]:
                if event.turn_id == turn.turn_id:
                    told.apply(event)
            assert turn.fold.folded() == told.folded()

    def teardown(self) -> None:
        """Everything settles: then each accepted input has its end, and each request its answer."""
        if not self.ever:
            return
        for _ in range(50):
            if self.client.phase is Phase.OFFLINE:
                self.connect()
            self.jam(True)
            self.section(False)
            self.finish(True)
            self.clean_up()
            self.wait(3.0)
            self.carry(1000, 10_000)
            self.the_server_keeps_its_word()
        for served in self.ever:
            ended = {event.turn_id for event in served.log.truth if isinstance(event, bp.TurnEnded)}
            assert ended == {event.turn_id for event in served.log.truth}
            assert not served.core.busy
        assert self.asked == set(self.answers)
        assert all(turn.over for turn in self.turns)
        self.every_request_is_answered_at_most_once()


Conversation.TestCase.settings = settings(
    max_examples=20_000 if LONG else 800,
    stateful_step_count=100 if LONG else 50,
    deadline=None,
    report_multiple_bugs=False,
)
# Thousands of examples: minutes under coverage and on a busy machine.
TestConversation = pytest.mark.timeout(900)(Conversation.TestCase)
