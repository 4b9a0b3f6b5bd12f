"""Interface to the sessions of other processes.

A session has one owner, a process. A client that comes to another process is handed over to the owner, with
its socket or through a pipe.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec.structs import replace

from bargein_protocol import SessionId, SessionOpen

from ..core.change_log import ChangeLog
from ..core.history import seed_message
from ..core.records import Changes
from .host import SessionHost


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

    async def forward(
        self, session_id: SessionId, scope: Any, receive: Any, send: Any, caller: Any, body: bytes
    ) -> bool:
        """Let the owner of a session answer an HTTP request or serve a WebSocket.

        Args:
            session_id: The session that the request is about.
            scope: The request, as ASGI; so are `receive` and `send`.
            receive: Returns the end of the client, because the body was read; all messages of a WebSocket.
            send: Sends the response, or messages.
            caller: The client, as this process has authenticated it.
            body: The whole body.

        Returns:
            Whether another process has answered; if not, the session is nowhere else.

        Raises:
            OSError: The owner is gone, or the client.
            TimeoutError: The owner stands still.
        """
        ...

    async def metrics(self, own: bytes) -> bytes:
        """Return the metrics of all processes, each sample with its worker."""
        ...

    def gauges(self) -> Mapping[str, float]:
        """Return counts of this process for its metrics."""
        ...

    @property
    def has_successor(self) -> bool:
        """Whether the sessions of this process go to another one when it stops."""
        ...

    async def move(self, host: Any) -> bool:
        """Give an idle session to the successor or the store; whether it has it."""
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

    def earlier(self, came_at: float) -> int:
        """Return the number of a connection that came to another process."""
        return min(self._last, int(came_at * 1e9)) if self._last else self.next(came_at)


def unwatched() -> ChangeLog:
    """Return a change log without a reader, for a session without a store."""
    return ChangeLog(lambda binds: None)


def records_of(host: SessionHost) -> Changes:
    """Return all records of a session without a store, in which no turn runs."""
    persistence = host.core.records(unwatched())
    persistence.head = replace(
        persistence.head,
        principal=host.view.principal,
        owner=host.owner,
        viewer=host.viewer_token.digest,
        seed=[seed_message(message, False) for message in host.core.seed],
        created_at=time.time(),
    )
    changes = persistence.collect(host.loop.time(), time.time())
    assert changes is not None
    return changes
