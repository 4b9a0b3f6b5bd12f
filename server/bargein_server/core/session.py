"""Session: one conversation with an agent, without I/O and clock.

Requests and facts go in as method calls with the time; frames come out of `output`, and instructions
for the host out of `commands`. After each call the host drains both. A peer's mistake becomes a coded
`error` event; only misuse by the host raises, and then the session is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bargein_protocol import (
    AgentOutput,
    ClientEvent,
    Code,
    Codec,
    Epoch,
    GoAway,
    InputAudio,
    Interrupt,
    PendingEvent,
    Resume,
    SessionAudio,
    SessionId,
    Token,
    TurnId,
    Usage,
)  # fmt: skip
from bargein_protocol.errors import EXPIRED, SESSION_LOST

from ..settings import Settings
from . import CloseConnection, Command, Expire
from .author_code import TEXT_PIECE, split_text, validated_output
from .change_log import ChangeLog
from .history import History, Message
from .identity import Identity
from .lifecycle import Event, Flow, Stage
from .liveness import Liveness
from .observer import NO_OBSERVER, Observer
from .output_pump import OutputPump
from .outside_client import OutsideClient
from .persistence import Parts, Persistence
from .replay_log import ReplayLog
from .requests import ReplyCache, Requests
from .sequencer import HandOver, Sequencer
from .side_channel import SideChannel
from .speech.negotiation import NO_EARS, AudioSupport
from .speech.session_audio import AudioOfSession, AudioParts
from .tool_ledger import ToolLedger
from .turn_limiter import Permit
from .turn_record import SHUTDOWN, Ending, TurnRecord
from .turn_scheduler import TurnScheduler
from .turn_timer import TurnTimer
from .values import SessionValues


class Session:
    """State of one conversation.

    Args:
        session_id: The public id.
        epoch: Name of the numbering that begins now.
        log: An empty replay log.
        codec: Codec of logged frames until a client attaches.
        settings: The limits.
        permit: The session's permit of the server's limit on running turns.
        new_turn_id: Returns ids that are unique in the session.
        now: The time, in seconds, of any monotonic clock.
        observer: Is notified of turns, requests and answers.
        changed: Called with whether it binds when a store has something to write; None without a store.
        support: Audio that the server can take and make.
        attachments: Media types of the files that the agent takes.

    Attributes:
        audio: Its audio, and its ear.
        values: Small values of the author's own.
        seed: Messages before the session.
        persistence: Its records for a store; None without a store.
        tools: The tool calls of its turns.
        side_channel: Requests and followers beside the client that drives the session.
        output: Source of frames.
        outside: Access for clients with protocols of their own.
    """

    def __init__(
        self,
        session_id: SessionId,
        epoch: Epoch,
        log: ReplayLog,
        codec: Codec,
        settings: Settings,
        permit: Permit,
        new_turn_id: Callable[[], TurnId],
        now: float,
        observer: Observer = NO_OBSERVER,
        changed: Callable[[bool], None] | None = None,
        support: AudioSupport = NO_EARS,
        attachments: Sequence[str] = (),
    ) -> None:
        self.identity = Identity(session_id, attachments)
        self._settings = settings
        self._changes = changes = None if changed is None else ChangeLog(changed)
        self._sequencer = Sequencer(epoch, log, codec, observer, changes)
        self._turns = TurnScheduler(self._sequencer, settings, permit, new_turn_id, observer)
        replies = ReplyCache(changes)
        self.output = OutputPump(self._sequencer, self._turns, replies)
        self.tools = ToolLedger(self._turns)
        self._requests = Requests(self._sequencer, self._turns, self.tools, replies, attachments)
        self.side_channel = SideChannel(self._sequencer, self._turns, self._requests, self.output)
        self._liveness = Liveness(self._sequencer, self._turns, settings, now)
        self.outside = OutsideClient(self._sequencer, self._turns, replies, self.output, self._liveness)
        parts = AudioParts(self._sequencer, self._turns, self._requests, self._liveness, self.output)
        self.audio = AudioOfSession(support, settings, parts)
        self._turn_timer = TurnTimer(self._turns, settings)
        self.values = SessionValues(changes)
        self.seed: Sequence[Message] = ()
        self.persistence = self.records(changes) if changes is not None else None

    def _begin(self, now: float) -> None:
        """Begin a step: set the time, and update the records from an open run."""
        self._turns.now = now
        self._sequencer.settle()

    def records(self, changes: ChangeLog) -> Persistence:
        """Return the records of the session, with their change log."""
        parts = Parts(self.identity, self._sequencer, self._turns, self._requests, self.values)
        return Persistence(changes, parts)

    @property
    def metadata(self) -> dict[str, Any]:
        """The application's parameters, merged from `session.update`."""
        return self._requests.metadata

    @property
    def kept_bytes(self) -> int:
        """Approximate memory of log, history, waiting inputs and metadata."""
        return sum(part.kept_bytes for part in (self._sequencer, self._turns, self._requests, self.outside))

    # --- connections -----------------------------------------------------------------------------

    def refusal(self, resume: Resume, now: float) -> str | None:
        """Return the reason to refuse a resume, None when it can be granted."""
        if self._requests.closed:
            return "unknown_session"
        if not self.identity.proves(resume.token, now):
            return "bad_token"
        if resume.cursor.epoch != self._sequencer.epoch:
            return "epoch_changed"
        seq, kept = resume.cursor.seq, self.persistence
        known = seq <= self._sequencer.top and (kept is None or kept.explains(seq))
        return None if known else "cursor_ahead"

    def attach(
        self,
        codec: Codec,
        token: Token,
        now: float,
        *,
        resume: Resume | None = None,
        pending: Sequence[PendingEvent] = (),
        refused: str | None = None,
        hand_over: HandOver | None = None,
        audio: SessionAudio | None = None,
    ) -> None:
        """Let a client drive the session in place of the previous one, if any.

        Args:
            codec: Codec of its frames.
            token: Secret for the next resume.
            now: The time.
            resume: The granted resume; None for a session that is new to the client.
            pending: Requests of the client without an answer. They are applied before the replay, so
                that an interrupt made offline ends its turn before stale output is shown.
            refused: Reason that another session could not be resumed; then `pending` is not applied.
            hand_over: Writes frames that do not wait until the host drains; raises nothing.
            audio: Audio that the client asks for.
        """
        self._begin(now)
        self._liveness.attached(now)
        self.identity.rotate(token, now, resume.token if resume is not None else None)
        cursor = resume.cursor if resume is not None else None
        self._sequencer.attach(codec, hand_over)
        if self._changes is not None:
            self._changes.opening = True
            self._changes.touch_head()
            self._changes.bind()  # a client that has a token can resume
        running, head = self._turns.current, (token, self._sequencer.epoch, self._settings)
        turn_id, granted = running.id if running is not None else None, self.audio.open(audio, now)
        self._sequencer.answer(self.identity.opened(*head, cursor is not None, refused, turn_id, granted))
        self.audio.report_full()
        whole = cursor is None or self._sequencer.replay_from(cursor)
        if cursor is not None:
            self.output.received_up_to(cursor.seq)
        for event in pending:
            if refused is None:
                self._requests.handle(event)
            else:
                self._requests.error(SESSION_LOST, SESSION_LOST.reason, event.id)
        if cursor is not None and not whole:
            self.output.send_snapshot(cursor.seq)

    def detach(self, now: float) -> None:
        """Detach the client; output of its turns goes to the log (contract 11)."""
        self._begin(now)
        self._liveness.detached(now)
        self._sequencer.detach()
        self.audio.close(now)
        self.output.drain_to_log()

    # --- requests of the client ------------------------------------------------------------------

    def receive(self, event: ClientEvent, now: float) -> None:
        """Take an event from the attached client."""
        self._turns.now = now
        kind = type(event)
        is_audio = kind is InputAudio  # no sign of life, and no reason to close an open run
        if not is_audio and kind is not Interrupt:  # its answer is written before the records are up to date
            self._sequencer.settle()
        self._requests.handle(event)
        # Afterwards: an interrupt does not wait for anything that its step does not depend on.
        if not self.identity.confirmed:
            self.identity.confirm()
            if self._changes is not None:
                self._changes.touch_head()
        if not is_audio:
            self._liveness.heard_at = now

    def reject_frame(self, code: Code, detail: str, ref_id: str | None) -> None:
        """Answer a frame that could not be decoded; the session lives on."""
        self._requests.error(code, detail, ref_id)

    # --- output of the agent ---------------------------------------------------------------------

    def emit(self, turn_id: TurnId, output: str | AgentOutput | None, now: float) -> bool:
        """Take output of a turn; None is nothing.

        Returns:
            False when the fence is closed: this output and all later output is dropped.

        Raises:
            BadOutput: The output cannot be sent; the session is unchanged.
        """
        turns = self._turns
        turn = turns.current
        if turn is None or turn.id != turn_id or turn.stage is not Stage.RUNNING:
            return False
        self._sequencer.settle()
        if type(output) is str and 0 < len(output) <= TEXT_PIECE:
            turn.put_text(output)
        elif isinstance(output, str):
            for piece in split_text(output):
                turn.put_text(piece)
        elif output is not None and self.audio.wants(output):  # deltas of chat completions may be None
            turn.put(*validated_output(output))
        turns.now = turn.progress_at = now
        if not self._sequencer.attached:
            self.output.drain_to_log()
        return True

    @property
    def busy(self) -> bool:
        """Whether there is a current turn."""
        return self._turns.current is not None

    @property
    def full(self) -> bool:
        """Whether the agent must not be pulled: held, or enough output waits."""
        turn = self._turns.current
        return turn is not None and (
            turn.queued_bytes >= self._settings.max_queued_output_bytes
            or (
                turn.flow is not Flow.OPEN
                and (turn.held or (turn.flow is Flow.CUT_PENDING and not turn.sections))
            )
        )

    def pulled(self, turn_id: TurnId, now: float) -> None:
        """Restart the no-output timeout: the agent is pulled after a pause."""
        turn = self._turns.current
        if turn is not None and turn.id == turn_id:
            turn.progress_at = now
            turn.paused_since = None

    def enter_section(self, turn_id: TurnId) -> bool:
        """Begin a section that defers interrupts; False after the fence."""
        turn = self._turns.current
        if turn is None or turn.id != turn_id or turn.stage is not Stage.RUNNING:
            return False
        self._sequencer.settle()
        turn.advance(Event.PROTECT)
        turn.sections += 1
        return True

    def leave_section(self, turn_id: TurnId, now: float) -> None:
        """End a section; a deferred interrupt may take effect now."""
        turn = self._turns.turns.get(turn_id)
        if turn is not None and turn.sections:
            self._begin(now)
            turn.sections -= 1
            self._turns.release(turn)

    def add_usage(self, turn_id: TurnId, usage: Usage) -> None:
        """Add tokens to the turn's usage; ignored after its end."""
        if (turn := self._turns.turns.get(turn_id)) is not None and turn.stage is not Stage.ENDED:
            turn.add_usage(usage)

    def finish(self, turn_id: TurnId, outcome: Ending, now: float) -> None:
        """Record the end of the agent: the turn ends when its output is written.

        After the fence the call has no effect, because the turn has its end already.

        Raises:
            Misuse: The turn does not run.
        """
        turn = self._turns.turns.get(turn_id)
        if turn is None or turn.stage is Stage.ENDED:
            return
        self._begin(now)
        turn.advance(Event.FINISH)
        turn.ending = outcome
        turn.sections = 0
        self._turns.release(turn)
        if not self._sequencer.attached:
            self.output.drain_to_log()

    def cleaned_up(self, turn_id: TurnId, now: float) -> None:
        """Record that a cancelled task has ended or was abandoned (contract 5)."""
        self._begin(now)
        self._turns.cleaned_up(turn_id)

    def admitted(self, now: float) -> None:
        """Record that the permit was granted, and start the waiting turn."""
        self._begin(now)
        self._turns.start_next()

    def turn(self, turn_id: TurnId) -> TurnRecord:
        """Return a turn that a command named."""
        self._sequencer.settle()
        return self._turns.turns[turn_id]

    def history(self, turn_id: TurnId) -> History:
        """Return the history for the agent of this turn."""
        self._sequencer.settle()
        return History(self._turns.turns, self._turns.turns[turn_id], self.seed)

    def commands(self) -> list[Command]:
        """Return and forget the commands for the host, in order."""
        if commands := self._turns.commands:
            self._turns.commands = []
        return commands

    # --- time ------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return the latest time for `tick`, None when the session is over."""
        if self._requests.closed:
            return None
        deadline, turn = self._liveness.deadline(), self._turns.current
        return deadline if turn is None else min(deadline, self._turn_timer.deadline(turn, self.full))

    def tick(self, now: float) -> None:
        """Carry out all due actions."""
        self._begin(now)
        turns, turn = self._turns, self._turns.current
        if turn is not None and turn.held_until is not None and turn.held_until <= now:
            turns.resume(turn)
            if not self._sequencer.attached:
                self.output.drain_to_log()
        if turn is not None:
            self._turn_timer.check(turn, self.full, now)
        if self._liveness.tick(now):
            self._requests.closed = True
            if self._sequencer.attached:
                turns.commands.append(CloseConnection(EXPIRED))
            turns.commands.append(Expire())

    def model_works(self, turn_id: TurnId, until: float) -> None:
        """Record until when a turn's model counts as at work; before `tick`."""
        if (turn := self._turns.turns.get(turn_id)) is not None:
            turn.model_until = until

    def expire(self, now: float) -> None:
        """End an idle session whose client is away, before its time."""
        self._begin(now)
        self._requests.closed = True
        self._turns.commands.append(Expire())

    def drain(self, reconnect_after_s: float, now: float) -> None:
        """Refuse new inputs and ask the client to reconnect after a time."""
        self._begin(now)
        self._requests.draining = True
        self._sequencer.answer(GoAway(reason="shutdown", reconnect_after_ms=int(reconnect_after_s * 1000)))

    def shut_down(self, now: float) -> None:
        """End all turns and accept no more inputs, because the server stops."""
        self._begin(now)
        self._requests.draining = True
        self._turns.end_all(SHUTDOWN)
