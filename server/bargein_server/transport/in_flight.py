"""Holds output back while too much of it is on its way to the client.

The write limits of `listener` empty the queues of this machine. What the network holds in its own
queues only the sender can bound, by counting what the peer has not acknowledged. It costs throughput
on long lines (at most the cap per round trip), so it is for producers that are faster than the line.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable

# Acknowledgements bring no callback: how often a connection that is over its cap looks again.
POLL_S = 4e-3


class InFlight:
    """The cap of one connection.

    Args:
        transport: Its transport, on a TCP socket of Linux.
        cap: Bytes, written and not acknowledged, from which on output waits.
        room: Called when there is room again after `full` was true.
    """

    def __init__(self, transport: asyncio.Transport, cap: int, room: Callable[[], None]) -> None:
        self._transport = transport
        self._cap = cap
        self._room = room
        self._socket = transport.get_extra_info("socket")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unacknowledged(self) -> int:
        """Bytes that the peer has not acknowledged, those in the transport's buffer included."""
        # tcp(7): SIOCOUTQ is "the amount of unsent data in the socket queue", which for TCP is what is
        # not acknowledged (net/ipv4/tcp.c, write_seq - snd_una).
        queued = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", queued)[0]) + self._transport.get_write_buffer_size()

    @property
    def full(self) -> bool:
        """Whether output must wait; then `room` is called when it need not any more."""
        if self._transport.is_closing() or self.unacknowledged < self._cap:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_S, self._look)
        return True

    def stop(self) -> None:
        """Look no more: the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self.full:
            self._room()
