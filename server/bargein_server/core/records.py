"""Records of a session as a store keeps them: plain data, encoded as JSON.

A turn that runs is kept as its record and the pieces of its output so far; the end replaces the pieces by
the folded output in the record. Samples of audio are not kept, as in snapshots, and the heard text is kept
as its length.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct, field

from bargein_protocol import (
    NO_SEQ,
    CallId,
    Epoch,
    InputAccepted,
    InputQueued,
    InputRejected,
    InputText,
    Interrupt,
    InterruptResult,
    LaneState,
    Seq,
    ServerEvent,
    SessionId,
    SessionRewound,
    TurnEnded,
    TurnId,
    Usage,
)

from .tool_ledger import CallRecord

VERSION = 1
"""Version of these records.

Raise it when an older server could not read a record, or would lose a part of it by writing it again.
Servers of two versions share a store during an upgrade: each reads the records of all earlier versions, and
leaves those of a later one alone. A session that is claimed in an earlier version is written anew, whole.
"""

Reply = InputAccepted | InputQueued | InputRejected | InterruptResult | SessionRewound


class Piece(Struct, frozen=True, array_like=True, omit_defaults=True):
    """Output of a running turn since the piece before.

    Args:
        turn_id: The turn.
        seq: Number of its last event.
        live: Whether a client took it when it was numbered.
        text: Text of the main lane; None for another event.
        event: The event; None for text.
        lanes: Whole lanes, at the start of a session that is stored anew.
    """

    turn_id: TurnId
    seq: Seq
    live: bool
    text: str | None = None
    event: ServerEvent | None = None
    lanes: dict[str, LaneRecord] | None = None


class LaneRecord(Struct, omit_defaults=True):
    """A lane of a turn.

    Args:
        state: Its state.
        marks: Numbers, each with the characters of the text up to it; a later report may name one.
        audio_seqs: Number of each span of audio.
        called_in: Step of each tool call.
    """

    state: LaneState
    marks: list[tuple[int, int]] = field(default_factory=list)
    audio_seqs: list[int] = field(default_factory=list)
    called_in: dict[CallId, int] = field(default_factory=dict)


class HeardRecord(Struct, array_like=True, omit_defaults=True):
    """Heard position: the last number taken, and the client's report."""

    taken: Seq = NO_SEQ
    seq: int | None = None
    audio_ms: int | None = None
    chars: int | None = None


class StoredTurn(Struct, omit_defaults=True):
    """A turn.

    Args:
        turn_id: Its id.
        input: The input that it answers.
        at: The session's last number at the time of this record.
        stage: Whether it waits, runs or has ended.
        barges_in: Whether its input interrupts.
        started: Whether `turn.started` was numbered.
        heard: Its heard position.
        calls: Its tool calls that have begun.
        usage: Tokens of its model calls.
        last_seq: Its last number.
        last_output_seq: Its last number before its end.
        lanes: Its output, once it has ended.
        end: Its end, without the heard text.
        heard_chars: Length of the heard text at its end.
        dropped: Whether a rewind dropped it.
    """

    turn_id: TurnId
    input: InputText
    at: Seq
    stage: Literal["queued", "running", "ended"]
    barges_in: bool = False
    started: bool = False
    heard: HeardRecord = field(default_factory=HeardRecord)
    calls: list[CallRecord] = field(default_factory=list)
    usage: Usage | None = None
    last_seq: Seq = NO_SEQ
    last_output_seq: Seq = NO_SEQ
    lanes: dict[str, LaneRecord] = field(default_factory=dict)
    end: TurnEnded | None = None
    heard_chars: int = 0
    dropped: bool = False


class Gap(Struct, frozen=True, array_like=True):
    """Numbers that a lost process may have given, and without any record.

    Args:
        last: The last number that was stored.
        first: The number after which the next process goes on; a snapshot may have told it.
        explained: Whether a turn was open, so that its output may have had such numbers.
    """

    last: Seq
    first: Seq
    explained: bool


class Head(Struct, omit_defaults=True):
    """A session without its turns.

    Args:
        session_id: Its public id.
        epoch: Name of its numbering.
        principal: The authenticated client; None without authentication.
        owner: The client whose share it uses.
        token: Hash of the newest token.
        previous: Hash of the token before, while that is valid.
        previous_until: Time until which it is, in seconds since 1970.
        confirmed: Whether the client has the newest token.
        viewer: Hash of the viewer token.
        metadata: The application's parameters.
        values: The author's values, encoded.
        early: Interrupts for inputs that have not arrived.
        gaps: Numbers that nobody knows.
        seed: Messages before the session, from the application.
        created_at: Time of its start, in seconds since 1970.
    """

    session_id: SessionId
    epoch: Epoch
    principal: str | None = None
    owner: str = ""
    token: bytes = b""
    previous: bytes = b""
    previous_until: float = 0.0
    confirmed: bool = True
    viewer: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Raw] = field(default_factory=dict)
    early: list[Interrupt] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    seed: list[dict[str, Any]] = field(default_factory=list)
    created_at: float = 0.0


class Changes(Struct, frozen=True):
    """Part of a session to be written in one step.

    Args:
        seq: The session's last number.
        mark: The binding changes that it contains.
        whole: Whether it replaces all that the store has of the session.
        head: The encoded `Head`; None when that is unchanged.
        turns: Changed turns: id, place in the history, encoded `StoredTurn`.
        dropped: Turns to be deleted.
        ended: Turns whose pieces are to be deleted.
        replies: New answers: request id, encoded answer. The store keeps the last 1,024.
        pieces: New output: turn, number, encoded `Piece`.
    """

    seq: Seq
    mark: int
    whole: bool = False
    head: bytes | None = None
    turns: list[tuple[TurnId, int, bytes]] = field(default_factory=list)
    dropped: list[TurnId] = field(default_factory=list)
    ended: list[TurnId] = field(default_factory=list)
    replies: list[tuple[str, bytes]] = field(default_factory=list)
    pieces: list[tuple[TurnId, int, bytes]] = field(default_factory=list)


class Stored(Struct, frozen=True):
    """A whole session of a store.

    Args:
        head: The session.
        seq: Its last stored number.
        clean: Whether its last process released it, so that nothing is missing.
        turns: Its turns, in the order of the history, each with its place there.
        replies: Its last answers, oldest first.
        pieces: Output of its open turn, in order.
    """

    head: Head
    seq: Seq
    clean: bool
    turns: list[tuple[int, StoredTurn]] = field(default_factory=list)
    replies: list[tuple[str, Reply]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)


class BadRecord(ValueError):
    """A record cannot be decoded: it is damaged, or of a newer version."""


def encode(record: Struct) -> bytes:
    """Return a record as JSON.

    A value of an author that has no form in JSON, such as half a character, is replaced.
    """
    try:
        return _encode(record)
    except (UnicodeError, TypeError, ValueError, OverflowError, RecursionError):
        return _encode(_legal(msgspec.to_builtins(record, builtin_types=(), enc_hook=repr)))


def _legal(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth > 64:
        return None
    if isinstance(value, dict):
        return {_legal(str(key)): _legal(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_legal(item, depth + 1) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 1e300 else None
    return value


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head)
_turn = msgspec.json.Decoder(StoredTurn)
_reply: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_piece = msgspec.json.Decoder(Piece)


def decoded(
    head: bytes | str,
    seq: int,
    clean: bool,
    turns: list[tuple[int, str]],
    replies: list[tuple[str, str]],
    pieces: list[str],
) -> Stored:
    """Return a session from its encoded records.

    Raises:
        BadRecord: One of them cannot be decoded.
    """
    try:
        return Stored(
            _head.decode(head),
            Seq(seq),
            clean,
            [(position, _turn.decode(turn)) for position, turn in turns],
            [(request_id, _reply.decode(reply)) for request_id, reply in replies],
            [_piece.decode(piece) for piece in pieces],
        )
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRecord(f"a record cannot be read: {error}") from None
