"""Connections in memory that delay, split, choke, drop and cut: the simulation's `Wire` and `Channel`.

A connection has two directions. In each, frames come in order, some time after they were sent, several
at once or one by one. Towards the client there are three places where a frame can wait, as there are in
earnest: the transport's buffer (`SimulatedWire.backlog`), the network, and the client's own buffer,
which fills when the client does not read. A cut loses what is under way from some frame on.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeVar

from msgspec import Struct

import bargein_protocol as bp
from bargein_protocol import JSON, Code, DecodeError
from bargein_protocol.errors import INTERNAL
from bargein_server.hosting.pacing import LATE_S, Deferred, FlushScheduler
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.transport.connection import Connection

from .line import SimulatedLine
from .loop import SimulatedLoop
from .oracle import Oracle
from .witness import Witness

T = TypeVar("T")

Cut = Literal["reset", "silence"]
"""How a connection breaks: both ends learn of it soon, or neither does."""

CLOSE_S = 10.0
"""How long the server waits for the answer to its close frame."""


class Weather(Struct):
    """What a network is like.

    Args:
        delay_s: The longest delay of a frame, in seconds.
        window: Bytes that may be under way to a client.
        high_water: Bytes in the transport's buffer above which it is not writable.
        unread: Frames that a client's own buffer holds.
        split: How likely it is that what came together is found in two polls.
        defers: How likely it is that text waits for that of other sessions.
    """

    delay_s: float
    window: int
    high_water: int
    unread: int
    split: float
    defers: float


class SimulatedWire:
    """The server's end of a connection (`hosting.ports.Wire`)."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.backlog = 0
        self.past_full = 0
        self.wrote_in = 0
        self.paused = False
        self.closed = False

    @property
    def writable(self) -> bool:
        """Whether the buffer is below its mark."""
        return not self.paused

    def write(self, frames: Sequence[bytes]) -> None:
        """Put frames into the buffer."""
        self._link.oracle.expect(not self.closed, "written after the close")
        for frame in frames:
            self._link.written(frame)
        if not self._link.dead:
            self._link.send_down(frames)

    def close(self, code: Code) -> None:
        """Put a close frame behind everything."""
        if not self.closed:
            self.closed = True
            self._link.send_close(code)

    def abort(self) -> None:
        """Drop the connection."""
        self.closed = True
        self._link.aborted()


class SimulatedFlushScheduler(FlushScheduler):
    """Defers text by chance, in place of a busy loop's clock."""

    def __init__(self, loop: SimulatedLoop, chance: random.Random, weather: Weather) -> None:
        super().__init__(loop)
        self._simulated, self._chance, self._weather = loop, chance, weather

    def defers(self, session: Deferred, now: float) -> bool:
        """Return whether a session's text must wait; then `write_deferred` is called soon."""
        if self._chance.random() >= self._weather.defers:
            return False
        self._simulated.arrive(now + self._chance.random() * LATE_S, lambda: _write(session))
        return True


class Link:
    """One connection, both of its ends.

    Attributes:
        wire: The server's end.
        line: The client's end.
        dead: The server's socket is gone.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        chance: random.Random,
        weather: Weather,
        oracle: Oracle,
        sessions: SessionRegistry,
        witness: Witness,
    ) -> None:
        self.oracle = oracle
        self.dead = False
        self.line = SimulatedLine(self, loop, witness)
        self.wire = SimulatedWire(self)
        self._loop = loop
        self._chance = chance
        self._weather = weather
        self._sessions = sessions
        self._name = witness.name
        self._severed = False
        self._buffer: deque[bytes | Code] = deque()
        self._down: deque[tuple[float, bytes | Code]] = deque()
        self._flight = 0
        self._waking = False
        self._up: deque[tuple[float, bytes | None]] = deque()
        self._told_at: float | None = None
        self._live = False
        self._ends_next: bp.TurnId | None = None
        self.connection = Connection(self.wire, JSON, sessions)

    def _delay(self) -> float:
        return self._chance.random() ** 3 * self._weather.delay_s

    # --- down: from the server to the client ------------------------------------------------------

    def written(self, frame: bytes) -> None:
        """Hold what the server writes against the contract, also when it reaches nobody."""
        oracle, event = self.oracle, JSON.decode_server(frame)
        oracle.trace.note(self._name, "is written", frame)
        if self._ends_next is not None:
            ends = isinstance(event, bp.TurnEnded) and event.turn_id == self._ends_next
            oracle.expect(ends, f"{type(event).__name__} stands between an interrupt's answer and the end")
            self._ends_next = None
        if isinstance(event, bp.SessionOpened):
            oracle.told_token(event.session_id, event.token)
            self._live = not event.resumed
        elif isinstance(event, bp.ReplayDone):
            self._live = True
        elif isinstance(event, bp.InterruptResult) and event.outcome == "interrupted" and not event.duplicate:
            self._ends_next = event.turn_id if self._live else None
        self.check()
        if self.connection._host is not None:
            self._told_at = self._loop.time()

    def send_down(self, frames: Sequence[bytes]) -> None:
        """Take frames into the transport's buffer."""
        self._buffer.extend(frames)
        wire = self.wire
        size = sum(map(len, frames))
        if wire.paused:
            # Each step's answers are written whole; with the first byte too many the connection is aborted.
            most, same_step = (
                self._sessions.settings.max_queued_answer_bytes,
                wire.wrote_in == self._loop.steps,
            )
            self.oracle.expect(
                same_step or wire.past_full <= most, f"{wire.past_full} bytes wait past a full buffer"
            )
            wire.past_full += size
            wire.wrote_in = self._loop.steps
        wire.backlog += size
        self._transmit()
        wire.paused = wire.paused or wire.backlog > self._weather.high_water

    def send_close(self, code: Code) -> None:
        """Take a close frame into the transport's buffer."""
        self.oracle.trace.note(self._name, "is closed", code.name.encode())
        self.oracle.expect(code is not INTERNAL, f"{self._name} met a fault of the server")
        if not self.dead:
            self._buffer.append(code)
            self._transmit()
            self._loop.arrive(self._loop.time() + CLOSE_S, self._lose)

    def _transmit(self) -> None:
        """Move what there is room for from the buffer into the network."""
        now, buffer = self._loop.time(), self._buffer
        while buffer and self._flight < self._weather.window:
            item = buffer.popleft()
            if isinstance(item, bytes):
                self.wire.backlog -= len(item)
                self._flight += len(item)
            due = max(now + self._delay(), self._down[-1][0] if self._down else 0.0)
            self._down.append((due, item))
        self.wake()

    def wake(self) -> None:
        """Have the next frame arrive when it is due."""
        if self._down and not self._waking and not self._severed and self.line.has_room:
            self._waking = True
            self._loop.arrive(self._down[0][0], self._arrive)

    def _arrive(self) -> None:
        self._waking = False
        now = self._loop.time()
        while self._down and self._down[0][0] <= now and self.line.has_room and not self._severed:
            _, item = self._down.popleft()
            if isinstance(item, bytes):
                self._flight -= len(item)
            self.line.put(item)
            if self._chance.random() < self._weather.split:
                break
        self._transmit()
        if self.wire.paused and self.wire.backlog <= self._weather.high_water // 4:
            self.wire.paused, self.wire.past_full = False, 0
            if not self.dead:
                self.connection.writable_again()

    # --- up: from the client to the server --------------------------------------------------------

    def send_up(self, frame: bytes | None) -> None:
        """Take a frame into the network; None is the end."""
        due = max(self._loop.time() + self._delay(), self._up[-1][0] if self._up else 0.0)
        self._up.append((due, frame))
        self._loop.arrive(due, self._arrive_up)

    def _arrive_up(self) -> None:
        if self._severed or not self._up:
            return
        _, frame = self._up.popleft()
        if frame is None:
            self._lose()
        elif not self.dead:
            self.read(frame)

    def read(self, frame: bytes) -> None:
        """Have the server read a frame now."""
        connection, text = self.connection, not frame.startswith(b"\x00")
        self.oracle.trace.note(self._name, "is read", frame)
        attached, closing = connection._host, connection._closing
        connection.receive(frame, text)
        if connection._host is None or closing or connection._closing or not text:
            return
        try:
            event = JSON.decode_client(frame)
        except DecodeError:
            return
        if attached is not None or not isinstance(event, bp.SessionOpen):
            self.oracle.confirmed(connection._host.core.identity.session_id)

    def check(self) -> None:
        """Hold the silence of the server against its bound."""
        if self._told_at is not None and not self.connection._closing and not self.dead:
            silence, bound = self._loop.time() - self._told_at, self._sessions.settings.heartbeat_s + 0.01
            self.oracle.expect(silence <= bound, f"{self._name} is told nothing for {silence} s")

    # --- ends -------------------------------------------------------------------------------------

    def cut(self, how: Cut) -> None:
        """Break the connection; what is under way is lost from some frame on."""
        if self._severed:
            return
        self.oracle.trace.note(self._name, "is cut", how.encode())
        self._severed = True
        now = self._loop.time()
        self._loop.arrive(now + self._delay(), partial(self._last_words, self._survivors(self._up)))
        for leaving in self._survivors(self._down):
            self.line.put(leaving)
        soon = how == "reset"
        later = self._weather.delay_s if soon else self._sessions.settings.stalled_s
        self._loop.arrive(now + self._weather.delay_s + self._chance.random() * later, self._lose)
        if soon:
            self._loop.arrive(now + self._delay(), self.line.lose)

    def _survivors(self, queue: deque[tuple[float, T]]) -> list[T]:
        kept = [item for _, item in queue][: self._chance.randint(0, len(queue))]
        queue.clear()
        return kept

    def _last_words(self, frames: list[bytes | None]) -> None:
        for frame in frames:
            if frame is not None and not self.dead:
                self.read(frame)

    def aborted(self) -> None:
        """The server drops the connection: its end is told in a later step, the client learns of it soon."""
        self._buffer.clear()
        self._loop.arrive(self._loop.time(), self._lose)
        if not self._severed:
            self._loop.arrive(self._loop.time() + self._delay(), self.line.lose)

    def hung_up(self) -> None:
        """The client drops the connection."""
        if not self._severed:
            self.send_up(None)
            self._down.clear()
            self._buffer.clear()

    def _lose(self) -> None:
        """The server's socket is gone."""
        if not self.dead:
            self.dead = True
            self.wire.closed = True
            self._buffer.clear()
            self.oracle.trace.note(self._name, "is lost")
            self.connection.disconnected()
            if not self._severed:
                self._severed = True
                self._loop.arrive(self._loop.time() + self._delay(), self.line.lose)


def _write(session: Deferred) -> None:
    session.write_deferred()
