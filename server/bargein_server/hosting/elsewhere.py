"""Interface to the sessions of other processes.

A session has one owner, a process. A client that comes to another process is handed over to the owner, with
its socket or through a pipe.
"""

from __future__ import annotations

from typing import Any, Protocol

from bargein_protocol import SessionId, SessionOpen


class Elsewhere(Protocol):
    """Sessions of other processes.

    Attributes:
        name: Name of this process, which its session ids contain; empty in a server of one process.
    """

    name: str

    def may_have(self, session_id: SessionId) -> bool:
        """Return whether another process may own a session that this one does not."""
        ...

    async def take(self, connection: Any, first: SessionOpen) -> bool:
        """Hand a client over to the owner of the session that it wants to resume.

        Cancelling it leaves the client here.

        Args:
            connection: The client's `Connection`.
            first: Its first event.

        Returns:
            Whether another process has the client now; if not, the session is nowhere else.
        """
        ...


class Relay(Protocol):
    """Pipe through which another process serves the client of a connection."""

    def append(self, message: tuple[bytes, bool]) -> None:
        """Pass on a message of the client: its bytes, and whether it is text."""
        ...

    def writable_again(self) -> None:
        """Record that the client takes output again."""
        ...

    def close(self) -> None:
        """Record that the client is gone."""
        ...


class ArrivalNumbers:
    """Source of numbers for connections: a newer connection has a higher one.

    A connection that was handed over gets a number by the time of its arrival at the other process.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self, now: float) -> int:
        """Return the number of a connection that has just come.

        Args:
            now: The event loop's time in seconds.
        """
        self._last = max(self._last + 1, int(now * 1e9))
        return self._last

    def earlier(self, now: float, age_s: float) -> int:
        """Return the number of a connection that came earlier, to another process."""
        return min(self._last, int((now - age_s) * 1e9)) if self._last else self.next(now - age_s)
