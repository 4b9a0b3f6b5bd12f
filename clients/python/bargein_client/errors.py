"""Everything this package raises.

    BargeinError
    ├── ConnectError            the first connection could not be made
    ├── SessionClosed           the session is over, nothing more can be asked of it
    │   ├── SessionReplaced     a newer connection drives the session (close code 4409)
    │   ├── AccessDenied        the server does not let this client in (4401, 4403, HTTP 401, 403)
    │   └── ConnectionLost      the line is gone and was not, or could not be, restored
    ├── RequestRefused          the server said no to one request, or lost it; the session lives on
    │   ├── InputRejected       … to an input: it gets no turn
    │   └── InterruptRefused    … to an interrupt
    ├── TooManyPending          too many requests wait for an answer; nothing was sent
    ├── TooLarge                the server would not read a frame of this size; nothing was sent
    ├── ServerViolation         the server broke the protocol  ┐ inside only: the session reconnects
    └── LineEnded               a connection is over           ┘ by itself, or ends with one of the above

What went wrong is in attributes, the text is for people.
"""

# they are named after what happened; an "Error" suffix would say nothing more

from __future__ import annotations

from bargein_protocol import Action, Code


class BargeinError(Exception):
    """The root of all errors of this package."""


class ConnectError(BargeinError):
    """The first connection could not be made; nothing is retried.

    Attributes:
        url: Where to.
        code: The row of the protocol's table when the server gave one, else None.
        status: The HTTP status when the handshake was answered with one, else None.
    """

    def __init__(self, url: str, why: str, *, code: Code | None = None, status: int | None = None) -> None:
        super().__init__(f"cannot connect to {url}: {why}")
        self.url = url
        self.why = why
        self.code = code
        self.status = status


class SessionClosed(BargeinError):
    """The session is over.

    Attributes:
        code: The row of the protocol's table that ended it, None when this side did.
    """

    def __init__(self, why: str = "the session was closed", code: Code | None = None) -> None:
        super().__init__(why)
        self.code = code


class SessionReplaced(SessionClosed):
    """A newer connection drives the session; this one must not come back."""


class AccessDenied(SessionClosed):
    """The server does not let this client in, or not any more."""


class ConnectionLost(SessionClosed):
    """The line is gone for good: reconnecting is off, or took too long.

    The server may still hold the session and its turn for a while.
    """


class RequestRefused(BargeinError):
    """The server said no to one request, or lost it. The session lives on.

    Attributes:
        code: The name of a row in the protocol's table of codes, such as `busy` or `session_lost`.
        retryable: Whether the same request may succeed later.
        retry_after_ms: When, in milliseconds; None when the server did not say.
    """

    def __init__(self, code: str, why: str, *, retryable: bool, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class InputRejected(RequestRefused):
    """The input gets no turn."""


class InterruptRefused(RequestRefused):
    """The interrupt got no outcome."""


class TooManyPending(BargeinError):
    """Too many requests wait for an answer; this one was not sent.

    Attributes:
        limit: How many may wait.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"expected at most {limit} requests without an answer, this is one more")
        self.limit = limit


class TooLarge(BargeinError):
    """The server would not read it; nothing was sent.

    Attributes:
        size: What was given.
        limit: What the server takes, in the same unit.
    """

    def __init__(self, size: int, limit: int, unit: str) -> None:
        super().__init__(f"expected at most {limit} {unit}, got {size}")
        self.size = size
        self.limit = limit


class ServerViolation(BargeinError):
    """What came from the server does not fit: a hole in the numbers, an event out of place.

    The connection is dropped and the session resumed from the last good event.
    """


class LineEnded(BargeinError):
    """A connection is over, or could not be made.

    Attributes:
        code: The row of the protocol's table that says what comes next.
        why: A short text for people.
        status: The HTTP status when the handshake was answered with one, else None.
        final: Whether the next attempt would end in the same way.
        blocked: Whether something on the way, and not the server, seems to let no WebSocket through.
    """

    def __init__(
        self,
        code: Code,
        why: str,
        status: int | None = None,
        *,
        final: bool = False,
        blocked: bool = False,
    ) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.status = status
        self.blocked = blocked
        self.final = final or code.action is Action.STOP
