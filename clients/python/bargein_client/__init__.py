"""The Python client of bargein: sessions that survive broken lines, turns that can be interrupted.

    async with connect("ws://localhost:8000/v1/session") as session:
        turn = await session.send("Tell me a long story")
        async for event in turn:
            ...

What the server sends are the structs of `bargein_protocol`; what the client adds is in `events`.
"""

from .backoff import Backoff
from .core import ClientCore
from .errors import (
    AccessDenied,
    BargeinError,
    ConnectError,
    ConnectionLost,
    InputRejected,
    InterruptRefused,
    RequestRefused,
    ServerViolation,
    SessionClosed,
    SessionReplaced,
    TooLarge,
    TooManyPending,
)
from .events import EventsDropped, EventsLost, Reconnecting, SessionRestarted, SessionResumed, TurnSnapshot
from .inbox import Bounds
from .lifeline import Environment
from .session import ClientSession, EventStream, connect
from .turn import ClientTurn

__all__ = [
    "AccessDenied",
    "Backoff",
    "BargeinError",
    "Bounds",
    "ClientCore",
    "ClientSession",
    "ClientTurn",
    "ConnectError",
    "ConnectionLost",
    "Environment",
    "EventStream",
    "EventsDropped",
    "EventsLost",
    "InputRejected",
    "InterruptRefused",
    "Reconnecting",
    "RequestRefused",
    "ServerViolation",
    "SessionClosed",
    "SessionReplaced",
    "SessionRestarted",
    "SessionResumed",
    "TooLarge",
    "TooManyPending",
    "TurnSnapshot",
    "connect",
]
