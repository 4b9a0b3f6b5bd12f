"""Events that the client itself makes, beside those of the server.

They travel in the same streams as the server's events and are written as JSON in the same way;
their types begin with `client.`.
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
    """The whole state of a turn, in place of events that do not come any more.

    It comes when the server could not replay every event after a reconnect, and when a consumer was
    so slow that its buffer ran full. Replace what was shown of the turn by `state`.
    """

    turn_id: TurnId
    state: TurnState


class Reconnecting(_LocalEvent, frozen=True, kw_only=True, tag="client.reconnecting"):
    """The line is gone; the next attempt comes after `delay_s` seconds.

    Args:
        attempt: Counts from 1; it goes on counting when a connection breaks again within seconds.
        code: The name of the row in the protocol's table of codes.
    """

    attempt: int
    delay_s: float
    code: str


class SessionResumed(_LocalEvent, frozen=True, kw_only=True, tag="client.resumed"):
    """The session goes on, and everything that was missed has been delivered."""


class SessionRestarted(_LocalEvent, frozen=True, kw_only=True, tag="client.restarted"):
    """The server lost the session; this is a fresh one.

    Turns in flight end as failed with reason `session_lost`, and requests without an answer are
    refused with that code.
    """

    reason: str


class EventsDropped(_LocalEvent, frozen=True, kw_only=True, tag="client.dropped"):
    """This stream was read too slowly: `count` events are missing here. Turns are not affected."""

    count: int


class EventsLost(_LocalEvent, frozen=True, kw_only=True, tag="client.lost"):
    """The server could not give `count` events, also not after a resume. What they said is unknown."""

    count: int


LocalEvent = TurnSnapshot | Reconnecting | SessionResumed | SessionRestarted | EventsDropped | EventsLost
SessionEvent = (
    NumberedEvent | UnknownEvent | InputRejected | InterruptResult | ErrorEvent | GoAway | Heartbeat | Pong
    | LocalEvent
)  # fmt: skip
"""What `ClientSession.events()` yields."""
TurnEventOrSnapshot = NumberedEvent | UnknownEvent | TurnSnapshot
"""What iterating a turn yields."""
