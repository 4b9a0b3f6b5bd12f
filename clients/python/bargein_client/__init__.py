"""Python client of bargein.

Sessions survive broken connections, and turns can be interrupted.

    async with connect("ws://localhost:8000") as session:
        turn = session.send("Tell me a long story")
        async for event in turn:
            ...

The server's events are the structs of `bargein_protocol`; the client's own are in `events`.
"""

from .backoff import Backoff
from .connect import connect
from .connection_state import ConnectionState
from .conversations import (
    Conversation,
    ConversationInput,
    OpenedConversation,
    list_conversations,
    open_conversation,
)
from .core import ClientCore
from .delivery import Delivery
from .environment import Environment
from .errors import (
    AccessDenied,
    BargeinError,
    ConnectError,
    ConnectionLost,
    InputRejected,
    InterruptRefused,
    RequestRefused,
    RewindRefused,
    ServerViolation,
    SessionClosed,
    SessionReplaced,
    TooLarge,
    TooManyPending,
)
from .event_reader import EventStream
from .events import EventsDropped, EventsLost, Reconnecting, SessionRestarted, SessionResumed, TurnSnapshot
from .inbox import Bounds
from .microphone import Microphone
from .player import AudioPlayer
from .session import ClientSession
from .turn import ClientTurn

__all__ = [
    "AccessDenied",
    "AudioPlayer",
    "Backoff",
    "BargeinError",
    "Bounds",
    "ClientCore",
    "ClientSession",
    "ClientTurn",
    "ConnectError",
    "ConnectionLost",
    "ConnectionState",
    "Conversation",
    "ConversationInput",
    "Delivery",
    "Environment",
    "EventStream",
    "EventsDropped",
    "EventsLost",
    "InputRejected",
    "InterruptRefused",
    "Microphone",
    "OpenedConversation",
    "Reconnecting",
    "RequestRefused",
    "RewindRefused",
    "ServerViolation",
    "SessionClosed",
    "SessionReplaced",
    "SessionRestarted",
    "SessionResumed",
    "TooLarge",
    "TooManyPending",
    "TurnSnapshot",
    "connect",
    "list_conversations",
    "open_conversation",
]
