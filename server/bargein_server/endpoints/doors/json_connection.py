"""Connection of a client with JSON of its own in text frames."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from msgspec import MsgspecError, json

from bargein_protocol import MESSAGEPACK, ClientEvent, Code, ServerEvent
from bargein_protocol.errors import FLOODED, INTERNAL, TOO_BIG
from bargein_protocol.json_scan import structure_fault
from bargein_protocol.open_values import value_fault

from ...guard.admission import Caller
from ...hosting.ports import Wire
from ...hosting.registry import SessionRegistry
from ...transport.connection import Connection
from ...transport.turn_stream import EventWire

log = logging.getLogger("bargein.connection")

_encode = json.Encoder().encode
_decode = json.Decoder(dict[str, Any]).decode


def object_of(message: bytes, max_values: int) -> dict[str, Any] | None:
    """Return the JSON object in a message; None for anything else.

    One that is nested too deeply is none, either.

    Args:
        message: The bytes of a text frame.
        max_values: Maximum number of values, keys included.
    """
    if structure_fault(message, max_values) is not None:
        return None
    try:
        decoded = _decode(message)
    except (MsgspecError, UnicodeError, RecursionError):  # the last for deep nesting
        return None
    # What was decoded here could be too deep to be encoded where there is less stack.
    return decoded if value_fault(decoded, max_values) is None else None


class JsonConnection(Connection, ABC):
    """A client of another protocol, the driver of its session.

    Args:
        below: The socket, for text frames.
        registry: Registry of all sessions.
        caller: The client.
        room: What decides whether output is taken; None for the socket.
    """

    binary: Code
    """Close code after a binary frame."""

    def __init__(
        self, below: Wire, registry: SessionRegistry, caller: Caller, room: Wire | None = None
    ) -> None:
        super().__init__(EventWire(self.translate, room or below, self._fail), MESSAGEPACK, registry, caller)
        self._below = below

    @abstractmethod
    def translate(self, event: ServerEvent) -> None:
        """Take an event of the session, in order."""

    @abstractmethod
    def receive_message(self, frame: bytes) -> None:
        """Take a message within the limit of size; it may be no JSON."""

    def receive(self, frame: bytes, text: bool) -> None:
        """Take a whole message, in the callback that read it."""
        if self._closing:
            return
        if len(frame) > self._max_frame_bytes:
            self.close(TOO_BIG)
            return
        if not text:
            self.close(self.binary)
            return
        try:
            self.receive_message(frame)
        except Exception:
            # The boundary to the client: a fault of the server ends this connection alone.
            log.exception("connection failed")
            self.close(INTERNAL)
        now = self._registry.loop.time()
        if not (self._messages.take(1, now) and self._bytes.take(len(frame), now)):
            self.close(FLOODED)

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message to the client."""
        if not self._closing:
            self._below.write([_encode(message)])

    def act(self, event: ClientEvent) -> None:
        """Give an event to the session, if it is open."""
        if self._host is not None:
            self.take(event)

    def _fail(self, code: Code) -> None:
        # Later: the caller is in the middle of a step of the session.
        self._registry.loop.call_soon(self.close, code)
