"""A session: one conversation of one client with one agent, without I/O and without a clock.

Events and facts go in as method calls with the time; frames come out of `delivery`, and what the
shell is to do out of `commands`. After each call the shell drains both. What a peer does wrong
becomes a coded `error` event; only misuse by the shell raises, and then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bargein_protocol import (
    MAX_PENDING,
    AgentOutput,
    ClientEvent,
    Code,
    Codec,
    Epoch,
    GoAway,
    Limits,
    PendingEvent,
    Resume,
    SessionId,
    SessionOpened,
    Token,
    TurnId,
    Usage,
)  # fmt: skip
from bargein_protocol.errors import EXPIRED, SESSION_LOST

from ..settings import Settings
from .commands import CloseConnection, Command, Expire
from .history import History
from .identity import Identity
from .liveness import Liveness
from .observer import NOBODY, Observer
from .output_pump import OutputPump
from .replay_log import ReplayLog
from .reply_cache import ReplyCache
from .requests import Requests
from .sequencer import HandOver, Sequencer
from .side_channel import SideChannel
from .tools import Tools
from .turn_limiter import Permit
from .turn_record import NO_OUTPUT, OVERLOAD, SHUTDOWN, Ending, State, Step, TurnRecord
from .turn_scheduler import TurnScheduler
from .validation import TEXT_PIECE, split_text, validated_output


class Session:
    """See the module.

    Args:
        session_id: The public name.
        epoch: Names the numbering that begins now.
        log: An empty replay log.
        codec: What frames are logged in until a client attaches.
        settings: The limits.
        claim: To one of the slots that the turns of all sessions share.
        new_turn_id: Makes ids that are unique in the session.
        now: The time, in seconds, of any clock that does not go back.
        observer: Is told what happens.

    Attributes:
        tools: The tool calls of its turns.
        guests: For those who take part without driving it.
        delivery: Where frames come out, one by one. It is public so that no step is between: it is asked for
            every token.
    """

    def __init__(
        self,
        session_id: SessionId,
        epoch: Epoch,
        log: ReplayLog,
        codec: Codec,
        settings: Settings,
        claim: Permit,
        new_turn_id: Callable[[], TurnId],
        now: float,
        observer: Observer = NOBODY,
    ) -> None:
        self.identity = Identity(session_id)
        self._settings = settings
        self._stream = Sequencer(epoch, log, codec, observer)
        self._table = TurnScheduler(self._stream, settings, claim, new_turn_id, observer)
        answers = ReplyCache()
        self.delivery = OutputPump(self._stream, self._table, answers)
        self.tools = Tools(self._table)
        self._requests = Requests(self._stream, self._table, self.tools, answers)
        self.side_channel = SideChannel(self._stream, self._table, self._requests)
        self._presence = Liveness(self._stream, self._table, settings, now)

    @property
    def metadata(self) -> dict[str, Any]:
        """The application's parameters, merged from `session.update`."""
        return self._requests.metadata

    # --- connections -----------------------------------------------------------------------------

    def refuses(self, resume: Resume, now: float) -> str | None:
        """Return why a resume cannot be granted, None when it can."""
        if self._requests.closed:
            return "unknown_session"
        if not self.identity.proves(resume.token, now):
            return "bad_token"
        if resume.cursor.epoch != self._stream.epoch:
            return "epoch_changed"
        return "cursor_ahead" if resume.cursor.seq > self._stream.top else None

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
    ) -> None:
        """Let a client drive the session; the one before it, if any, is let go.

        Args:
            codec: What its frames are encoded in.
            token: The secret for the next resume.
            now: The time.
            resume: What was granted; None for a session that the client never saw.
            pending: What the client got no answer to. It is applied before the replay, so that an
                interrupt made offline ends its turn before stale output is shown.
            refused: Why another session could not be resumed; then nothing of `pending` is applied.
            hand_over: Takes frames that are not to wait until the shell drains; it raises nothing.
        """
        self._table.observer.reading()
        self._table.now = now
        self._presence.attached(now)
        self.identity.rotate(token, now, resume.token if resume is not None else None)
        cursor = resume.cursor if resume is not None else None
        self._stream.attach(codec, hand_over)
        self._answer_open(token, cursor is not None, refused)
        whole = cursor is None or self._stream.replay_from(cursor)
        if cursor is not None:
            for turn in self._table.turns.values():
                # What the old socket took beyond the cursor never arrived; the replay raises it again.
                turn.hearing.taken = min(turn.hearing.taken, cursor.seq)
        for event in pending:
            if refused is None:
                self._requests.handle(event)
            else:
                self._requests.error(SESSION_LOST, SESSION_LOST.reason, event.id)
        if cursor is not None and not whole:
            self.delivery.send_snapshot(cursor.seq)

    def detach(self, now: float) -> None:
        """Let the client go. Turns go on; what they yield goes to the log (contract 11)."""
        self._table.now = now
        self._presence.detached(now)
        self._stream.detach()
        self.delivery.drain_to_log()

    def _answer_open(self, token: Token, resumed: bool, reason: str | None) -> None:
        settings, current = self._settings, self._table.current
        room = settings.max_queued_inputs
        self._stream.answer(
            SessionOpened(
                session_id=self.identity.session_id,
                token=token,
                epoch=self._stream.epoch,
                resumed=resumed,
                reason=reason,
                turn_id=current.id if current is not None else None,
                heartbeat_ms=int(settings.heartbeat_s * 1000),
                limits=Limits(frame_bytes=settings.max_frame_bytes, pending=MAX_PENDING, queued=room),
            )
        )

    # --- what the client sends -------------------------------------------------------------------

    def receive(self, event: ClientEvent, now: float) -> None:
        """Take an event from the attached client."""
        self._table.observer.reading()
        self._table.now = now
        self._requests.handle(event)
        # Afterwards: an interrupt does not wait for what nothing in its step depends on.
        self.identity.confirm()
        self._presence.heard(now)

    def reject_frame(self, code: Code, detail: str, ref_id: str | None) -> None:
        """Answer a frame that could not be decoded; the session lives on."""
        self._requests.error(code, detail, ref_id)

    # --- what the agent does ---------------------------------------------------------------------

    def emit(self, turn_id: TurnId, output: str | AgentOutput | None, now: float) -> bool:
        """Take output of a turn; None is nothing.

        Returns:
            False when the fence is closed: the output is dropped, and so will be all that follows.

        Raises:
            BadOutput: The output cannot be sent; nothing has changed.
        """
        table = self._table
        turn = table.current
        if turn is None or turn.id != turn_id or turn.state is not State.RUNNING:
            return False
        if type(output) is str:
            if len(output) > TEXT_PIECE:
                for piece in split_text(output):
                    turn.put_text(piece)
            elif output:
                turn.put_text(output)
        elif output is not None:  # the deltas of chat completions are None now and then
            turn.put(*validated_output(output))
        table.now = turn.progress_at = now
        if not self._stream.attached:
            self.delivery.drain_to_log()
        return True

    @property
    def busy(self) -> bool:
        """Whether a turn has the floor."""
        return self._table.current is not None

    @property
    def full(self) -> bool:
        """Whether the current turn's agent is not to be pulled: held, or enough output waits."""
        turn = self._table.current
        return turn is not None and (
            turn.held_until is not None
            or turn.queued_bytes >= self._settings.max_queued_output_bytes
            or (turn.deferred is not None and not turn.sections)
        )

    def pulled(self, turn_id: TurnId, now: float) -> None:
        """Take note that the agent is pulled again after it was not, for the no-output time-out."""
        turn = self._table.current
        if turn is not None and turn.id == turn_id:
            turn.progress_at = now

    def enter_section(self, turn_id: TurnId) -> bool:
        """Begin to spare the turn's output from interrupts; False when the fence is closed."""
        turn = self._table.current
        if turn is None or turn.id != turn_id or turn.state is not State.RUNNING:
            return False
        turn.sections += 1
        return True

    def leave_section(self, turn_id: TurnId, now: float) -> None:
        """End what `enter_section` began; an interrupt that waited may take effect now."""
        turn = self._table.turns.get(turn_id)
        if turn is not None and turn.sections:
            self._table.now = now
            turn.sections -= 1
            self._table.settle(turn)

    def add_usage(self, turn_id: TurnId, usage: Usage) -> None:
        """Add to what the turn's model calls used; ignored after its end."""
        turn = self._table.turns.get(turn_id)
        if turn is not None and turn.state is not State.ENDED:
            before = turn.usage or Usage()
            turn.usage = Usage(
                input_tokens=before.input_tokens + usage.input_tokens,
                output_tokens=before.output_tokens + usage.output_tokens,
            )

    def finish(self, turn_id: TurnId, outcome: Ending, now: float) -> None:
        """Take note that the agent is done: the turn ends when its output is written.

        After the fence this changes nothing: the turn has its end already.

        Raises:
            Misuse: The turn does not run.
        """
        turn = self._table.turns.get(turn_id)
        if turn is None or turn.state is State.ENDED:
            return
        turn.advance(Step.FINISH)
        self._table.now = now
        turn.ending = outcome
        turn.sections = 0
        self._table.settle(turn)
        if not self._stream.attached:
            self.delivery.drain_to_log()

    def cleaned_up(self, turn_id: TurnId, now: float) -> None:
        """Take note that the task of a cancelled turn has ended or was abandoned (contract 5)."""
        self._table.now = now
        self._table.cleaned_up(turn_id)

    def admitted(self, now: float) -> None:
        """Take note that the claim has got its slot: the turn that waited for it may start."""
        self._table.now = now
        self._table.start_next()

    def turn(self, turn_id: TurnId) -> TurnRecord:
        """Return a turn that a command named."""
        return self._table.turns[turn_id]

    def history(self, turn_id: TurnId) -> History:
        """Return what the agent of this turn may see of the conversation."""
        return History(self._table.turns, self._table.turns[turn_id])

    # --- what goes out ---------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """Return what the shell is to do, in order, and forget it."""
        commands = self._table.commands
        if commands:
            self._table.commands = []
        return commands

    # --- time ------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when `tick` is due at the latest, None when the session is over."""
        if self._requests.closed:
            return None
        deadline, turn = self._presence.deadline(), self._table.current
        if turn is not None:
            if turn.held_until is not None:
                deadline = min(deadline, turn.held_until)
            if turn.state is State.RUNNING:
                deadline = min(deadline, turn.progress_at + self._settings.no_output_s)
            elif self._table.claim.waits:
                deadline = min(deadline, turn.progress_at + self._settings.turn_wait_s)
        return deadline

    def tick(self, now: float) -> None:
        """Do what is due."""
        table = self._table
        table.now = now
        turn = table.current
        if turn is not None and turn.held_until is not None and turn.held_until <= now:
            table.resume(turn)
            if not self._stream.attached:
                self.delivery.drain_to_log()
        if turn is not None and turn.state is State.RUNNING:
            self._check_output(turn, now)
        elif turn is not None and table.claim.waits and now - turn.progress_at >= self._settings.turn_wait_s:
            table.end(turn, OVERLOAD)
            table.start_next()
        if self._presence.tick(now):
            self._requests.closed = True
            if self._stream.attached:
                table.commands.append(CloseConnection(EXPIRED))
            table.commands.append(Expire())

    def _check_output(self, turn: TurnRecord, now: float) -> None:
        if self.full or turn.runs_tool:
            turn.progress_at = now  # it is not pulled, or a tool works: silence is no fault
        elif now - turn.progress_at >= self._settings.no_output_s:
            self._table.end(turn, NO_OUTPUT)
            self._table.start_next()

    def drain(self, reconnect_after_s: float, now: float) -> None:
        """Accept no more inputs, and tell the client to come back after a time: the server will stop."""
        self._table.now = now
        self._requests.draining = True
        self._stream.answer(GoAway(reason="shutdown", reconnect_after_ms=int(reconnect_after_s * 1000)))

    def shut_down(self, now: float) -> None:
        """End what runs and accept nothing more: the server stops."""
        self._table.now = now
        self._requests.draining = True
        self._table.end_all(SHUTDOWN)
