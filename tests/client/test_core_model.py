"""Stateful test of the client with a small correct server."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import bargein_protocol as bp
from bargein_client.core import ClientCore
from bargein_client.events import TurnSnapshot
from bargein_client.phases import Phase
from bargein_client.tracked_turn import TrackedTurn
from numbering_model import ModelServer

ENDED: tuple[bp.Outcome, ...] = ("interrupted", "already_ended", "unknown_turn")
"""Outcomes after which a turn is not rendered any more."""


class Reader:
    """Application that renders a turn and checks the client."""

    def __init__(self, tracked: TrackedTurn) -> None:
        self.tracked = tracked
        self.rendered = ""
        self.ends: list[bp.TurnEnded] = []
        self.silent = False
        """Whether the user interrupted the turn, and no answer lets it go on."""
        self.dropped = False
        """Whether an interrupt after the end dropped the unread output for good."""
        self.talked_over = False
        """Whether another input may have cut off the last words."""

    def read(self) -> None:
        while (event := self.tracked.inbox.take()) is not None:
            assert not self.ends, "nothing comes after the end"
            if isinstance(event, (bp.TextDelta, TurnSnapshot)):
                assert not self.silent, "nothing is rendered of a turn that was interrupted"
            if isinstance(event, bp.TextDelta):
                self.rendered += event.text
            elif isinstance(event, TurnSnapshot):
                lane = event.state.lanes.get("")
                self.rendered = lane.text if lane is not None else ""
            elif isinstance(event, bp.TurnEnded):
                self.ends.append(event)


class LossyConnection(RuleBasedStateMachine):
    """Random actions in any order; frames arrive in order or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.core = ClientCore()
        self.server = ModelServer()
        self.up: list[bp.ClientEvent] = []
        self.readers: dict[str, Reader] = {}
        self.interrupts: dict[str, str] = {}
        self.outcomes: dict[str, list[bp.ServerEvent]] = {}
        self.ids = 0
        self.words = 0
        self.known_text: dict[str, str] = {}

    # --- the connection --------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.connect(through=True)

    @rule(through=st.booleans())
    @precondition(lambda self: self.core.phase is Phase.OFFLINE)
    def connect(self, through: bool) -> None:
        self.server.detach()
        self.core.attach()
        self._pump()
        if through:
            self.settle()

    @rule(lose=st.sampled_from(["nothing", "nothing", "the log", "the session"]), words=st.integers(0, 3))
    @precondition(lambda self: self.core.phase is not Phase.OFFLINE)
    def cut(self, lose: str, words: int) -> None:
        """Break the connection; the server may lose the log or the session."""
        self.core.detach()
        self.server.detach()
        self.up.clear()
        for _ in range(words):
            self.say()
        if lose == "the log":
            self.server.trim()
        elif lose == "the session":
            self.server.forget()

    @rule()
    def settle(self) -> None:
        """Deliver all frames."""
        while self.up or self.server.down:
            self.deliver_up(10)
            self.deliver_down(10)

    @rule(count=st.integers(1, 3))
    def deliver_up(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            self.server.receive(self.up.pop(0))
        self._remember()

    @rule(count=st.integers(1, 4))
    def deliver_down(self, count: int) -> None:
        for _ in range(min(count, len(self.server.down))):
            self.core.receive(self.server.down.popleft())
            self._pump()

    @rule(back=st.integers(1, 5))
    @precondition(lambda self: self.core.phase is Phase.LIVE)
    def repeat(self, back: int) -> None:
        for event in self.server.log[: self.core.last_seq][-back:]:
            self.core.receive(event)
        self._pump()

    # --- the user --------------------------------------------------------------------------------

    @rule(on_busy=st.sampled_from([None, "interrupt", "queue", "reject"]))
    @precondition(lambda self: len(self.readers) < 12)
    def ask(self, on_busy: bp.OnBusy | None) -> None:
        self.ids += 1
        event = bp.InputText(id=bp.InputId(f"in_{self.ids}"), text="x", on_busy=on_busy)
        for reader in self.readers.values():
            reader.talked_over |= on_busy in (None, "interrupt") and not reader.tracked.over
        self.readers[event.id] = Reader(self.core.send_input(event))
        self._pump()

    @rule(data=st.data())
    @precondition(lambda self: self.readers and len(self.interrupts) < 20)
    def interrupt(self, data: st.DataObject) -> None:
        self.interrupt_turn(data.draw(st.sampled_from(sorted(self.readers))))

    def interrupt_turn(self, input_id: str) -> None:
        reader = self.readers[input_id]
        if reader.tracked.over and reader.tracked.turn_id is None:
            return  # its input was refused
        self.ids += 1
        event = bp.Interrupt(id=bp.InterruptId(f"x_{self.ids}"))
        self.core.interrupt(event, reader.tracked)
        self.interrupts[event.id] = input_id
        reader.dropped |= reader.tracked.over
        reader.silent = True
        self._pump()

    @rule(data=st.data())
    @precondition(lambda self: self.readers)
    def read(self, data: st.DataObject) -> None:
        self.readers[data.draw(st.sampled_from(sorted(self.readers)))].read()

    # --- the server ------------------------------------------------------------------------------

    @rule()
    def say(self) -> None:
        self.words += 1
        self.server.say(f"w{self.words} ")
        self._remember()

    @rule()
    def finish(self) -> None:
        self.server.finish()

    @rule()
    def protect(self) -> None:
        self.server.protect()

    @rule()
    def unprotect(self) -> None:
        self.server.unprotect()

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def nothing_is_rendered_that_was_not_said(self) -> None:
        for reader in self.readers.values():
            said = self.known_text.get(reader.tracked.turn_id or "", "")
            assert said.startswith(reader.rendered)
            assert len(reader.ends) <= 1

    @invariant()
    def every_request_has_one_answer_at_most(self) -> None:
        for answers in self.outcomes.values():
            assert len([answer for answer in answers if not isinstance(answer, bp.TurnEnded)]) <= 1
            assert len([answer for answer in answers if isinstance(answer, bp.TurnEnded)]) <= 1

    def teardown(self) -> None:
        """Settle everything; the client's state then equals the server's."""
        if self.core.phase is Phase.OFFLINE:
            self.connect(through=True)
        self.settle()
        while self.server.running:
            self.unprotect()
            self.finish()
            self.settle()
        for input_id, reader in self.readers.items():
            reader.read()
            assert input_id in self.outcomes
            tracked = reader.tracked
            if tracked.turn_id is not None:
                assert tracked.ended is not None
                assert reader.ends == [tracked.ended]
                if tracked.ended.status == "completed":
                    assert tracked.text == self.known_text.get(tracked.turn_id, "")
                    whole = reader.rendered == tracked.text
                    assert whole or reader.silent or reader.talked_over
        assert set(self.interrupts) <= set(self.outcomes)
        assert len(self.core.turns) == 0

    def _pump(self) -> None:
        """Take the core's outgoing events and its outcomes."""
        self.up += self.core.outgoing()
        for request_id, outcome in self.core.outcomes():
            self.outcomes.setdefault(request_id, []).append(outcome)
            if isinstance(outcome, bp.InterruptResult):
                self._judge(self.interrupts[request_id])

    def _judge(self, input_id: str) -> None:
        """Expect output again once no interrupt waits and none ended the turn."""
        reader = self.readers[input_id]
        given = [self.outcomes.get(x) for x, of in self.interrupts.items() if of == input_id]
        results = [answers[0] for answers in given if answers]
        ended = any(isinstance(answer, bp.InterruptResult) and answer.outcome in ENDED for answer in results)
        reader.silent = reader.dropped or len(results) < len(given) or ended

    def _remember(self) -> None:
        """Keep the text of each turn, in case the server loses the session."""
        for turn in self.server.turns.values():
            self.known_text[turn.turn_id] = turn.fold.folded().lanes[""].text


LossyConnection.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestLossyConnection = LossyConnection.TestCase


def test_an_interrupt_of_an_ended_turn_drops_its_unread_output() -> None:
    """A server that lost the session does not undo this with its answer."""
    machine = LossyConnection()
    machine.begin()
    machine.ask(on_busy=None)
    machine.settle()
    machine.cut(lose="nothing", words=1)
    machine.finish()
    machine.connect(through=True)
    reader = machine.readers["in_1"]
    assert reader.tracked.over
    assert len(reader.tracked.inbox) > 0
    machine.cut(lose="the session", words=0)
    machine.connect(through=True)
    machine.interrupt_turn("in_1")
    machine.settle()
    (answer,) = machine.outcomes["x_2"]
    assert isinstance(answer, bp.InterruptResult)
    assert answer.outcome == "unknown_turn"
    reader.read()
    assert reader.rendered == ""
    assert reader.ends == [reader.tracked.ended]
    machine.teardown()
