"""Records of sessions as arguments and answers of the Redis scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bargein_protocol import SessionId

from ..core.records import VERSION, BadRecord, decoded
from .interface import MAX_TITLE_CHARS, StoredSession, StoreError, Summary, Write
from .shared import MoveRequest


def keys_of(prefix: str, session_id: SessionId) -> tuple[str, str, str, str, str]:
    """Return the keys of a session: meta, turns, answers, output, tombstone."""
    tag = f"{prefix}{{{session_id}}}:"
    return f"{tag}m", f"{tag}t", f"{tag}a", f"{tag}w", f"{tag}x"


def uses(write: Write) -> bool:
    """Return whether a write counts as use of the session; output does not."""
    return write.released or write.changes.head is not None or bool(write.changes.turns)


def arguments(write: Write, ttl_ms: int) -> list[Any]:
    """Return the arguments of `WRITE`."""
    changes = write.changes
    args: list[Any] = [write.fence, write.follows, int(changes.whole), ttl_ms, changes.seq]
    meta: list[Any] = []
    if uses(write):
        meta += ["c", int(write.released), "u", repr(write.used_at), "v", VERSION]
    if changes.head is not None:
        meta += ["h", changes.head]
    if changes.whole:
        meta += ["p", _principal(write.principal), "b", repr(write.created_at)]
    turns = [part for turn_id, place, record in changes.turns for part in (turn_id, _turn(place, record))]
    answers = [request_id.encode() + b"\n" + answer for request_id, answer in changes.replies]
    for part in (meta, turns, changes.dropped, changes.ended, answers, [p for _, _, p in changes.pieces]):
        args.append(len(part))
        args += part
    return args


def _turn(place: int, record: bytes) -> bytes:
    return b"%d\n%b" % (place, record)


def _principal(principal: str | None) -> str:
    return "-" if principal is None else f"={principal}"


def stored_session(answer: Any, rollback: float = 0.0) -> StoredSession | None:
    """Return the session of an answer to `READ`, None for an unknown one.

    Args:
        answer: The answer.
        rollback: Time at which the store had forgotten something, by its clock; 0 if it never has.

    Raises:
        BadRecord: Its records are damaged.
        StoreError: A newer version of the server has written it.
    """
    if not answer:
        return None
    meta, turns, answers, pieces = answer
    fence, writes, seq, clean, used_at, head, kept_at, version, name = meta
    written = int(version) if (version or b"").isdigit() else 1
    if written > VERSION:
        # Its client comes again, and finds a server of that version during a deploy.
        raise StoreError("newer", "a session was written by a newer version of bargein: use that")
    try:
        replies: dict[str, str] = {}
        for request_id, reply in map(_split, answers):
            replies.setdefault(request_id, reply)
        stored = decoded(
            head,
            int(seq),
            clean == b"1",
            sorted(((int(place), record) for place, record in map(_split, turns)), key=lambda turn: turn[0]),
            list(replies.items()),
            [piece.decode() for piece in pieces],
        )
        forgot = float(kept_at or 0) <= rollback
        named, older = name.decode() if name else None, written < VERSION
        return StoredSession(stored, fence.decode(), int(writes), float(used_at), forgot, older, named)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRecord(f"a record cannot be read: {type(error).__name__}") from None


def _split(row: bytes) -> tuple[str, str]:
    first, _, rest = row.decode().partition("\n")
    return first, rest


def request_of(row: bytes, now: float) -> MoveRequest:
    """Return a request of a mailbox, older by the time for which it was there.

    Args:
        row: The request, as `ASK` has put it there.
        now: The time of the store in seconds since 1970.
    """
    put_at, _, encoded = row.partition(b" ")
    request = msgspec.json.decode(encoded, type=MoveRequest)
    return replace(request, age_s=request.age_s + max(0.0, now - float(put_at)))


class _Asked(Struct):
    text: str = ""


class _Titled(Struct):
    input: _Asked


_titled = msgspec.json.Decoder(_Titled)


def summaries(session_ids: list[SessionId], answers: list[Any]) -> Iterator[Summary]:
    """Return summaries of existing sessions from answers to `SUMMARY`."""
    for session_id, answer in zip(session_ids, answers, strict=True):
        if answer:
            principal, created_at, used_at, turns, record, name = answer
            first = ""
            if record:
                with suppress(msgspec.MsgspecError):  # a damaged record; the session is listed all the same
                    first = _titled.decode(record).input.text[:MAX_TITLE_CHARS]
            yield Summary(
                session_id=session_id,
                principal=principal.decode()[1:] if principal[:1] == b"=" else None,
                title=name.decode() if name else first,
                named=bool(name),
                turns=int(turns),
                created_at=float(created_at),
                used_at=float(used_at),
            )
