"""Exceptions of this package.

    BargeinError
    ├── ConnectError            the first connection could not be made
    ├── SessionClosed           the session is over, nothing more can be asked of it
    │   ├── SessionReplaced     a newer connection drives the session (close code 4409)
    │   ├── AccessDenied        the server does not let this client in (4401, 4403, HTTP 401, 403)
    │   └── ConnectionLost      the connection broke and was not, or could not be, restored
    ├── RequestRefused          the server refused one request, or lost it; the session goes on
    │   ├── InputRejected       an input: it gets no turn
    │   ├── InterruptRefused    an interrupt
    │   └── RewindRefused       a rewind
    ├── TooManyPending          too many requests wait for an answer; nothing was sent
    ├── TooLarge                the frame exceeds the server's limit; nothing was sent
    ├── ServerViolation         the server broke the protocol  ┐ internal: the session reconnects, or
    └── ChannelClosed           a connection is over           ┘ ends with one of the errors above

Programs read the attributes; the text is for people.
"""

# The names describe the event; an "Error" suffix would add nothing.

from __future__ import annotations

from bargein_protocol import Action, Code


class BargeinError(Exception):
    """Base class of all errors of this package."""


class ConnectError(BargeinError):
    """The first connection could not be made; nothing is retried.

    Attributes:
        url: The server's URL.
        why: Reason, for people.
        code: Row of the protocol's table of codes if the server sent one, else None.
        status: HTTP status of the handshake's response, if any.
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
        code: Row of the protocol's table of codes that ended the session; None if this side closed it.
    """

    def __init__(self, why: str = "the session was closed", code: Code | None = None) -> None:
        super().__init__(why)
        self.code = code


class SessionReplaced(SessionClosed):
    """A newer connection drives the session; this one must not reconnect."""


class AccessDenied(SessionClosed):
    """The server denies access to this client."""


class ConnectionLost(SessionClosed):
    """The connection broke, and reconnecting is off or took too long.

    The server may keep the session and its turn for a while.
    """


def unless_normal(error: BargeinError) -> BargeinError | None:
    """Return the error, or None for a session that was closed on purpose."""
    return None if type(error) is SessionClosed else error


class RequestRefused(BargeinError):
    """The server refused one request, or lost it. The session goes on.

    Attributes:
        code: Name of a row in the protocol's table of codes, such as `busy` or `session_lost`.
        retryable: Whether the same request may succeed later.
        retry_after_ms: Delay before a retry, in milliseconds; None if the server gave none.
    """

    def __init__(self, code: str, why: str, *, retryable: bool, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class InputRejected(RequestRefused):
    """The server refused an input, which gets no turn."""


class InterruptRefused(RequestRefused):
    """The server refused an interrupt, which has no outcome."""


class RewindRefused(RequestRefused):
    """The server refused a rewind, and no turn was dropped."""


class TooManyPending(BargeinError):
    """Too many requests wait for an answer; this one was not sent.

    Attributes:
        limit: The largest number of unanswered requests.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"expected at most {limit} requests without an answer, this is one more")
        self.limit = limit


class TooLarge(BargeinError):
    """The text or the frame exceeds the server's limit; nothing was sent.

    Attributes:
        size: Size of the text or the frame.
        limit: The largest size that the server accepts, in the same unit.
    """

    def __init__(self, size: int, limit: int, unit: str) -> None:
        super().__init__(f"expected at most {limit} {unit}, got {size}")
        self.size = size
        self.limit = limit


class ServerViolation(BargeinError):
    """The server broke the protocol.

    Examples are a gap in the numbers, or an event out of place.

    The connection is dropped, and the session resumes after the last valid event.
    """


class ChannelClosed(BargeinError):
    """A connection is over, or could not be made.

    Attributes:
        code: Row of the protocol's table of codes; its action is the client's next step.
        why: Reason, for people.
        status: HTTP status of the handshake's response, if any.
        final: Whether another attempt would fail in the same way.
        blocked: Whether a proxy or a firewall, not the server, seems to block WebSockets.
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
