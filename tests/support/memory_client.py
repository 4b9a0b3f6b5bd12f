"""A client on a wire that exists only in memory: the real server without a socket.

    line = Line(sessions)
    line.ask("hello")
    await line.until("text.delta")

The wire takes frames like a transport does: in the step in which they are written. `line.blocked`
makes its buffer full, `line.drop()` loses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from bargein_protocol import (
    JSON,
    ClientEvent,
    Code,
    InputAccepted,
    InputId,
    InputQueued,
    InputText,
    Interrupt,
    InterruptId,
    ServerEvent,
    TextDelta,
    TurnEnded,
    TurnId,
    UnknownEvent,
)
from bargein_server import Agent, Settings
from bargein_server.guard.admission import Caller
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.transport.connection import Connection
from waiting import until


class FakeWire:
    """A wire in memory (`hosting.ports.Wire`).

    Attributes:
        blocked: Whether its buffer is full; then what is written adds to the backlog.
        closed: The code that it was closed with.
        aborted: Whether it was dropped.
        writes: The sizes of the writes, in frames.
    """

    def __init__(self) -> None:
        self.blocked = False
        self.backlog = 0
        self.closed: Code | None = None
        self.aborted = False
        self.events: list[ServerEvent | UnknownEvent] = []
        self.writes: list[int] = []
        self._late: list[bytes] = []

    @property
    def writable(self) -> bool:
        return not self.blocked

    def write(self, frames: Sequence[bytes]) -> None:
        assert self.closed is None, "written after the close"
        self.writes.append(len(frames))
        if self.blocked:
            self.backlog += sum(map(len, frames))
        self.events += map(JSON.decode_server, frames)

    def close(self, code: Code) -> None:
        self.closed = code

    def abort(self) -> None:
        self.aborted = True


class Line:
    """A client on a fake wire; see the module."""

    _ids = count(1)

    def __init__(self, sessions: SessionRegistry, address: str = "") -> None:
        self.sessions = sessions
        self.wire = FakeWire()
        caller = Caller(None, True, lambda credential: None, address)
        self.connection = Connection(self.wire, JSON, sessions, caller)

    @property
    def events(self) -> list[ServerEvent | UnknownEvent]:
        return self.wire.events

    def types(self) -> list[str]:
        return [str(type(event).__struct_config__.tag) for event in self.events]

    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, TextDelta)]

    def ends(self) -> list[TurnEnded]:
        return [event for event in self.events if isinstance(event, TurnEnded)]

    def send(self, event: ClientEvent) -> None:
        self.connection.receive(JSON.encode(event), True)

    def ask(self, text: str = "hello") -> TurnId:
        """Send an input; returns the turn that it got."""
        input_id = InputId(f"i{next(self._ids)}")
        before = len(self.events)
        self.send(InputText(id=input_id, text=text))
        self.flush()
        answers = [event for event in self.events[before:] if isinstance(event, (InputAccepted, InputQueued))]
        turns = [event.turn_id for event in answers if event.input_id == input_id]
        assert len(turns) == 1, f"expected one answer to the input, got {answers}"
        return turns[0]

    def flush(self) -> None:
        """Do now what would be done at the end of the loop's iteration."""
        host = self.connection._host
        assert host is not None
        host.flush()

    def interrupt(self, turn: TurnId) -> None:
        self.send(Interrupt(id=InterruptId(f"x{next(self._ids)}"), turn_id=turn))

    def block(self, blocked: bool = True) -> None:
        """Make the wire's buffer full, or drain it."""
        self.wire.blocked = blocked
        if not blocked:
            self.wire.backlog = 0
            self.connection.writable_again()

    def drop(self) -> None:
        """Lose the connection."""
        self.connection.disconnected()

    async def until(self, kind: str, times: int = 1) -> None:
        """Wait until so many events of a type have come."""
        await until(lambda: self.types().count(kind) >= times, f"{times} {kind}, got {self.types()}")


def serve(agent: Agent, **settings: object) -> SessionRegistry:
    """Return the sessions of an agent."""
    return SessionRegistry(agent, Settings(**{"drain_s": 0.0, **settings}))  # type: ignore[arg-type]
