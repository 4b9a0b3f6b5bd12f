"""Limits on a WebSocket peer: its frames, its silence, its unread bytes.

`FrameCounter` counts every frame of every opcode, and is the only place that does. `websockets` bounds
the bytes of a message (`ws_max_size`) and of a control frame (125). It bounds neither the fragments of a
message, which may be empty, nor the number of pings, nor the pongs that wait for a peer that reads none
of them, nor the frames that a single read carries.

`Keepalive` finds peers that stand still while nothing is on its way that TCP would have to acknowledge.

`InFlight` caps the bytes that are on their way to a client. The write limits of the listening socket
bound the queues of this machine. The queues of the network are bounded by the sender alone, which counts
the bytes that its peer has not acknowledged. The cap costs throughput on lines with a long delay (at most
the cap per round trip), so it is meant for producers that are faster than the line.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from websockets.frames import Frame, Opcode

from bargein_protocol import Code
from bargein_protocol.errors import FLOODED, TOO_BIG

try:
    import fcntl
    import termios
except ImportError:  # Windows
    CAN_CAP = False
else:
    CAN_CAP = True
"""Whether the system counts the bytes in flight."""

_CONT, _PING, _TEXT = Opcode.CONT, Opcode.PING, Opcode.TEXT


WINDOW_S = 2.0
"""Seconds over which frames are counted."""


class FrameCounter:
    """Counter of one peer's frames, which joins the fragments of its messages.

    Args:
        max_pieces: Fragments per message.
        max_pong_bytes: Bytes that may wait in the transport of a peer that reads no pongs.
        max_per_s: Frames per second, on average of `WINDOW_S`.

    Attributes:
        frames: Frames of every opcode.
        pings: Pings among them.
        text: Whether the fragments are of a text message.
    """

    __slots__ = (
        "_max_pieces", "_max_pong_bytes", "_pieces", "_window", "_window_at", "_window_end",
        "frames", "pings", "text",
    )  # fmt: skip

    def __init__(self, max_pieces: int, max_pong_bytes: int, max_per_s: int) -> None:
        self.frames = 0
        self._window = self._window_end = int(WINDOW_S * max_per_s)
        self._window_at = monotonic()
        self.pings = 0
        self.text = False
        self._pieces: list[bytes] = []  # fragments of the incomplete message
        self._max_pieces = max_pieces
        self._max_pong_bytes = max_pong_bytes

    def take(self, frame: Frame) -> Code | None:
        """Count a frame; return the code to close with when it breaks a bound."""
        self.frames += 1
        if self.frames > self._window_end and self._too_fast():
            return FLOODED
        opcode = frame.opcode
        if opcode is _CONT:
            if len(self._pieces) >= self._max_pieces:
                return TOO_BIG
        elif opcode is _PING:
            self.pings += 1
        return None

    def _too_fast(self) -> bool:
        """Start a new window; return whether the last one was full too early."""
        now = monotonic()
        too_fast = now - self._window_at < WINDOW_S
        self._window_at, self._window_end = now, self.frames + self._window
        return too_fast

    @property
    def incomplete(self) -> bool:
        """Whether fragments of a message wait for the rest."""
        return bool(self._pieces)

    def assemble(self, frame: Frame) -> bytes | None:
        """Take a counted fragment; return the message that it completes."""
        if frame.opcode is not _CONT:
            self.text = frame.opcode is _TEXT
        self._pieces.append(bytes(frame.data))
        if not frame.fin:
            return None
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def too_many_pongs(self, buffered: int) -> bool:
        """Return whether a peer that does not read left too many bytes unread."""
        return buffered > self._max_pong_bytes

    @staticmethod
    def is_utf8(data: bytes) -> bool:
        """Return whether the payload of a text message is UTF-8."""
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True


class Pinged(Protocol):
    """Connection that is kept alive."""

    @property
    def reading(self) -> bool:
        """Whether frames of the peer are read, pongs included."""
        ...

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        ...

    def unanswered(self) -> None:
        """Drop a peer that did not answer in time."""
        ...


class Keepalive:
    """Ping timer of one connection, which runs until `stop`.

    Args:
        peer: The connection.
        interval_s: Seconds from one answer, or from the start, to the next ping.
        timeout_s: Seconds in which a ping must be answered; None for no bound.
    """

    __slots__ = ("_interval_s", "_loop", "_number", "_peer", "_pending", "_timeout_s", "_timer")

    def __init__(self, peer: Pinged, interval_s: float, timeout_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._peer = peer
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._number = 0
        self._pending: bytes | None = None  # the payload of the ping that waits for its pong
        self._timer = self._loop.call_later(interval_s, self._ping)

    def take_pong(self, payload: bytes) -> None:
        """Take a pong; one that answers no pending ping is ignored."""
        if payload == self._pending:
            self._pending = None
            if self._timeout_s is not None:
                self._timer.cancel()
                self._timer = self._loop.call_later(self._interval_s, self._ping)

    def stop(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _ping(self) -> None:
        self._number += 1
        self._pending = self._number.to_bytes(4, "big")
        if self._timeout_s is None:
            self._timer = self._loop.call_later(self._interval_s, self._ping)
        else:
            self._timer = self._loop.call_later(self._timeout_s, self._expire)
        self._peer.ping(self._pending)

    def _expire(self) -> None:
        if self._peer.reading:
            self._peer.unanswered()
        else:  # the pong may wait behind messages that the application has not taken yet
            assert self._timeout_s is not None
            self._timer = self._loop.call_later(self._timeout_s, self._expire)


# Seconds between two polls of a connection over its cap: acknowledgements bring no callback.
POLL_S = 4e-3


class InFlight:
    """Cap of one connection.

    Args:
        transport: Its transport, on a TCP socket of Linux.
        cap: Bytes, written and not acknowledged, at which output waits.
        room: Called when there is room again, once after `full` was true.
    """

    def __init__(self, transport: asyncio.Transport, cap: int, room: Callable[[], None]) -> None:
        self._transport = transport
        self._cap = cap
        self._room = room
        self._socket = transport.get_extra_info("socket")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unacknowledged(self) -> int:
        """Unacknowledged bytes, including those in the transport's buffer."""
        # tcp(7): SIOCOUTQ is "the amount of unsent data in the socket queue", which for TCP is the data
        # that is not acknowledged (net/ipv4/tcp.c, write_seq - snd_una).
        queued = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", queued)[0]) + self._transport.get_write_buffer_size()

    @property
    def full(self) -> bool:
        """Whether output must wait; then `room` is called when it may continue."""
        if self._transport.is_closing() or self.unacknowledged < self._cap:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_S, self._poll)
        return True

    def stop(self) -> None:
        """Stop polling: the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll(self) -> None:
        self._timer = None
        if not self.full:
            self._room()
