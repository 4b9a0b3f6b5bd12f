"""Codecs: events to frames and frames to events.

The WebSocket subprotocol selects the codec. Decoding raises only `DecodeError`, for any bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import inspect

from . import json_scan, messagepack_scan
from .client_events import ClientEvent, InputText, SessionOpen
from .errors import BAD_EVENT, BAD_FRAME, UNKNOWN_TYPE, Code, DecodeError
from .open_values import CLIENT_OPEN_VALUES, SERVER_OPEN_VALUES, open_value_fault, server_value_fault
from .server_events import (
    ServerEvent,
    UnknownEvent,
)
from .types import (
    MAX_CLIENT_VALUES,
    MAX_ID_CHARS,
    MAX_INT,
    MAX_NAME_CHARS,
    NO_SEQ,
    NO_TURN,
    Seq,
    TurnId,
)

_DETAIL_CHARS = 200
_OF_CLIENTS = "client."  # events that a client makes for its application
_MAX_DOUBLE = sys.float_info.max

# Exceptions of decoders on hostile input. Deep nesting raises RecursionError, a lone surrogate or invalid
# UTF-8 raises UnicodeError; neither is an exception of msgspec.
_HOSTILE = (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError)


class Codec(Protocol):
    """Encoding of events.

    Attributes:
        subprotocol: The subprotocol that selects it.
        text: Whether frames are text frames.
    """

    subprotocol: str
    text: bool

    def encode(self, event: ClientEvent | ServerEvent) -> bytes:
        """Return the frame's payload.

        Bounds are not checked; the sender of an event must keep them.

        Raises:
            TypeError: A value has no encoding.
            UnicodeEncodeError: A string holds a lone surrogate.
            RecursionError: A value nests too deep.
        """
        ...

    def decode_client(self, frame: bytes) -> ClientEvent:
        """Return a client event.

        Raises:
            DecodeError: The frame is not a client event.
        """
        ...

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        """Return a server event; an unknown type becomes an `UnknownEvent`.

        Raises:
            DecodeError: The frame is not an event.
        """
        ...


class _Header(msgspec.Struct):
    """Fields that are read when an event as a whole cannot be decoded.

    All but `type` may hold any value: a newer version of the protocol may use them for another purpose.
    They stay encoded, because a hostile value may be expensive to decode.
    """

    type: str
    id: msgspec.Raw = msgspec.Raw()
    call_id: msgspec.Raw = msgspec.Raw()
    seq: msgspec.Raw = msgspec.Raw()
    turn_id: msgspec.Raw = msgspec.Raw()


_RefId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_AnySeq = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT)]
_AnyTurnId = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)]


class _StructCodec:
    """Common base of the codecs.

    A frame of `_harmless_bytes` is decoded in little time, whatever it holds.

    Args:
        library: `msgspec.json` or `msgspec.msgpack`.
        structure_fault: Returns the reason not to decode a frame, by the maximum number of its values.
    """

    _harmless_bytes: int

    def __init__(self, library: Any, structure_fault: Callable[[bytes, int | None], str | None]) -> None:
        self._structure_fault = structure_fault
        self._client: msgspec.json.Decoder[ClientEvent] = library.Decoder(ClientEvent)
        self._server: msgspec.json.Decoder[ServerEvent] = library.Decoder(ServerEvent)
        self._header: msgspec.json.Decoder[_Header] = library.Decoder(_Header)
        self._ref: msgspec.json.Decoder[str] = library.Decoder(_RefId)
        self._seq: msgspec.json.Decoder[int] = library.Decoder(_AnySeq)
        self._turn: msgspec.json.Decoder[str] = library.Decoder(_AnyTurnId)

    def decode_client(self, frame: bytes) -> ClientEvent:
        """Return a client event."""
        if len(frame) > self._harmless_bytes:
            self._check(frame, MAX_CLIENT_VALUES)
        try:
            event = self._client.decode(frame)
        except _HOSTILE as error:
            raise self._why(frame, error, _CLIENT_TYPES) from None
        if type(event) in CLIENT_OPEN_VALUES and (fault := open_value_fault(event)) is not None:
            raise DecodeError(BAD_EVENT, fault, self._ref_id(self._header.decode(frame)))
        return event

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        """Return a server event."""
        if len(frame) > self._harmless_bytes:
            self._check(frame, None)  # a snapshot holds many values
        try:
            event = self._server.decode(frame)
        except _HOSTILE as error:
            why = self._why(frame, error, _SERVER_TYPES)
        else:
            if type(event) in SERVER_OPEN_VALUES and (fault := server_value_fault(event)) is not None:
                raise DecodeError(BAD_EVENT, fault, self._ref_id(self._header.decode(frame)))
            return event
        if why.code is UNKNOWN_TYPE:
            unknown = self._unknown(self._header.decode(frame))
            if unknown is not None:
                return unknown
        raise why

    def _check(self, frame: bytes, max_values: int | None) -> None:
        fault = self._structure_fault(frame, max_values)
        if fault is not None:
            with suppress(*_HOSTILE):
                raise DecodeError(BAD_EVENT, fault, self._ref_id(self._header.decode(frame)))
            raise DecodeError(BAD_EVENT, fault, None)

    def _why(self, frame: bytes, error: Exception, types: frozenset[str]) -> DecodeError:
        try:
            header = self._header.decode(frame)
        except msgspec.ValidationError:
            return _decode_error(BAD_EVENT, error, None)
        except _HOSTILE:
            return _decode_error(BAD_FRAME, error, None)
        ref_id = self._ref_id(header)
        if header.type not in types:
            return DecodeError(UNKNOWN_TYPE, f"unknown type {header.type[:40]!r}", ref_id)
        if isinstance(error, (msgspec.ValidationError, OverflowError)):
            return _decode_error(BAD_EVENT, error, ref_id)
        return _decode_error(BAD_FRAME, error, ref_id)

    def _ref_id(self, header: _Header) -> str | None:
        """Return the id that identifies the event to its sender."""
        for value in (header.id, header.call_id):
            with suppress(*_HOSTILE):
                return self._ref.decode(value)
        return None

    def _unknown(self, header: _Header) -> UnknownEvent | None:
        """Return an event of unknown type; None when number or type is invalid."""
        if header.type.startswith(_OF_CLIENTS):
            return None
        try:
            seq = self._seq.decode(header.seq) if header.seq else NO_SEQ
            turn_id = self._turn.decode(header.turn_id) if header.turn_id else NO_TURN
        except _HOSTILE:
            return None
        return UnknownEvent(kind=header.type, seq=Seq(seq), turn_id=TurnId(turn_id))


def _decode_error(code: Code, error: Exception, ref_id: str | None) -> DecodeError:
    # Messages of msgspec are short and have the path; others contain internals of Python.
    detail = str(error) if isinstance(error, msgspec.DecodeError) else code.reason
    return DecodeError(code, detail[:_DETAIL_CHARS], ref_id)


def _types(union: object) -> frozenset[str]:
    return frozenset(str(struct.__struct_config__.tag) for struct in union.__args__)  # type: ignore[attr-defined]


_CLIENT_TYPES = _types(ClientEvent)
_SERVER_TYPES = _types(ServerEvent)


class JsonCodec(_StructCodec):
    """JSON in text frames.

    Fields of type `bytes` are base64 (RFC 4648 section 4, with padding).
    """

    subprotocol = "bargein.v1.json"
    text = True
    _harmless_bytes = 256

    def __init__(self) -> None:
        super().__init__(msgspec.json, json_scan.structure_fault)
        self.encode: Callable[[ClientEvent | ServerEvent], bytes] = msgspec.json.Encoder().encode


class MessagePackCodec(_StructCodec):
    """MessagePack in binary frames.

    The maps are those of JSON; fields of type `bytes` are raw.
    """

    subprotocol = "bargein.v1.msgpack"
    text = False
    _harmless_bytes = 1024

    def __init__(self) -> None:
        super().__init__(msgspec.msgpack, messagepack_scan.structure_fault)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def encode(self, event: ClientEvent | ServerEvent) -> bytes:
        """Return the frame's payload."""
        if type(event) in _WITH_OPEN_VALUES:
            # Values of the application take the form that they have in JSON, so that both codecs give a
            # client the same value.
            plain = self._decode(JSON.encode(event))
            _keep_raw(event, plain)
            try:
                return self._encode(plain)
            except OverflowError:
                return self._encode(_with_short_integers(plain))
        return self._encode(event)


def _keep_raw(event: object, plain: dict[str, Any]) -> None:
    """Put the files of inputs, which JSON has as base64, back as bytes."""
    if type(event) is SessionOpen:
        for pending, its_plain in zip(event.pending or (), plain.get("pending", ()), strict=True):
            _keep_raw(pending, its_plain)
    elif type(event) is InputText and event.attachments:
        for file, its_plain in zip(event.attachments, plain["attachments"], strict=True):
            its_plain["data"] = file.data


def _with_short_integers(value: Any) -> Any:
    """Return a JSON value with doubles for integers too long for MessagePack."""
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
    """Choose a codec from the subprotocols offered by a client, in its order.

    Returns:
        The codec and the subprotocol to select. A client that offered none gets JSON without a
        subprotocol, so that a plain tool can connect. None when all offered ones are unknown; then the
        handshake is refused.
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
]
