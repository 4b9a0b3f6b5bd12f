"""Interface of one connection to a server, and its supervision."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from bargein_protocol import ClientEvent, ServerEvent, UnknownEvent
from bargein_protocol.errors import ABNORMAL, FORBIDDEN, OVERLOADED, SHARE_USED, UNAUTHORIZED

from .errors import ChannelClosed

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""The largest frame that is read. A snapshot holds whole turns, and each of the 2**20 characters of a
text may take six bytes."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
NOT_FOUND = 404

_STATUS_CODES = {401: UNAUTHORIZED, 403: FORBIDDEN, 429: SHARE_USED, 503: OVERLOADED}


class Channel(Protocol):
    """One connection to a server."""

    @property
    def last_received_at(self) -> float:
        """The event loop's time when the last byte arrived."""
        ...

    async def send(self, event: ClientEvent) -> None:
        """Write an event; waits while the channel is full. Raises `ChannelClosed`."""
        ...

    async def receive(self) -> ServerEvent | UnknownEvent:
        """Return the next event. Raises `ChannelClosed` and `ServerViolation`."""
        ...

    def abort(self) -> None:
        """Close the channel immediately; `receive` then raises `ChannelClosed`."""
        ...

    async def wait_closed(self) -> None:
        """Wait until all resources of a closed channel are released."""
        ...


ConnectChannel = Callable[[], Awaitable[Channel]]


class Watchdog:
    """Aborts a channel that is silent for too long.

    Args:
        channel: The channel.
        opened: Returns whether `session.opened` came, which is due within `OPEN_TIMEOUT_S`.
        silence_s: Returns the longest silence after that, in seconds; 0 for no limit.
    """

    def __init__(self, channel: Channel, opened: Callable[[], bool], silence_s: Callable[[], float]) -> None:
        self._channel = channel
        self._opened = opened
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_later(OPEN_TIMEOUT_S, self._check)

    def reset(self) -> None:
        """Check again, because the limits have changed."""
        self._timer.cancel()
        self._check()

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _check(self) -> None:
        if self._opened():
            silence = self._silence_s()
            if not silence:
                return
            due = self._channel.last_received_at + silence
        else:
            due = self._began + OPEN_TIMEOUT_S
        if self._loop.time() >= due:
            self._channel.abort()
        else:
            self._timer = self._loop.call_at(due, self._check)


def refused(status: int, *, blocked: bool = False) -> ChannelClosed:
    """Return the error for an HTTP status in place of a connection."""
    code = _STATUS_CODES.get(status, ABNORMAL)
    why = code.reason if status in _STATUS_CODES else f"the server answered with HTTP status {status}"
    if status == NOT_FOUND:
        why = "the server serves no sessions at this path"
    return ChannelClosed(code, why, status, final=code is ABNORMAL and status < 500, blocked=blocked)


def is_from_bargein(headers: Mapping[str, str]) -> bool:
    """Return whether a response came from a bargein server, not from a proxy."""
    return "bargein-protocol" in headers


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
