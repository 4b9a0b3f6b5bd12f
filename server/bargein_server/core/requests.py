"""Requests of a client, and the answer to each.

Every handler gives its answer to the sequencer in the same step. Inputs and interrupts are answered
once. Their ids make a resend harmless: it gets the first answer again, marked as a duplicate and without
a number, and nothing happens twice (contract 4).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any

from msgspec import json
from msgspec.structs import replace

from bargein_protocol import (
    MAX_PENDING,
    ClientEvent,
    Code,
    ErrorEvent,
    InputAccepted,
    InputAudio,
    InputClear,
    InputCommit,
    InputId,
    InputQueued,
    InputRejected,
    InputText,
    Interrupt,
    InterruptResult,
    Ping,
    Playback,
    Pong,
    Seq,
    SessionClose,
    SessionOpen,
    SessionRewind,
    SessionRewound,
    SessionUpdate,
    ToolDecision,
    ToolOutput,
    TurnHold,
    TurnId,
    TurnResume,
)
from bargein_protocol.errors import (
    ALREADY_OPEN,
    AT_CAPACITY,
    BAD_EVENT,
    CLOSED,
    ID_REUSED,
    NOT_RUNNING,
    SHUTTING_DOWN,
    UNKNOWN_CALL,
    UNKNOWN_TURN,
    UNSUPPORTED,
    UNSUPPORTED_ATTACHMENT,
    Action,
)
from bargein_protocol.media_types import are_taken
from bargein_protocol.types import MAX_KEYS

from . import CloseConnection, Expire
from .change_log import ChangeLog
from .lifecycle import GUARDED, Stage
from .sequencer import Sequencer
from .speech.ear import Ear, SpeechEvent
from .tool_ledger import ToolLedger
from .turn_record import INTERRUPTED, SESSION_CLOSED, TurnRecord, interrupted_by, memory_of
from .turn_scheduler import TurnScheduler

InputAnswer = InputAccepted | InputQueued | InputRejected
Answer = InputAnswer | InterruptResult | SessionRewound

REMEMBERED = 1024


class ReplyCache:
    """Cache of a session's last answers; the oldest is dropped first.

    Attributes:
        changes: Log of what a store must write; None without a store.
    """

    __slots__ = ("_by_id", "changes")

    def __init__(self, changes: ChangeLog | None = None) -> None:
        self._by_id: dict[str, Answer] = {}
        self.changes = changes

    def all(self) -> Sequence[tuple[str, Answer]]:
        """Return the answers by request, oldest first."""
        return list(self._by_id.items())

    def restore(self, answers: Sequence[tuple[str, Answer]]) -> None:
        """Fill it from a store."""
        self._by_id = dict(answers)

    def remember(self, request_id: str, answer: Answer) -> None:
        """Store the first answer to a request."""
        self._by_id[request_id] = answer
        if self.changes is not None:
            self.changes.reply(request_id, answer)
        if len(self._by_id) > REMEMBERED:
            del self._by_id[next(iter(self._by_id))]

    @property
    def ids(self) -> Container[str]:
        """Ids of the answered requests; a view that is always current."""
        return self._by_id.keys()

    def numbered(self, request_id: str) -> Seq | None:
        """Return the number of the answer to an input, None without one."""
        answer = self._by_id.get(request_id)
        return answer.seq if isinstance(answer, (InputAccepted, InputQueued)) else None

    def again(self, request_id: str) -> Answer | None:
        """Return the answer to a resend, None when the id is new."""
        answer = self._by_id.get(request_id)
        if answer is None:
            return None
        if isinstance(answer, (InputAccepted, InputQueued, SessionRewound)):
            return replace(answer, seq=Seq(0), duplicate=True)
        return replace(answer, duplicate=True)

    def replies_since(self, seq: Seq) -> Iterator[InputAccepted | InputQueued | SessionRewound]:
        """Yield the answers to inputs and rewinds numbered after `seq`."""
        for answer in self._by_id.values():
            if isinstance(answer, (InputAccepted, InputQueued, SessionRewound)) and answer.seq > seq:
                yield answer


# A session's merged metadata stays within this, or a client could make it grow without end.
MAX_METADATA_BYTES = 256 * 1024


class Requests:
    """Handlers of a client's events.

    Attributes:
        metadata: The application's parameters, merged from `session.update`.
        replies: Its answers.
        kept_bytes: Approximate size of the metadata.
        closed: Whether the session has ended for good.
        draining: Whether the server stops; then inputs are rejected.
        ear: Takes input audio; None in a session that has never had any.
        attachments: Media types of the files that the agent takes.
    """

    __slots__ = (
        "_early", "_replies", "_sequencer", "_sizes", "_tools", "_turns", "attachments", "closed", "draining",
        "ear", "kept_bytes", "metadata", "replies",
    )  # fmt: skip

    def __init__(
        self,
        sequencer: Sequencer,
        turns: TurnScheduler,
        tools: ToolLedger,
        replies: ReplyCache,
        attachments: Sequence[str] = (),
    ) -> None:
        self.attachments = attachments
        self.metadata: dict[str, Any] = {}
        self.kept_bytes = 0
        self._sizes: dict[str, tuple[int, int]] | None = None  # of the values: in JSON, and in memory
        self.closed = self.draining = False
        self.ear: Ear | None = None
        self._sequencer = sequencer
        self._turns = turns
        self._tools = tools
        self._replies = self.replies = replies
        self._early: dict[InputId, Interrupt] = {}  # interrupts for inputs that have not arrived yet

    def early(self) -> list[Interrupt]:
        """Return the interrupts for inputs that have not arrived yet."""
        return list(self._early.values())

    def restore(self, metadata: Mapping[str, Any], early: Sequence[Interrupt]) -> None:
        """Fill it from a store."""
        self._merge(dict(metadata), {key: json.encode({key: value}) for key, value in metadata.items()}, {})
        self._early = {event.input_id: event for event in early if event.input_id is not None}

    def handle(self, event: ClientEvent) -> None:
        """Handle an event of a client."""
        _HANDLERS[type(event)](self, event)

    def reject(self, input_id: InputId, code: Code) -> None:
        """Answer an input or a commit that gets no turn."""
        rejected = InputRejected(input_id=input_id, code=code.name)
        self._replies.remember(input_id, rejected)
        self._sequencer.answer(rejected)

    def error(self, code: Code, detail: str, ref_id: str | None) -> None:
        """Answer with an `error` event."""
        retryable = code.action is Action.RETRY
        self._sequencer.answer(ErrorEvent(code=code.name, message=detail, ref_id=ref_id, retryable=retryable))

    def ask(self, event: InputText) -> None:
        """Ask for a turn with a client's input or its transcribed speech."""
        if (answer_before := self._replies.again(event.id)) is not None:
            self._answer_again(event.id, answer_before, InputAnswer)
            return
        early = self._early.pop(event.id, None)
        unwanted = event.attachments is not None and not are_taken(event.attachments, self.attachments)
        if self.draining or unwanted:
            self.reject(event.id, UNSUPPORTED_ATTACHMENT if unwanted else SHUTTING_DOWN)
            return
        if early is not None:
            answer = self._turns.accept_cancelled(event, interrupted_by(early))
        else:
            answer = self._turns.schedule(event)
        self._replies.remember(event.id, answer)
        if isinstance(answer, InputRejected):
            self._sequencer.answer(answer)

    def _on_interrupt(self, event: Interrupt) -> None:
        if (answer_before := self._replies.again(event.id)) is not None:
            self._answer_again(event.id, answer_before, InterruptResult)
            return
        turns, turn = self._turns, None
        if event.turn_id is not None:
            turn = turns.turns.get(event.turn_id)
        elif event.input_id is None:
            turn = turns.current or turns.last
        if turn is None and event.input_id is not None:
            turn = turns.by_input.get(event.input_id)
        if turn is None:
            self._answer_interrupt(event, self._remember_early(event))
            return
        if event.played is not None:
            turn.heard_position.report(event.played)
            if self._replies.changes is not None:
                self._replies.changes.touch(turn.id)
        result = InterruptResult(interrupt_id=event.id, turn_id=turn.id, outcome="interrupted")
        ending = INTERRUPTED if event.reason is None else interrupted_by(event)
        if turn.stage is Stage.ENDED:
            # For the other outcomes `turn.ended` contains the heard part.
            heard = turn.heard_position.heard(turn.fold.main_lane)
            result = replace(result, outcome="already_ended", heard=heard)
        else:
            turns.observer.turn_cut(turn)
            if turn.flow in GUARDED and not event.force:
                result = replace(result, outcome="deferred")
                turns.defer(turn, ending)
        # The answer and the end go out in one write, the answer first (contract 3).
        self._sequencer.answer(result)
        if result.outcome == "interrupted":
            turns.end(turn, ending, at_once=True)
            turns.start_next()
        # The text is left out: a thousand answers would hold as many copies of it.
        self._replies.remember(event.id, result if result.heard is None else replace(result, heard=None))

    def _remember_early(self, event: Interrupt) -> bool:
        seen = event.input_id is None or self._replies.again(event.input_id) is not None
        if seen or len(self._early) >= MAX_PENDING:
            return False
        assert event.input_id is not None
        self._early.setdefault(event.input_id, event)
        if self._replies.changes is not None:
            self._replies.changes.touch_head()
        return True

    def _answer_interrupt(self, event: Interrupt, remembered: bool) -> None:
        outcome = InterruptResult(interrupt_id=event.id, outcome="deferred" if remembered else "unknown_turn")
        self._replies.remember(event.id, outcome)
        self._sequencer.answer(outcome)

    def _answer_again(self, request_id: str, answer: Answer, kind: type[Answer] | UnionType) -> None:
        """Repeat the first answer to an id, if the same kind of request used it."""
        if isinstance(answer, kind):
            self._sequencer.answer(self._with_heard(answer))
        else:
            self.error(ID_REUSED, ID_REUSED.reason, request_id)

    def _with_heard(self, answer: Answer) -> Answer:
        if not isinstance(answer, InterruptResult) or answer.outcome != "already_ended":
            return answer
        turn = self._turns.turns.get(answer.turn_id) if answer.turn_id is not None else None
        return (
            answer if turn is None else replace(answer, heard=turn.heard_position.heard(turn.fold.main_lane))
        )

    def _on_hold(self, event: TurnHold | TurnResume) -> None:
        turn = self._speaking(event.turn_id)
        if turn is None:
            return
        if type(event) is TurnHold:
            self._turns.hold(turn)
        else:
            self._turns.resume(turn)
        if self.ear is not None:
            self.ear.client_decided(turn.id)

    def _on_speech(self, event: SpeechEvent) -> None:
        if type(event) is InputCommit and (answer_before := self._replies.again(event.id)) is not None:
            self._answer_again(event.id, answer_before, InputAnswer)
        elif self.ear is None:
            self.error(UNSUPPORTED, "this session takes no input audio", getattr(event, "id", None))
        else:
            self.ear.receive(event, self._turns.now)

    def _speaking(self, turn_id: TurnId) -> TurnRecord | None:
        turn = self._turns.turns.get(turn_id)
        if turn is None:
            self.error(UNKNOWN_TURN, UNKNOWN_TURN.reason, turn_id)
        elif turn.stage not in (Stage.RUNNING, Stage.FINISHING):
            self.error(NOT_RUNNING, NOT_RUNNING.reason, turn_id)
        else:
            return turn
        return None

    def _on_playback(self, event: Playback) -> None:
        turn = self._turns.turns.get(event.turn_id)
        if turn is None:
            self.error(UNKNOWN_TURN, UNKNOWN_TURN.reason, event.turn_id)
        else:
            turn.heard_position.report(event)
            self._turns.touched(turn.id)

    def _on_tool_answer(self, event: ToolOutput | ToolDecision) -> None:
        if not self._tools.receive(event):
            self.error(UNKNOWN_CALL, UNKNOWN_CALL.reason, event.call_id)

    def _on_rewind(self, event: SessionRewind) -> None:
        if (answer_before := self._replies.again(event.id)) is not None:
            self._answer_again(event.id, answer_before, SessionRewound)
            return
        turn = self._turns.turns.get(event.turn_id)
        if self.draining:  # the input that follows would be refused, and the answer that it replaces be lost
            self.error(SHUTTING_DOWN, SHUTTING_DOWN.reason, event.id)
        elif turn is None or turn.fold.dropped:
            self.error(UNKNOWN_TURN, UNKNOWN_TURN.reason, event.id)
        elif isinstance(rewound := self._turns.rewind(turn, event.id), Code):
            self.error(rewound, "these turns cannot be dropped now", event.id)
        else:
            self._replies.remember(event.id, rewound)
            if self._sequencer.reply_sink is not None:
                self._sequencer.answer(rewound)

    def _on_update(self, event: SessionUpdate) -> None:
        # Only what the event brings is encoded: small updates of large metadata would cost much.
        given = {key: value for key, value in event.metadata.items() if value is not None}
        brought = {key: json.encode({key: value}) for key, value in given.items()}
        sizes = {key: size for key, size in (self._sizes or {}).items() if key not in event.metadata}
        lengths = sum(size for size, _ in sizes.values()) + sum(map(len, brought.values()))
        if len(sizes) + len(brought) > MAX_KEYS or lengths > MAX_METADATA_BYTES:
            limits = f"{MAX_KEYS} keys and {MAX_METADATA_BYTES} bytes"
            self.error(BAD_EVENT, f"expected the merged metadata to stay within {limits}", None)
        elif brought and not self._turns.permit.affordable:
            self.error(AT_CAPACITY, "the server keeps no more metadata", None)
        else:
            self._merge(given, brought, sizes)
            if self._replies.changes is not None:
                self._replies.changes.touch_head()

    def _merge(
        self, given: dict[str, Any], brought: dict[str, bytes], sizes: dict[str, tuple[int, int]]
    ) -> None:
        """Add metadata, with its encoded values, to that whose sizes are given."""
        kept = {key: value for key, value in self.metadata.items() if key in sizes}
        self.metadata = {**kept, **given}
        sizes |= {key: (len(encoded), memory_of(encoded)) for key, encoded in brought.items()}
        self._sizes = sizes
        self.kept_bytes = sum(memory for _, memory in sizes.values())

    def _on_close(self, event: SessionClose) -> None:
        self._turns.end_all(SESSION_CLOSED)
        self.closed = True
        if self._replies.changes is not None:
            self._replies.changes.close()
        self._turns.commands += [CloseConnection(CLOSED), Expire()]

    def _on_ping(self, event: Ping) -> None:
        self._sequencer.answer(Pong(id=event.id))

    def _on_second_open(self, event: SessionOpen) -> None:
        self.error(ALREADY_OPEN, ALREADY_OPEN.reason, None)


_HANDLERS: dict[type, Callable[[Requests, Any], None]] = {
    InputText: Requests.ask,
    InputAudio: Requests._on_speech,
    InputCommit: Requests._on_speech,
    InputClear: Requests._on_speech,
    Interrupt: Requests._on_interrupt,
    TurnHold: Requests._on_hold,
    TurnResume: Requests._on_hold,
    Playback: Requests._on_playback,
    ToolOutput: Requests._on_tool_answer,
    ToolDecision: Requests._on_tool_answer,
    SessionRewind: Requests._on_rewind,
    SessionUpdate: Requests._on_update,
    SessionClose: Requests._on_close,
    Ping: Requests._on_ping,
    SessionOpen: Requests._on_second_open,
}
