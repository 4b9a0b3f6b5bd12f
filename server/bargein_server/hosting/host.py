"""A session that lives: its core, the connection that drives it, the tasks of its turns, its timer.

Whoever calls the core calls `changed` in the same step, so that what the core decided is written and
done before anything else happens (contract 3).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bargein_protocol import Code, SessionId, TurnId
from bargein_protocol.errors import CLOSED

from ..agent import Agent, Output
from ..core.commands import CancelTurn, CloseConnection, Command, DeliverAnswer, StartTurn
from ..core.session import Session
from ..core.utterance import Utterance
from ..settings import Settings
from ..telemetry import SessionTelemetry
from .ports import ClientConnection, Follower, Writable
from .runner import Runner

if TYPE_CHECKING:
    import httpx2

    from .registry import SessionRegistry

# Output that follows a flush sooner than this waits for the end of the loop's iteration, so that
# tokens which trickle go out at once and tokens which gush go out together.
FLUSH_GAP_S = 200e-6


class Context:
    """A session as its agents see it (`agent.SessionContext`)."""

    __slots__ = ("_core", "principal", "state")

    def __init__(self, core: Session, principal: str | None) -> None:
        self._core = core
        self.principal = principal
        self.state: dict[str, Any] = {}

    @property
    def id(self) -> SessionId:
        """The public id."""
        return self._core.identity.session_id

    @property
    def metadata(self) -> dict[str, Any]:
        """What clients sent with `session.update`, merged."""
        return self._core.metadata


class SessionHost:
    """See the module.

    Attributes:
        connection: The one that drives the session; None while the client is away.
        newest: The number of the newest one that has driven it.
        followers: Those that only read it.
        telemetry: Is told what happens.
        utterance: What is being said and the core does not know yet; `core` lets it know.
    """

    def __init__(
        self, core: Session, sessions: SessionRegistry, principal: str | None, telemetry: SessionTelemetry
    ) -> None:
        self._core = core
        self.utterance: Utterance | None = None
        self._wire: Writable | None = None  # on which it goes out
        self.telemetry = telemetry
        self.context = Context(core, principal)
        self.connection: ClientConnection | None = None
        self.newest = 0
        self.followers: set[Follower] = set()
        self.loop = sessions.loop
        self.time_slicer = sessions.time_slicer
        self._sessions = sessions
        self._runners: dict[TurnId, Runner] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._flushed_at = 0.0
        self._flush_due = False
        self._close: Code | None = None
        self._viewer_token = b""

    @property
    def core(self) -> Session:
        """The core. What is being said is entered first: nothing may ask it before that."""
        if self.utterance is not None:
            self._enter()
        return self._core

    @property
    def full(self) -> bool:
        """Whether the current turn's agent is not to be pulled."""
        return self.utterance is None and self._core.full

    def new_viewer_token(self) -> str:
        """Return a secret for a browser, which lets it follow and interrupt; the one before is void.

        It is no token: it cannot resume, and outlives tokens. Only who was let in as the session's
        principal is given one, so that it proves that, too.
        """
        viewer_token = secrets.token_urlsafe(32)
        self._viewer_token = sha256(viewer_token.encode()).digest()
        return viewer_token

    def knows_viewer_token(self, viewer_token: str) -> bool:
        """Whether this is the badge that was given last."""
        return hmac.compare_digest(
            sha256(viewer_token.encode("utf-8", "replace")).digest(), self._viewer_token
        )

    @property
    def agent(self) -> Agent:
        """The agent that answers."""
        return self._sessions.agent

    @property
    def settings(self) -> Settings:
        """The limits."""
        return self._sessions.settings

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of turns that have not ended and are not abandoned."""
        return [runner.task for runner in self._runners.values() if runner.task is not None]

    def http_client(self) -> httpx2.AsyncClient:
        """Return the server's HTTP client."""
        return self._sessions.http_client()

    def follow(self, following: Follower) -> None:
        """Let somebody read along. What is said is entered word by word from now on: it is read there."""
        self._enter()
        self.followers.add(following)

    def _enter(self) -> None:
        if self.utterance is not None:
            # The wire is let go, too: a session whose client is away does not hold on to the socket.
            utterance, wire, self.utterance, self._wire = self.utterance, self._wire, None, None
            # What the wire has put off is not written: it waits where an interrupt purges it (contract 2).
            late = wire.take_back() if wire is not None and wire.late else 0
            unsaid = utterance.take_back(late) if late else ()
            self._core.delivery.enter(utterance)
            for text in unsaid:
                self._core.emit(utterance.turn_id, text, utterance.said_at)
                self._flush_soon()

    # --- in the step in which something happened --------------------------------------------------

    def changed(self) -> None:
        """Write and do what the core decided; whoever called the core calls this in the same step."""
        self.flush()
        self._arm()

    def changed_soon(self) -> None:
        """Do what the core decided, and write at the end of the loop's iteration.

        For an input that nothing stands before: an agent that answers at once does so in the same
        iteration, and then its first words leave in one write with `input.accepted`.
        """
        for command in self.core.commands():
            self._carry_out(command)
        self._flush_soon()

    def say(self, turn_id: TurnId, output: Output | None, now: float) -> bool | None:
        """Write output of a turn now or, when it gushes, at the end of the loop's iteration.

        Args:
            turn_id: The turn.
            output: What its agent yielded.
            now: `time.perf_counter()`.

        Returns:
            Whether the agent may be pulled on at once; None when the fence is closed: the output is
            dropped, and so will be all that follows.
        """
        gushes = now - self._flushed_at <= FLUSH_GAP_S
        if not gushes:
            self._flushed_at = now
            if type(output) is str:
                utterance, wire = self.utterance, self._wire  # one is there when the other is
                if utterance is None or wire is None:
                    if self._begin_utterance(turn_id, output):
                        return True
                elif utterance.turn_id == turn_id and wire.writable:
                    time = self.loop.time()
                    frame = utterance.say(output, time)
                    if frame is not None:
                        wire.write_soon(frame, time)
                        return True
        core = self.core
        if not core.emit(turn_id, output, self.loop.time()):
            return None
        if not gushes:
            self.changed()
        else:
            self._flush_soon()
        return not core.full

    def _begin_utterance(self, turn_id: TurnId, text: str) -> bool:
        """Say the first piece of an utterance, in one write with what is ready; False if none can begin."""
        connection, delivery = self.connection, self._core.delivery
        if connection is None or self.followers or not connection.wire.writable:
            return False
        utterance, time = delivery.begin_utterance(turn_id), self.loop.time()
        frame = utterance.say(text, time) if utterance is not None else None
        if frame is None:
            return False
        self.utterance, wire = utterance, connection.wire
        self._wire = wire
        ready = delivery.take_ready()
        if ready:
            wire.write([*ready, frame])
        else:
            wire.write_soon(frame, time)
        return True

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._flush_due = False
        if self.utterance is None:
            self._flushed_at = perf_counter()
            self.changed()
        else:  # what was to be written left with its first piece
            self._arm()

    def flush(self) -> None:
        """Write what may be written, carry out the commands, and let pull."""
        connection, core = self.connection, self.core
        if connection is not None:
            connection.write_out()
        for command in core.commands():
            self._carry_out(command)
        if self._close is not None:
            code, self._close = self._close, None
            if connection is not None:
                connection.close(code)
        if self._waiters and not self.full:
            self._wake()
        if self.followers:
            for follower in tuple(self.followers):
                follower.writable_again()

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartTurn(turn_id):
                runner = self._runners[turn_id] = Runner(self, turn_id)
                runner.start(self._sessions.context.copy())
            case CancelTurn(turn_id, reason):
                runner_or_none = self._runners.get(turn_id)
                if runner_or_none is not None:
                    runner_or_none.stop(reason)
                self._wake()
            case DeliverAnswer(turn_id, answer):
                runner_or_none = self._runners.get(turn_id)
                if runner_or_none is not None:
                    runner_or_none.tools.deliver(answer)
            case CloseConnection(code):
                self._close = code
            case _:
                self._sessions.forget(self)

    # --- waiting ---------------------------------------------------------------------------------

    async def pullable(self) -> None:
        """Wait until the agent may be pulled again, or a turn ended; the caller asks the core again."""
        waiter = self.loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # --- connections -----------------------------------------------------------------------------

    def lost(self, connection: ClientConnection) -> None:
        """Take note that a connection is gone; an older one than the current changes nothing."""
        if self.connection is connection:
            self.connection = None
            self.telemetry.detached()
            self.core.detach(self.loop.time())
            self.changed()

    # --- turns -----------------------------------------------------------------------------------

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that outlives its turn, so that it is counted and not collected while it runs."""
        self._sessions.background.add(task)
        task.add_done_callback(self._sessions.background.discard)

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that does not end, so that it is counted and not collected while it runs."""
        self._sessions.abandoned.add(task)
        task.add_done_callback(self._sessions.abandoned.discard)

    def runner_ended(self, turn_id: TurnId) -> None:
        """Take note that a turn's task has ended or was abandoned (contract 5)."""
        del self._runners[turn_id]
        self.telemetry.task_over(turn_id)
        self.core.cleaned_up(turn_id, self.loop.time())
        self.changed()

    # --- time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Have `tick` called in time. A timer that is set too early is left alone: it sets itself anew."""
        deadline = self._core.next_deadline()
        if self._timer is not None:
            if deadline is not None and self._timer_due <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            # The time is kept here: uvloop gives a handle without `when()` for what is due already.
            self._timer, self._timer_due = self.loop.call_at(deadline, self._tick), deadline

    def _tick(self) -> None:
        self._timer = None
        self.core.tick(self.loop.time())
        self.changed()

    def forgotten(self) -> None:
        """Let nothing be due any more: the session is over."""
        for follower in tuple(self.followers):
            follower.close(CLOSED)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
