"""Keep-alive pings (RFC 6455 section 5.5.2).

They find peers that stand still while nothing is on its way that TCP would have to acknowledge.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Pinged(Protocol):
    """Connection that is kept alive."""

    @property
    def reading(self) -> bool:
        """Whether frames of the peer are read, and so its pongs."""
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
        """Send no more pings."""
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
