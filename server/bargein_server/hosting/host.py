"""Host of one session: owns its core, connection, turn tasks and timer.

`act` calls the core, writes its frames and carries out its commands in the same step, before any other
callback (contract 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from bargein_protocol import AudioDelta, Code, SessionClose, TurnId
from bargein_protocol.errors import CLOSED, RESTART

from ..agent import Agent, Output
from ..core import CancelTurn, CloseConnection, Command, DeliverAnswer, Expire, StartTurn
from ..core.author_code import TEXT_PIECE
from ..core.principal import Principal
from ..core.session import Session
from ..core.text_run import TextRun
from ..telemetry import SessionTelemetry
from .lease import Lease
from .ports import ClientConnection, Follower, HostRegistry, Writable
from .runner import Runner
from .session_view import SessionView
from .viewer_token import ViewerToken

if TYPE_CHECKING:
    import httpx2

# Output that follows a flush sooner than this waits for the end of the loop's iteration, so that single
# tokens go out immediately and tokens in quick succession go out together.
FLUSH_GAP_S = 200e-6

# Pieces of text that may wait for the flush scheduler; more are written immediately.
MAX_DEFERRED = 16

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SessionHost:
    """Host of one session.

    Args:
        core: The session.
        registry: Registry of all sessions.
        principal: The authenticated client; None without authentication.
        telemetry: Telemetry of the session.
        owner: The client whose share it uses; empty for a client that cannot be told from others.
        lease: Its hold on the store; None for a session that is not kept.

    Attributes:
        lease: Its hold on the store.
        owner: The client whose share it uses.
        core: The session; called through `act`.
        view: View of the session for its agents.
        connection: The connection that drives the session; None while the client is away.
        newest: Number of the newest connection that has driven it.
        followers: Connections that only read it.
        kept_bytes: Bytes that it kept when it was weighed last.
        telemetry: Telemetry of the session.
        settings: The limits.
        viewer_token: Secret of its cookie.
        history: Its history outside; None without one.
        ear: Its ear; None where the server does not hear.
    """

    def __init__(
        self,
        core: Session,
        registry: HostRegistry,
        principal: Principal | None,
        telemetry: SessionTelemetry,
        owner: str = "",
        lease: Lease | None = None,
    ) -> None:
        self.lease = lease
        if lease is not None:
            lease.host = self
        self.owner = owner
        self.core = core
        self.telemetry = telemetry
        self.view = SessionView(core, principal)
        self.connection: ClientConnection | None = None
        self.newest = 0
        self.followers: set[Follower] = set()
        self.settings = registry.settings
        self.loop = registry.loop
        self.time_slicer = registry.time_slicer
        self.kept_bytes = 0
        self._registry = registry
        self._scheduler = registry.flush_scheduler
        self._run: TextRun | None = None  # while it is open, text goes directly to the wire
        self._wire: Writable | None = None  # the wire of `_run`
        self._runners: dict[TurnId, Runner] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = inf
        self._flushed_at = 0.0
        self._flush_due = False
        self._close: Code | None = None
        self.viewer_token = ViewerToken()
        self.history = registry.history.of(self) if registry.history is not None else None
        self.ear = registry.ears.ear_of(self) if registry.ears is not None else None

    @property
    def agent(self) -> Agent:
        """The agent that answers."""
        return self._registry.agent

    @property
    def full(self) -> bool:
        """Whether the current turn's agent must not be pulled."""
        return self.core.full

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that have neither ended nor been abandoned."""
        return [runner.task for runner in self._runners.values() if runner.task is not None]

    def http_client(self) -> httpx2.AsyncClient:
        """Return the server's HTTP client."""
        return self._registry.http_client()

    # --- followers -------------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """Add a follower; from now on text goes through the core."""
        self._release_run()
        self.followers.add(follower)

    # --- calls of the core -----------------------------------------------------------------------

    def act(self, ask: Callable[[*Ts, float], T], *args: *Ts) -> T:
        """Call the core, then write its frames and carry out its commands.

        Args:
            ask: A method of the core; its last parameter is the time.
            args: Its other arguments.
        """
        answer = ask(*args, self.loop.time())
        self.flush()
        return answer

    def act_soon(self, ask: Callable[[*Ts, float], T], *args: *Ts) -> None:
        """Call the core and carry out its commands; write after the iteration.

        This is for an input to an idle session: an agent that answers immediately does so in the same
        iteration of the loop, and its first output goes out in one write with `input.accepted`.
        """
        ask(*args, self.loop.time())
        for command in self.core.commands():
            self._carry_out(command)
        self._flush_soon()

    def flush(self) -> None:
        """Write frames, carry out commands, and let the agent be pulled."""
        connection, core = self.connection, self.core
        if connection is not None:
            connection.write_out()
        for command in core.commands():
            self._carry_out(command)
        if self._close is not None:
            code, self._close = self._close, None
            if connection is not None:
                connection.close(code)
        if self._waiters and not core.full:
            self._wake()
        if self.followers:
            for follower in tuple(self.followers):
                follower.writable_again()
        deadline = core.next_deadline()
        if deadline is None or deadline < self._timer_due:
            self._arm(deadline)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._flush_due = False
        if self._run is None or not self._run.open:  # else the ready frames went out with its first piece
            self._flushed_at = perf_counter()
            self.flush()
        else:
            self._arm(self.core.next_deadline())

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartTurn(turn_id):
                runner = self._runners[turn_id] = Runner(self, turn_id)
                runner.start(self._registry.context.copy())
            case CancelTurn(turn_id, reason):
                runner_or_none = self._runners.get(turn_id)
                if runner_or_none is not None:
                    runner_or_none.stop(reason)
                if self._waiters:
                    self._wake()
            case DeliverAnswer(turn_id, answer):
                runner_or_none = self._runners.get(turn_id)
                if runner_or_none is not None:
                    runner_or_none.tools.deliver(answer)
            case CloseConnection(code):
                self._close = code
            case Expire():
                self._registry.forget(self)
            case _:
                if self.ear is not None:
                    self.ear.carry_out(command)

    # --- output ----------------------------------------------------------------------------------

    def send_output(self, turn_id: TurnId, output: Output | None, now: float) -> bool | None:
        """Write output of a turn, immediately or after the loop's iteration.

        Output that follows other output quickly waits for the end of the iteration.

        Args:
            turn_id: The turn.
            output: The agent's output.
            now: `time.perf_counter()`.

        Returns:
            Whether the agent may be pulled immediately; None when the fence is closed: this output and
            all later output is dropped.
        """
        follows = now - self._flushed_at <= FLUSH_GAP_S
        if not follows:
            self._flushed_at = now
            if type(output) is str and 0 < len(output) <= TEXT_PIECE:
                run, wire = self._run, self._wire  # both are set, or neither is
                if run is None or wire is None or not run.open or run.turn_id != turn_id:
                    if self._open_run(turn_id, output):
                        return True
                elif wire.writable and len(run.deferred) < MAX_DEFERRED:
                    time = self.loop.time()
                    # Among many sessions only the first text of a millisecond is written immediately; the
                    # others wait in the run, without a number.
                    if run.deferred or self._scheduler.defers(self, time):
                        run.deferred = [*run.deferred, output]
                        return True
                    frame = run.append(output, time)
                    if frame is not None:
                        wire.write((frame,))
                        return True
        core = self.core
        if not core.emit(turn_id, output, self.loop.time()):
            return None
        if self.ear is not None and type(output) is AudioDelta:
            self.ear.spoke(output.audio)
        if follows:
            self._flush_soon()
        else:
            self.flush()
        return not core.full

    def _open_run(self, turn_id: TurnId, text: str) -> bool:
        """Open a run with its first piece; return False if `emit` is needed."""
        connection, output = self.connection, self.core.output
        if connection is None or self.followers or not connection.wire.writable:
            return False
        run = output.open_text(turn_id)
        if run is None:
            return False
        self._run, self._wire = run, connection.wire
        frame = run.append(text, self.loop.time())
        if frame is None:
            return False
        connection.wire.write([*output.take_ready(), frame])
        return True

    def write_deferred(self) -> bool:
        """Write the deferred text; return whether there was any."""
        run, wire = self._run, self._wire
        if run is None or wire is None or not run.deferred:
            self.flush()  # the text has returned to the turn's queue, or was purged
            return False
        if wire.writable and (frames := run.append_deferred(self.loop.time())):
            wire.write(frames)
        if run.deferred:  # the wire or the records have no room
            self._release_run()
            self.flush()
        return True

    def _release_run(self) -> None:
        self._run = self._wire = None
        self.core.output.settle()

    # --- waiting ---------------------------------------------------------------------------------

    async def pullable(self) -> None:
        """Wait until the agent may be pulled again, or a turn ended.

        The caller checks `full` again afterwards.
        """
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
        """Record that a connection is gone; a replaced one has no effect."""
        if self.connection is connection:
            self.connection = None
            self._release_run()  # a session without its client keeps no reference to the socket
            self.telemetry.detached()
            self._registry.detached(self)
            self.act(self.core.detach)
            any(follower.drive() for follower in tuple(self.followers))  # at most one of them does

    # --- turns -----------------------------------------------------------------------------------

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a blocking function in a thread of the session."""
        return self._registry.threads.run(self.core.identity.session_id, function)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a task that outlives its turn, until it ends."""
        self._registry.background.add(task)
        task.add_done_callback(self._registry.background.discard)

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a task that does not end, for as long as it runs."""
        self._registry.abandoned.add(task)
        task.add_done_callback(self._registry.abandoned.discard)

    def runner_ended(self, turn_id: TurnId) -> None:
        """Record that a turn's task has ended or was abandoned (contract 5)."""
        del self._runners[turn_id]
        self._registry.weigh(self)
        self.telemetry.task_over(turn_id)
        if self.history is not None:
            self.history.save(turn_id)
        self.act(self.core.cleaned_up, turn_id)

    # --- time ------------------------------------------------------------------------------------

    def _arm(self, deadline: float | None) -> None:
        """Set the timer for `tick`.

        A timer that is set too early is kept, because it sets itself anew.
        """
        if deadline is not None and deadline >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_due = None, inf
        if deadline is not None:
            # The time is kept here: for a time in the past uvloop returns a handle without `when()`.
            self._timer, self._timer_due = self.loop.call_at(deadline, self._tick), deadline

    def _tick(self) -> None:
        self._timer, self._timer_due = None, inf
        for turn_id, runner in self._runners.items():
            if until := runner.model_works_until:
                self.core.model_works(turn_id, until)
        self.act(self.core.tick)

    def taken(self, deleted: bool) -> None:
        """End the session: another server has it, or it was deleted."""
        if self.connection is not None:
            self.connection.close(CLOSED if deleted else RESTART)
        self.act(self.core.receive, SessionClose())

    def forgotten(self) -> None:
        """Close the followers and stop the timer: the session is over."""
        for follower in tuple(self.followers):
            follower.close(CLOSED)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
