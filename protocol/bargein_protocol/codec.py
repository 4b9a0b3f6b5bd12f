"""How events become frames and frames become events.

A codec is chosen by WebSocket subprotocol. Decoding never raises anything but `DecodeError`,
whatever the peer sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, Protocol

import msgspec
from msgspec import inspect

from .client_events import ClientEvent, InputText, SessionOpen, SessionUpdate, ToolOutput
from .errors import BAD_EVENT, BAD_FRAME, UNKNOWN_TYPE, Code, DecodeError
from .server_events import ServerEvent, UnknownEvent
from .types import MAX_DEPTH, MAX_ID_CHARS, MAX_INT, MAX_NAME_CHARS, Seq, TurnId

_DETAIL_CHARS = 200
_MAX_DOUBLE = sys.float_info.max

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


class _StructCodec:
    """What codecs have in common: the structs are the same, the bytes are not.

    Args:
        library: `msgspec.json` or `msgspec.msgpack`.
    """

    def __init__(self, library: Any) -> None:
        self._client: msgspec.json.Decoder[ClientEvent] = library.Decoder(ClientEvent)
        self._server: msgspec.json.Decoder[ServerEvent] = library.Decoder(ServerEvent)
        self._header: msgspec.json.Decoder[_Header] = library.Decoder(_Header)

    def decode_client(self, frame: bytes) -> ClientEvent:
        """Return what a client sent."""
        try:
            event = self._client.decode(frame)
        except _HOSTILE as error:
            raise self._why(frame, error, _CLIENT_TYPES) from None
        if type(event) in _OPEN_VALUES and (fault := open_value_fault(event)) is not None:
            raise DecodeError(BAD_EVENT, fault, self._header.decode(frame).ref_id())
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


# What an event carries for the application.
_OPEN_VALUES: dict[type, Callable[[Any], Sequence[object]]] = {
    InputText: lambda event: (event.metadata,),
    SessionUpdate: lambda event: (event.metadata,),
    ToolOutput: lambda event: (event.output,),
    SessionOpen: lambda event: [
        pending.metadata for pending in event.pending or () if isinstance(pending, InputText)
    ],
}


def open_value_fault(event: ClientEvent) -> str | None:
    """Return the fault of a value that an event carries for the application, None without one.

    `decode_client` has looked for faults already.
    """
    open_values = _OPEN_VALUES.get(type(event))
    for value in open_values(event) if open_values is not None else ():
        if value is not None and (fault := _fault(value)) is not None:
            return fault
    return None


def _fault(value: object) -> str | None:
    """Return why a value cannot be copied and encoded again wherever the stack stands, None if it can.

    A decoder takes what fits the stack at that moment; deeper in the server it would not fit.
    MessagePack has values that JSON has not; another codec could not write them.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                if not all(isinstance(key, str) for key in one):
                    return "expected keys that are strings, got others"
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif not (
                one is None or isinstance(one, (str, int)) or (isinstance(one, float) and isfinite(one))
            ):
                return "expected values that JSON can hold, got others"
        if not inner:
            return None
        level = inner
    if any(isinstance(one, (dict, list)) for one in level):
        return f"expected at most {MAX_DEPTH} nested levels, got more"
    return None


def _decode_error(code: Code, error: Exception, ref_id: str | None) -> DecodeError:
    # msgspec's own messages are short and name the path; the others name Python's internals.
    detail = str(error) if isinstance(error, msgspec.DecodeError) else code.reason
    return DecodeError(code, detail[:_DETAIL_CHARS], ref_id)


def _types(union: object) -> frozenset[str]:
    return frozenset(str(struct.__struct_config__.tag) for struct in union.__args__)  # type: ignore[attr-defined]


_CLIENT_TYPES = _types(ClientEvent)
_SERVER_TYPES = _types(ServerEvent)


class JsonCodec(_StructCodec):
    """JSON in text frames; `bytes` fields are base64 (RFC 4648 section 4, with padding)."""

    subprotocol = "bargein.v1.json"
    text = True

    def __init__(self) -> None:
        super().__init__(msgspec.json)
        self.encode = msgspec.json.Encoder().encode


class MessagePackCodec(_StructCodec):
    """MessagePack in binary frames: the same maps as in JSON; `bytes` fields are raw."""

    subprotocol = "bargein.v1.msgpack"
    text = False

    def __init__(self) -> None:
        super().__init__(msgspec.msgpack)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def encode(self, event: ClientEvent | ServerEvent) -> bytes:
        """Return the frame's payload."""
        if type(event) in _WITH_OPEN_VALUES:
            # What the application put there is told as in JSON, so that a client learns the same
            # whichever codec it chose. No such event holds audio.
            told = self._decode(JSON.encode(event))
            try:
                return self._encode(told)
            except OverflowError:
                return self._encode(_with_short_integers(told))
        return self._encode(event)


def _with_short_integers(value: Any) -> Any:
    """Return a JSON value with doubles in place of integers that MessagePack cannot hold."""
    if isinstance(value, dict):
        return {key: _with_short_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_short_integers(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return _MAX_DOUBLE if value > 0 else -_MAX_DOUBLE
    return value


def _holds_open_values(info: inspect.Type) -> bool:
    match info:
        case inspect.AnyType():
            return True
        case inspect.UnionType():
            return any(map(_holds_open_values, info.types))
        case inspect.ListType():
            return _holds_open_values(info.item_type)
        case inspect.DictType():
            return _holds_open_values(info.value_type)
        case inspect.StructType():
            return any(_holds_open_values(field.type) for field in info.fields)
    return False


_WITH_OPEN_VALUES = frozenset(
    struct
    for union in (ClientEvent, ServerEvent)
    for struct in union.__args__
    if _holds_open_values(inspect.type_info(struct))
)

JSON: Codec = JsonCodec()
MESSAGEPACK: Codec = MessagePackCodec()
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JSON, MESSAGEPACK)}


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


__all__ = [
    "CODECS",
    "JSON",
    "MESSAGEPACK",
    "Codec",
    "JsonCodec",
    "MessagePackCodec",
    "negotiate",
    "open_value_fault",
]
