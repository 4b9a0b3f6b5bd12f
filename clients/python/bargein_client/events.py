"""Events that the client adds to those of the server.

The client's events come in the same streams as the server's and have the same JSON form. Their types
begin with `client.`.
"""

from __future__ import annotations

from msgspec import Struct

from bargein_protocol import (
    ErrorEvent,
    GoAway,
    Heartbeat,
    InputRejected,
    InterruptResult,
    NumberedEvent,
    Pong,
    TurnId,
    TurnState,
    UnknownEvent,
)


class _LocalEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    pass


class TurnSnapshot(_LocalEvent, frozen=True, kw_only=True, tag="client.turn_snapshot"):
    """The whole state of a turn, in place of events that were skipped.

    Sent when the server could not replay every event after a reconnect, and when the buffer of a slow
    consumer ran full. Replace the turn's display by `state`.
    """

    turn_id: TurnId
    state: TurnState


class Reconnecting(_LocalEvent, frozen=True, kw_only=True, tag="client.reconnecting"):
    """The connection broke; the next attempt follows after a delay.

    Args:
        attempt: Number of the attempt, from 1; not reset by a connection that lives for seconds only.
        delay_s: Delay before the attempt, in seconds.
        code: Name of the row in the protocol's table of codes.
    """

    attempt: int
    delay_s: float
    code: str


class SessionResumed(_LocalEvent, frozen=True, kw_only=True, tag="client.resumed"):
    """The session was resumed, and all missed events have been delivered."""


class SessionRestarted(_LocalEvent, frozen=True, kw_only=True, tag="client.restarted"):
    """The server lost the session; a fresh one has taken its place.

    Running turns end as failed with the reason `session_lost`. Requests without an answer are refused
    with the same code.
    """

    reason: str


class EventsDropped(_LocalEvent, frozen=True, kw_only=True, tag="client.dropped"):
    """`count` events are missing, because this stream was read too slowly.

    The iterators of turns are not affected.
    """

    count: int


class EventsLost(_LocalEvent, frozen=True, kw_only=True, tag="client.lost"):
    """The server could not send `count` events, not even after a resume."""

    count: int


LocalEvent = TurnSnapshot | Reconnecting | SessionResumed | SessionRestarted | EventsDropped | EventsLost
SessionEvent = (
    NumberedEvent | UnknownEvent | InputRejected | InterruptResult | ErrorEvent | GoAway | Heartbeat | Pong
    | LocalEvent
)  # fmt: skip
"""Events of `ClientSession.events()`."""
TurnEventOrSnapshot = NumberedEvent | UnknownEvent | TurnSnapshot
"""Events of a turn's iterator."""
