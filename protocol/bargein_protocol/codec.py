"""How events become frames and frames become events.

A codec is chosen by WebSocket subprotocol. Decoding never raises anything but `DecodeError`,
whatever the peer sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from .client_events import ClientEvent, InputText, SessionOpen, SessionUpdate, ToolOutput
from .errors import BAD_EVENT, BAD_FRAME, UNKNOWN_TYPE, Code, DecodeError
from .server_events import ServerEvent, UnknownEvent
from .types import MAX_DEPTH, MAX_ID_CHARS, MAX_INT, MAX_NAME_CHARS, Seq, TurnId

_DETAIL_CHARS = 200

# What a decoder raises on hostile input: deep nesting is a RecursionError, a lone surrogate or bad
# UTF-8 a UnicodeError, and none of them is an error of msgspec.
_HOSTILE = (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError)


class Codec(Protocol):
    """One way to write events.

    Attributes:
        subprotocol: The name that chooses it.
        text: Whether its frames are text frames.
    """

    subprotocol: str
    text: bool

    def encode(self, event: ClientEvent | ServerEvent) -> bytes:
        """Return the frame's payload.

        Bounds are not looked at: that is for whoever makes the event.

        Raises:
            TypeError: A value has no form on the wire.
            UnicodeEncodeError: A string holds a lone surrogate.
            RecursionError: A value nests too deep.
        """
        ...

    def decode_client(self, frame: bytes) -> ClientEvent:
        """Return what a client sent.

        Raises:
            DecodeError: It is not a client event.
        """
        ...

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        """Return what a server sent; a type from a newer version becomes an `UnknownEvent`.

        Raises:
            DecodeError: It is not an event.
        """
        ...


class _Header(msgspec.Struct):
    """The fields that are worth reading when the rest cannot be.

    All but `type` may hold anything: in a newer version of the protocol they may mean something else.
    """

    type: str
    id: Any = None
    call_id: Any = None
    seq: Any = 0
    turn_id: Any = ""

    def ref_id(self) -> str | None:
        """Return the id by which the peer finds its event again."""
        for value in (self.id, self.call_id):
            if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS:
                return value
        return None

    def unknown(self) -> UnknownEvent | None:
        """Return the event of a type that is not known here, None when its number cannot be one."""
        seq, turn_id = self.seq, self.turn_id
        if (
            type(seq) is int
            and 0 <= seq <= MAX_INT
            and isinstance(turn_id, str)
            and len(turn_id) <= MAX_ID_CHARS
        ):
            return UnknownEvent(kind=self.type, seq=Seq(seq), turn_id=TurnId(turn_id))
        return None


class JsonCodec:
    """JSON in text frames; `bytes` fields are base64 (RFC 4648 section 4, with padding)."""

    subprotocol = "bargein.v1.json"
    text = True

    def __init__(self) -> None:
        self._client: msgspec.json.Decoder[ClientEvent] = msgspec.json.Decoder(ClientEvent)
        self._server: msgspec.json.Decoder[ServerEvent] = msgspec.json.Decoder(ServerEvent)
        self._header: msgspec.json.Decoder[_Header] = msgspec.json.Decoder(_Header)
        self.encode = msgspec.json.Encoder().encode

    def decode_client(self, frame: bytes) -> ClientEvent:
        """Return what a client sent."""
        try:
            event = self._client.decode(frame)
        except _HOSTILE as error:
            raise self._why(frame, error, _CLIENT_TYPES) from None
        for value in _open_values(event):
            if not _within_depth(value):
                detail = f"expected at most {MAX_DEPTH} nested levels, got more"
                raise DecodeError(BAD_EVENT, detail, self._header.decode(frame).ref_id())
        return event

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        """Return what a server sent."""
        try:
            return self._server.decode(frame)
        except _HOSTILE as error:
            why = self._why(frame, error, _SERVER_TYPES)
        if why.code is UNKNOWN_TYPE:
            unknown = self._header.decode(frame).unknown()
            if unknown is not None:
                return unknown
        raise why

    def _why(self, frame: bytes, error: Exception, types: frozenset[str]) -> DecodeError:
        try:
            header = self._header.decode(frame)
        except msgspec.ValidationError:
            return _decode_error(BAD_EVENT, error, None)
        except _HOSTILE:
            return _decode_error(BAD_FRAME, error, None)
        ref_id = header.ref_id()
        if header.type not in types:
            return DecodeError(UNKNOWN_TYPE, f"unknown type {header.type[:40]!r}", ref_id)
        if isinstance(error, (msgspec.ValidationError, OverflowError)):
            return _decode_error(BAD_EVENT, error, ref_id)
        return _decode_error(BAD_FRAME, error, ref_id)


def _open_values(event: ClientEvent) -> Sequence[object]:
    """Return what an event carries for the application."""
    if isinstance(event, (InputText, SessionUpdate)):
        return (event.metadata,)
    if isinstance(event, ToolOutput):
        return (event.output,)
    if isinstance(event, SessionOpen):
        return [pending.metadata for pending in event.pending or () if isinstance(pending, InputText)]
    return ()


def _within_depth(value: object) -> bool:
    """Return whether a value can be copied and encoded again wherever the stack stands.

    A decoder takes what fits the stack at that moment; deeper in the server it would not fit.
    """
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return True
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    return not level


def _decode_error(code: Code, error: Exception, ref_id: str | None) -> DecodeError:
    # msgspec's own messages are short and name the path; the others name Python's internals.
    detail = str(error) if isinstance(error, msgspec.DecodeError) else code.reason
    return DecodeError(code, detail[:_DETAIL_CHARS], ref_id)


def _types(union: object) -> frozenset[str]:
    return frozenset(str(struct.__struct_config__.tag) for struct in union.__args__)  # type: ignore[attr-defined]


_CLIENT_TYPES = _types(ClientEvent)
_SERVER_TYPES = _types(ServerEvent)

JSON: Codec = JsonCodec()
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JSON,)}


def negotiate(offered: Sequence[str]) -> tuple[Codec, str | None] | None:
    """Choose a codec from the subprotocols that a client offered, in the client's order.

    Returns:
        The codec and the subprotocol to select. A client that offered none gets JSON and none is
        selected, so that a plain tool can talk to the server. None when the client offered only
        what is not known here; then the handshake is refused.
    """
    if not offered:
        return JSON, None
    for name in offered:
        codec = CODECS.get(name)
        if codec is not None:
            return codec, name
    return None


__all__ = ["CODECS", "JSON", "Codec", "JsonCodec", "negotiate"]
