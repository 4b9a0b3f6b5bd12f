"""Letters: messages between two processes of a server.

A letter is a header, its size and kind, and a payload. The first letter of a connection is a request, the
answer follows, and if the answer is `mine`, the connection may go on as a pipe.

    asking process                             owner
    Request(Resume(…)), socket ─────────────▶  adopts the socket
    ◀──────────────────────────── Answer(mine)
"""

from __future__ import annotations

import logging
from enum import IntEnum
from struct import Struct as Layout
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bargein_protocol import SessionId

from ..core.principal import Principal, id_of
from ..core.records import Changes, Stored, decoded
from ..guard.admission import Caller
from ..guard.claims import portable_claims
from ..guard.limits import RareLog

rare_log = RareLog(logging.getLogger("bargein.cluster"))

T = TypeVar("T")

HEADER = Layout("!IB")
"""Size of the payload in bytes, and the kind."""

MAX_LETTER_BYTES = 64 * 1024 * 1024


class Kind(IntEnum):
    """Kinds of letters."""

    REQUEST = 1
    ANSWER = 2
    TEXT = 3
    """A whole text message, in either direction."""
    BINARY = 4
    CLOSE = 5
    """The owner closes the client's connection: number and name of the code."""
    ABORT = 6
    PAUSE = 7
    """The client does not take output."""
    RESUME = 8
    BODY = 9
    """A part of a request or response over HTTP; an empty one is the last."""
    START = 10
    """The start of a response: an encoded `ResponseStart`."""
    PROOF = 11
    """Part of the proof that both ends have the secret."""
    AGE = 12
    """The owner asks for the age of the client's connection, and the answer: seconds."""


class Client(Struct, frozen=True, array_like=True):
    """The client of a connection, as the asking process authenticated it.

    Args:
        principal: Id of the principal; None without authentication.
        known: Whether it may open a session.
        address: Key of its address.
        trace: W3C trace context, by header.
        claims: Claims of the principal.
    """

    principal: str | None
    known: bool
    address: str
    trace: dict[str, str]
    claims: dict[str, Any] = {}


def client_of(caller: Caller) -> Client:
    """Return the client that this process has authenticated."""
    principal = caller.principal
    claims = portable_claims(principal)
    return Client(id_of(principal), caller.known, caller.address, dict(caller.trace), claims)


def caller_of(client: Client) -> Caller:
    """Return the client that another process authenticated, and no more."""
    principal = None if client.principal is None else Principal(client.principal, client.claims)
    caller = Caller(principal, client.known, _proves_nothing, client.address)
    caller.trace = client.trace
    return caller


def _proves_nothing(credential: str) -> Principal | None:
    return None


class Resume(Struct, frozen=True, tag="resume"):
    """Request to serve a client that wants to resume a session.

    Args:
        session_id: The session.
        opening: Its first event, encoded as JSON.
        binary: Whether its frames are MessagePack.
        client: The client.
        age_s: Seconds since its connection came, when the letter was sent.
        socket: Whether its socket comes with this letter; otherwise the connection of the letter is a pipe.
        messages: Its messages since then: bytes, and whether each is text.
        unread: Its bytes that were not parsed, for a socket.
        may_move: Whether the session can come to the asking process instead, which is cheaper than a pipe:
            then the owner keeps it only while a turn runs.
        answers_age: Whether the asking process answers `AGE`; one of an older version does not.
    """

    session_id: SessionId
    opening: bytes
    binary: bool
    client: Client
    age_s: float
    socket: bool
    messages: list[tuple[bytes, bool]] = msgspec.field(default_factory=list)
    unread: bytes = b""
    may_move: bool = False
    answers_age: bool = False


class Forward(Struct, frozen=True, tag="forward"):
    """Request to answer a request over HTTP, or to serve a WebSocket.

    Args:
        session_id: The session that it is about.
        client: The client.
        method: The method; the other fields are those of its ASGI scope.
        body: Its whole body.
        websocket: Whether it is the handshake of a WebSocket.
    """

    session_id: SessionId
    client: Client
    method: str
    scheme: str
    path: str
    raw_path: bytes
    query: bytes
    root_path: str
    headers: list[tuple[bytes, bytes]]
    peer: tuple[str, int | None] | None
    server: tuple[str, int | None] | None
    body: bytes
    websocket: bool = False


class Scrape(Struct, frozen=True, tag="scrape"):
    """Request for the metrics of a process."""


class Move(Struct, frozen=True, tag="move"):
    """Request to take a session over, from a process that ends.

    Args:
        head: The encoded `Head`.
        seq: The last number.
        turns: Its turns, in order: place in the history, encoded `StoredTurn`.
        replies: Its last answers: request id, encoded answer.
    """

    head: bytes
    seq: int
    turns: list[tuple[int, bytes]]
    replies: list[tuple[str, bytes]]

    @classmethod
    def of(cls, changes: Changes) -> Move:
        """Return the request for an idle session, with all of its records."""
        assert changes.head is not None
        turns = [(position, record) for _, position, record in changes.turns]
        return cls(changes.head, changes.seq, turns, list(changes.replies))

    def stored(self) -> Stored:
        """Return the session.

        Raises:
            BadRecord: The other process is of another version.
        """
        turns = [(position, record.decode()) for position, record in self.turns]
        replies = [(request_id, reply.decode()) for request_id, reply in self.replies]
        return decoded(self.head, self.seq, True, turns, replies, [])


class Locate(Struct, frozen=True, tag="locate"):
    """Question whether a process owns a session."""

    session_id: SessionId


class Answer(Struct, frozen=True, omit_defaults=True):
    """Answer to a request.

    Args:
        mine: Whether the process owns the session, or did what was asked.
        moved_to: The process to ask instead, because it was given the session.
        label: The worker's label of its metrics.
        value: The metrics that were asked for.
    """

    mine: bool
    moved_to: str = ""
    label: str = ""
    value: bytes = b""


Request = Resume | Forward | Scrape | Move | Locate

_encode = msgspec.msgpack.Encoder().encode
_request: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answer = msgspec.msgpack.Decoder(Answer)
_age = msgspec.msgpack.Decoder(float)


class BadLetter(Exception):
    """A letter cannot be read: another program, or another version, sent it."""


def letter(kind: Kind, payload: bytes = b"") -> bytes:
    """Return an encoded letter."""
    return HEADER.pack(len(payload), kind) + payload


def encoded(kind: Kind, body: Any) -> bytes:
    """Return a letter with a struct or another value."""
    return letter(kind, _encode(body))


def content_of(decoder: msgspec.msgpack.Decoder[T], kind: int, payload: bytes, expected: Kind) -> T:
    """Return the content of a letter of an expected kind.

    Raises:
        BadLetter: It is of another kind, or cannot be read.
    """
    if kind != expected:
        raise BadLetter(f"expected kind {expected.name}, got kind {kind}")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadLetter(f"expected kind {expected.name}: {error}") from None


def request_of(kind: int, payload: bytes) -> Request:
    """Return the request in a letter; raises `BadLetter`."""
    return content_of(_request, kind, payload, Kind.REQUEST)


def answer_of(kind: int, payload: bytes) -> Answer:
    """Return the answer in a letter; raises `BadLetter`."""
    return content_of(_answer, kind, payload, Kind.ANSWER)


def age_of(kind: int, payload: bytes) -> float:
    """Return the age in a letter, in seconds; raises `BadLetter`."""
    return content_of(_age, kind, payload, Kind.AGE)
