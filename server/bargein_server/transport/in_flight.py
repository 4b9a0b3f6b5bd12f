"""Cap on the bytes that are on their way to a client.

The write limits of `listener` bound the queues of this machine. The queues of the network are bounded by
the sender alone, which counts the bytes that its peer has not acknowledged. The cap costs throughput on
lines with a long delay (at most the cap per round trip), so it is meant for producers that are faster
than the line.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable

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
        """Bytes that the peer has not acknowledged, the transport's included."""
        # tcp(7): SIOCOUTQ is "the amount of unsent data in the socket queue", which for TCP is the data
        # that is not acknowledged (net/ipv4/tcp.c, write_seq - snd_una).
        queued = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", queued)[0]) + self._transport.get_write_buffer_size()

    @property
    def full(self) -> bool:
        """Whether output must wait; then `room` is called when it may go on."""
        if self._transport.is_closing() or self.unacknowledged < self._cap:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_S, self._look)
        return True

    def stop(self) -> None:
        """Stop polling: the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self.full:
            self._room()
