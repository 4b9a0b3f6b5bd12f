"""What a turn says while nothing else happens in its session.

Text that trickles is what a server does most, and the least part of its cost is the text: with hundreds
of sessions, the records of a turn have left the processor's caches each time that they are wanted. So
while an utterance is open a piece of text is numbered, encoded and handed over, and nothing but this one
object is touched. The log, the text of the turn and its heard position get all pieces together when the
utterance ends (`OutputPump.enter`), which it does before anything else is asked of the session.

An interrupt is answered from it, too. The way through the session is longer, most of it through code and
records that have left the caches, and the user waits: so the frames are foretold and written, and then the
session is asked in the usual way, and must say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from msgspec import Struct

from bargein_protocol import (
    Heard,
    InputId,
    Interrupt,
    InterruptResult,
    Seq,
    ServerEvent,
    TextDelta,
    TurnEnded,
    TurnId,
    Usage,
)

from .turn_record import MAX_TURN_CHARS, interrupted_by
from .validation import TEXT_PIECE

# How many pieces an utterance may have: what a session may owe its log.
MAX_PIECES = 128


class Before(Struct, frozen=True, gc=False):
    """What had been when an utterance began, as far as the end of its turn tells of it.

    Args:
        input_id: What the turn answers.
        text: What it had said.
        texts: And what it had said after that.
        usage: What its model used.
        answered: The ids of requests that were answered.
    """

    input_id: InputId
    text: str
    texts: Sequence[str]
    usage: Usage | None
    answered: Container[str]


class Utterance:
    """Text of a turn's own voice, numbered and handed to the live client, that its records do not have yet.

    Args:
        turn_id: Who speaks.
        first: The number of its first piece.
        encode: Encodes for the client.
        before: What had been before; None when the end of the turn cannot be told from that.

    Attributes:
        pieces: The text, by its events.
        size: The bytes of their frames.
        said_at: When the last one was said.
    """

    __slots__ = ("_before", "_encode", "_next_seq", "first", "pieces", "said_at", "size", "turn_id")

    def __init__(
        self,
        turn_id: TurnId,
        first: Seq,
        encode: Callable[[ServerEvent], bytes],
        before: Before | None,
    ) -> None:
        self.turn_id = turn_id
        self.first = first
        self.pieces: list[str] = []
        self.size = 0
        self.said_at = 0.0
        self._before = before
        self._next_seq = first
        self._encode = encode

    def say(self, text: str, now: float) -> bytes | None:
        """Number a piece of text and return its frame, which counts as written in this step.

        Returns:
            None when it must take the usual way, `Session.emit`; then nothing has changed.
        """
        pieces, seq = self.pieces, self._next_seq
        if not 0 < len(text) <= TEXT_PIECE or len(pieces) >= MAX_PIECES:
            return None
        try:
            frame = self._encode(TextDelta(seq=seq, turn_id=self.turn_id, text=text))
        except UnicodeEncodeError:
            return None
        pieces.append(text)
        self._next_seq = seq + 1  # type: ignore[assignment]  # calling a NewType would cost a call per token
        self.size += len(frame)
        self.said_at = now
        return frame

    def take_back(self, count: int) -> list[str]:
        """Forget the last pieces, which were not written after all, and return them."""
        unsaid = self.pieces[-count:]
        del self.pieces[-count:]
        self._next_seq = first = Seq(self._next_seq - count)
        for seq, text in enumerate(unsaid, first):
            self.size -= len(self._encode(TextDelta(seq=Seq(seq), turn_id=self.turn_id, text=text)))
        return unsaid

    def foretell(self, event: Interrupt) -> list[bytes] | None:
        """Return the frames that the session will answer an interrupt with, if all that was said is written.

        Returns:
            None when that cannot be told from here. Nothing changes: the session is yet to be asked.
        """
        before, pieces = self._before, self.pieces
        if before is None or not pieces or event.played is not None or event.id in before.answered:
            return None
        if event.turn_id != self.turn_id and (
            event.turn_id is not None or event.input_id not in (None, before.input_id)
        ):
            return None
        text = "".join((before.text, *before.texts, *pieces))
        if len(text) > MAX_TURN_CHARS:
            return None
        turn_id, encode, last = self.turn_id, self._encode, Seq(self._next_seq - 1)
        ending = interrupted_by(event)
        end = TurnEnded(
            seq=self._next_seq,
            turn_id=turn_id,
            status=ending.status,
            reason=ending.reason,
            last_seq=last,
            heard=Heard(seq=last, text=text, audio_ms=0),
            usage=before.usage,
        )
        result = InterruptResult(interrupt_id=event.id, turn_id=turn_id, outcome="interrupted")
        return [encode(result), encode(end)]
