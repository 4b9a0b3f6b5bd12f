"""Interfaces between the hosts of sessions and the sockets above them.

Imports go only downwards: a host uses its connections through these few methods.

A `Wire` takes frames down. There are four: the transport under uvicorn (`TransportWire`), plain ASGI for
every other server (`AsgiWire`), the response to an HTTP request (`EventStreamWire`), and an in-memory
network in simulations. A `Receiver` takes messages up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

from bargein_protocol import Code, TurnId

from ..agent import Agent, Output, SessionContext
from ..core.session import Session
from ..settings import Settings
from ..telemetry import SessionTelemetry
from .hearing.ears import Ears
from .hearing.session_ear import SessionEar
from .lease import Lease
from .outside_history import OutsideHistory, SessionHistory
from .pacing import FlushScheduler, TimeSlicer
from .threads import AuthorThreads

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Writable(Protocol):
    """A socket that takes whole frames."""

    @property
    def writable(self) -> bool:
        """Whether output may be written: the buffer is below its mark."""
        ...

    def write(self, frames: Sequence[bytes]) -> None:
        """Hand frames over in one write; never waits."""
        ...


class ClientConnection(Protocol):
    """The connection that drives a session.

    Attributes:
        number: A newer connection has a higher one.
        kept: Whether a store keeps a session that it opens.
    """

    number: int
    kept: bool

    @property
    def wire(self) -> Writable:
        """The socket."""
        ...

    def write_out(self) -> None:
        """Write the frames that the core has for the client."""
        ...

    def hand_over(self, frames: list[bytes]) -> None:
        """Write frames immediately, past a full buffer too; never raises."""
        ...

    def close(self, code: Code) -> None:
        """End the connection with a code."""
        ...

    def replaced(self) -> None:
        """End the connection because a newer one drives the session."""
        ...


class Follower(Protocol):
    """A connection that only reads a session."""

    def writable_again(self) -> None:
        """Write the new frames."""
        ...

    def drive(self) -> bool:
        """Drive the session, which has no driver; return False to go on reading."""
        ...

    def close(self, code: Code) -> None:
        """End the stream with a code after the last frame of the log."""
        ...


class Closable(Protocol):
    """An event stream that must be closed when the server stops."""

    def close(self, code: Code) -> None:
        """End the stream with a code."""
        ...


class RunnerHost(Protocol):
    """The parts of a session's host that the task of a turn uses.

    Attributes:
        core: The session; called through `act`.
        loop: The event loop.
        settings: The limits.
        time_slicer: Limits agents that never suspend.
        telemetry: Telemetry of the session.
    """

    core: Session
    settings: Settings
    loop: asyncio.AbstractEventLoop
    time_slicer: TimeSlicer
    telemetry: SessionTelemetry

    @property
    def lease(self) -> Lease | None:
        """The session's hold on the store, if any."""
        ...

    @property
    def ear(self) -> SessionEar | None:
        """The ear of the session; None on a server without one."""
        ...

    @property
    def history(self) -> SessionHistory | None:
        """The session's history outside, if any."""
        ...

    @property
    def view(self) -> SessionContext:
        """View of the session for its agents."""
        ...

    @property
    def agent(self) -> Agent:
        """The agent that answers."""
        ...

    @property
    def full(self) -> bool:
        """Whether the current turn's agent must not be pulled."""
        ...

    def act(self, ask: Callable[[*Ts, float], T], *args: *Ts) -> T:
        """Call the core, then write its frames and carry out its commands."""
        ...

    def send_output(self, turn_id: TurnId, output: Output | None, now: float) -> bool | None:
        """Write output of a turn; return whether the agent may be pulled.

        None means that the fence is closed.
        """
        ...

    async def pullable(self) -> None:
        """Wait until the agent may be pulled again, or a turn ended."""
        ...

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that outlives its turn."""
        ...

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that does not end."""
        ...

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a blocking function in a thread of the session."""
        ...

    def runner_ended(self, turn_id: TurnId) -> None:
        """Record that a turn's task has ended or was abandoned."""
        ...

    def http_client(self) -> httpx2.AsyncClient:
        """Return the server's HTTP client."""
        ...


class HostRegistry(Protocol):
    """The parts of the session registry that a session's host uses.

    Attributes:
        agent: The agent that answers.
        settings: The limits.
        loop: The event loop.
        time_slicer: Limits agents that never suspend.
        flush_scheduler: Spreads the writes of many sessions.
        context: Every turn's context is a copy of it.
        abandoned: Tasks of turns that did not end after two cancels.
        background: Tasks that outlive their turns.
        history: The application's own history; None without one.
        ears: Ears of the server; None for one that does not hear.
    """

    agent: Agent
    settings: Settings
    loop: asyncio.AbstractEventLoop
    time_slicer: TimeSlicer
    flush_scheduler: FlushScheduler
    context: Context
    abandoned: set[asyncio.Task[Any]]
    background: set[asyncio.Task[Any]]
    history: OutsideHistory | None
    ears: Ears | None

    @property
    def threads(self) -> AuthorThreads:
        """Threads for blocking functions of authors."""
        ...

    def http_client(self) -> httpx2.AsyncClient:
        """Return the one HTTP client of the server."""
        ...

    def detached(self, host: Any) -> None:
        """Record that the client of a session is away."""
        ...

    def weigh(self, host: Any) -> None:
        """Count a session's memory."""
        ...

    def forget(self, host: Any) -> None:
        """Drop a session that has ended."""
        ...


# Bytes in a transport's buffer above which no more output is written. The mark is low because an
# interrupt purges output in the core, but not output in the transport.
HIGH_WATER = 4096


class Wire(Protocol):
    """One socket that takes whole frames.

    Attributes:
        writable: Whether output may be written: the buffer is below its mark. Answers are written past
            the mark.
    """

    @property
    def writable(self) -> bool:
        """Whether output may be written."""
        ...

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames, in one write if possible; return immediately.

        After the connection was lost this does nothing.
        """
        ...

    def close(self, code: Code) -> None:
        """Start the closing handshake, after everything that was written."""
        ...

    def abort(self) -> None:
        """Drop the connection and the frames that were not sent."""
        ...


class Writer(Protocol):
    """Writer of a wire: a connection that drives or follows a session."""

    def writable_again(self) -> None:
        """Continue writing."""
        ...

    def disconnected(self) -> None:
        """Record that the peer is gone."""
        ...


class Receiver(Writer, Protocol):
    """Writer of a wire that takes messages as well."""

    def receive(self, frame: bytes, text: bool) -> None:
        """Take a whole message, in the callback that read it."""
        ...

    def hung_up(self) -> None:
        """Record that the wire takes no more output; `disconnected` follows."""
        ...


class Gate(Protocol):
    """Wire that keeps in an attribute whether output may be written."""

    writable: bool
