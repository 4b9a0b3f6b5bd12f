"""A conversation with the core alone: what a client and a host do to a `Session`, in few words.

    talk = Talk()
    turn = talk.ask("hello")            # the turn's id
    talk.emit(turn, "Hi ")
    talk.interrupt(turn)
    assert talk.types() == [...]

Every action is followed by what the host does: frames are taken while the line takes them, commands
are kept in `commands`. Frames arrive decoded in `events`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar

from bargein_protocol import (
    JSON,
    AgentOutput,
    AudioFormat,
    ClientEvent,
    Cursor,
    Epoch,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    InterruptResult,
    Numbered,
    OnBusy,
    PendingEvent,
    Played,
    Resume,
    Seq,
    ServerEvent,
    SessionAudio,
    SessionId,
    SessionOpened,
    Token,
    TurnEnded,
    TurnId,
    UnknownEvent,
)
from bargein_server.core import CancelTurn, Command, StartTurn
from bargein_server.core.author_code import TEXT_PIECE
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.session import Session
from bargein_server.core.speech.negotiation import NO_EARS
from bargein_server.core.text_run import TextRun
from bargein_server.core.turn_limiter import Permit, TurnLimiter
from bargein_server.core.turn_record import COMPLETED, Ending
from bargein_server.settings import Settings
from bargein_server.transport.connection import WRITE_BYTES

E = TypeVar("E")

SOUND = SessionAudio(output=AudioFormat(rate=24_000))
"""A client that gets audio."""


class Talk:
    """See the module.

    Attributes:
        session: The core.
        now: The time.
        followed: Whether a follower reads along; then no text run is open.
        open: Whether the line takes output; answers are always taken.
        events: What the attached client received, oldest first.
        commands: What the host was asked to do.
        support: Audio that the server can take and make.
    """

    support = NO_EARS

    def __init__(
        self, turn_limiter: TurnLimiter | None = None, *, attachments: Sequence[str] = (), **settings: Any
    ) -> None:
        self.settings = Settings(**settings)
        self.now = 100.0
        self.open = True
        self.followed = False
        self.events: list[ServerEvent | UnknownEvent] = []
        self.commands: list[Command] = []
        self.turn_limiter = turn_limiter or TurnLimiter(
            self.settings.max_running_turns, self.settings.max_waiting_turns
        )
        self.permit = Permit(self.turn_limiter, self._admitted)
        self._ids = count(1)
        self._tokens = count(1)
        self._token = Token("")
        turn_ids = count(1)
        self._run: TextRun | None = None
        self.session = Session(
            SessionId("s"),
            Epoch("e"),
            MemoryLog(self.settings.max_log_events, self.settings.max_log_bytes),
            JSON,
            self.settings,
            self.permit,
            lambda: TurnId(f"t{next(turn_ids)}"),
            self.now,
            changed=self.changed(),
            support=self.support,
            attachments=attachments,
        )
        self.begin()

    def changed(self) -> Callable[[bool], None] | None:
        """Return the function that is told of changes for a store; there is no store."""
        return None

    def begin(self) -> None:
        """Do what comes first: a client is attached."""
        self.attach()

    # --- the host --------------------------------------------------------------------------------

    def attach(
        self,
        cursor: int | None = None,
        pending: Sequence[PendingEvent] = (),
        refused: str | None = None,
        shown: Token | None = None,
        audio: SessionAudio | None = SOUND,
    ) -> Token:
        """Attach a client; with a cursor it resumes, with the last token or another. Returns its new one."""
        resume = None if cursor is None else self.resume(shown or self._token, cursor)
        self._token = Token(f"token{next(self._tokens)}")
        self.session.attach(
            JSON, self._token, self.now, resume=resume, pending=pending, refused=refused, audio=audio
        )
        self.flush()
        return self._token

    def resume(self, token: Token, seq: int = 0, epoch: str = "e") -> Resume:
        """Return what a client asks for when it comes back."""
        return Resume(session_id=SessionId("s"), token=token, cursor=Cursor(epoch=Epoch(epoch), seq=Seq(seq)))

    def _admitted(self) -> None:
        self.session.admitted(self.now)
        self.flush()

    def detach(self) -> None:
        """Lose the line."""
        self.session.detach(self.now)
        self.flush()

    def flush(self) -> None:
        """Do what the host does after every call."""
        while True:
            while frames := self.session.output.next_frames(self.open, WRITE_BYTES):
                self.events += map(JSON.decode_server, frames)
            commands = self.session.commands()
            if not commands:
                return
            self.commands += commands

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one is due."""
        end = self.now + seconds
        while (due := self.session.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.session.tick(self.now)
            self.flush()
            after = self.session.next_deadline()
            assert after is None or after > self.now, "a tick left undone what was due"
        self.now = end

    # --- the client ------------------------------------------------------------------------------

    def send(self, event: ClientEvent) -> None:
        """Send any event."""
        self.session.receive(event, self.now)
        self.flush()

    def ask(self, text: str = "hello", *, id: str | None = None, on_busy: OnBusy | None = None) -> TurnId:
        """Send an input; returns the id of the turn that it got, empty when it was rejected."""
        before = len(self.events)
        input_id = InputId(id or f"i{next(self._ids)}")
        self.send(InputText(id=input_id, text=text, on_busy=on_busy))
        answers = [event for event in self.events[before:] if getattr(event, "input_id", None) == input_id]
        return getattr(answers[0], "turn_id", TurnId("")) if answers else TurnId("")

    def interrupt(
        self,
        turn: TurnId | None = None,
        *,
        id: str | None = None,
        asked_by: str | None = None,
        played: Played | None = None,
        reason: str | None = None,
        force: bool = False,
    ) -> InterruptResult:
        """Send an interrupt; returns its answer."""
        before = len(self.events)
        interrupt_id = InterruptId(id or f"x{next(self._ids)}")
        input_id = None if asked_by is None else InputId(asked_by)
        self.send(
            Interrupt(
                id=interrupt_id, turn_id=turn, input_id=input_id, played=played, reason=reason, force=force
            )
        )
        answers = [
            event
            for event in self.events[before:]
            if isinstance(event, InterruptResult) and event.interrupt_id == interrupt_id
        ]
        assert len(answers) == 1, f"expected one answer to the interrupt, got {answers}"
        return answers[0]

    # --- the agent -------------------------------------------------------------------------------

    def emit(self, turn: TurnId, *outputs: str | AgentOutput) -> bool:
        """Yield output; return whether the last was taken."""
        taken = True
        for output in outputs:
            if self.open and type(output) is str and self.append_text(turn, output):
                taken = True
            else:
                taken = self.session.emit(turn, output, self.now)
                self.flush()
        return taken

    def append_text(self, turn: TurnId, text: str) -> bool:
        """Append text to the open run, as a host does; return whether that was possible."""
        if self._run is None or not self._run.open or self._run.turn_id != turn:
            self._run = None if self.followed else self.session.output.open_text(turn)
        if self._run is None or not 0 < len(text) <= TEXT_PIECE:
            return False
        frame = self._run.append(text, self.now)
        if frame is None:
            return False
        self.events += map(JSON.decode_server, [*self.session.output.take_ready(), frame])
        return True

    def finish(self, turn: TurnId, ending: Ending = COMPLETED) -> None:
        """Let the agent return."""
        self.session.finish(turn, ending, self.now)
        self.flush()

    def enter_section(self, turn: TurnId) -> bool:
        """Begin an uninterruptible section."""
        return self.session.enter_section(turn)

    def leave_section(self, turn: TurnId) -> None:
        """End it."""
        self.session.leave_section(turn, self.now)
        self.flush()

    def cleaned_up(self, turn: TurnId) -> None:
        """Let the cleanup of a cancelled turn be over."""
        self.session.cleaned_up(turn, self.now)
        self.flush()

    # --- what can be seen ------------------------------------------------------------------------

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def types(self, start: int = 0) -> list[str]:
        """Return the types of the events from a position on."""
        return [str(type(event).__struct_config__.tag) for event in self.events[start:]]

    def mark(self) -> int:
        """Return a position for `types` and for slices of `events`."""
        return len(self.events)

    def end_of(self, turn: TurnId) -> TurnEnded:
        """Return the one end of a turn."""
        ends = [event for event in self.of(TurnEnded) if event.turn_id == turn]
        assert len(ends) == 1, f"expected one end of {turn}, got {ends}"
        return ends[0]

    def opened(self) -> SessionOpened:
        """Return the last `session.opened`."""
        return self.of(SessionOpened)[-1]

    def numbers(self) -> list[int]:
        """Return the numbers that the client saw, in the order of their arrival."""
        return [event.seq for event in self.events if isinstance(event, Numbered) and event.seq]

    def started(self) -> list[TurnId]:
        """Return the turns that the host was asked to start."""
        return [command.turn_id for command in self.commands if isinstance(command, StartTurn)]

    def cancelled(self) -> list[TurnId]:
        """Return the turns that the host was asked to cancel."""
        return [command.turn_id for command in self.commands if isinstance(command, CancelTurn)]

    def heard_by_next(self, turn: TurnId) -> list[dict[str, Any]]:
        """Return the messages that the agent of this turn gets."""
        return self.session.history(turn).messages()
