"""Text run: tail of the replay log and of a turn's text, in one object.

Single tokens are most of a server's output, and with hundreds of sessions the records of a turn leave the
processor's caches between two tokens. So a piece of text touches this object alone: `append` numbers and
encodes it, and adds it to the list of pieces that the turn's text holds too. The dependent counters (the
log's size, the turn's last number and heard position) are updated when the run is settled
(`Sequencer.settle`). The core does that itself before it numbers or reads anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from msgspec import Struct

from bargein_protocol import Codec, IndexedText, Seq, TextDelta, TurnId

from .plain_values import plain_text

MAX_UNSETTLED = 128
"""Maximum number of pieces between two updates of the records."""


_CLOSED: Any = ()  # no list in each of the runs that the log holds


class TextRun(Struct, gc=False, eq=False):  # no cycle can contain it
    """Text deltas of a turn's main lane with consecutive numbers.

    Attributes:
        codec: Codec of the frames.
        turn_id: The turn.
        text: The text of the turn's main lane, which holds every piece under its number; once that is
            full, a text of the log alone.
        first: Number of the first delta that the log still has.
        next_seq: Number of the next delta.
        size: Bytes of the frames from `first` on.
        pieces: Tail of `text`; empty while the run is settled.
        open: Whether text may be appended without asking the session.
        deferred: Text that the flush scheduler writes in one of the loop's next iterations. It has
            no number yet, so an interrupt purges it.
        written_at: When the last piece was written, in seconds of the session's clock.
        room: Characters for which the turn's record still has room.
        unsettled: Pieces that the records do not count yet.
        unsettled_size: Bytes of their frames.
    """

    codec: Codec
    turn_id: TurnId
    text: IndexedText
    first: Seq
    next_seq: Seq
    size: int = 0
    pieces: list[str] = _CLOSED
    open: bool = False
    deferred: Sequence[str] = ()
    written_at: float = 0.0
    room: int = 0
    unsettled: int = 0
    unsettled_size: int = 0

    def append(self, text: str, now: float) -> bytes | None:
        """Number a piece of text; return its frame, which counts as written.

        Args:
            text: At least one character. A lone surrogate, as from the boundary of two chunks, is
                replaced.
            now: The time in seconds.

        Returns:
            None when the records must be updated first, or cannot hold the text; the run is unchanged.
        """
        room = self.room - len(text)
        if room < 0 or self.unsettled >= MAX_UNSETTLED:
            return None
        seq = self.next_seq
        try:
            frame = self.codec.encode(TextDelta(seq=seq, turn_id=self.turn_id, text=text))
        except UnicodeEncodeError:
            return self.append(plain_text(text), now)
        self.room = room
        self.pieces.append(text)
        self.next_seq = seq + 1  # type: ignore[assignment]  # calling a NewType would cost a call per token
        self.unsettled += 1
        self.unsettled_size += len(frame)
        self.written_at = now
        return frame

    def extend(self, texts: Sequence[str], now: float, limit: float = inf) -> list[bytes]:
        """Number pieces of text as `append` does, in less time for each.

        Args:
            texts: The pieces.
            now: The time in seconds.
            limit: Maximum bytes of the frames; the last frame may exceed them.

        Returns:
            The frames of the first pieces, as far as the records and the limit have room.
        """
        encode, turn_id, seq, room = self.codec.encode, self.turn_id, self.next_seq, self.room
        frames: list[bytes] = []
        size = 0
        for text in texts[: MAX_UNSETTLED - self.unsettled]:
            room -= len(text)
            if room < 0 or size >= limit:
                break
            try:
                frame = encode(TextDelta(seq=seq, turn_id=turn_id, text=text))
            except UnicodeEncodeError:
                room += len(text)
                text = plain_text(text)  # two halves of a character become one
                room -= len(text)
                frame = encode(TextDelta(seq=seq, turn_id=turn_id, text=text))
            self.pieces.append(text)
            self.room = room
            frames.append(frame)
            size += len(frame)
            seq = seq + 1  # type: ignore[assignment]  # see `append`
        self.next_seq = seq
        self.unsettled += len(frames)
        self.unsettled_size += size
        if frames:
            self.written_at = now
        return frames

    def append_deferred(self, now: float) -> list[bytes]:
        """Append the deferred text, as far as the records have room for it."""
        frames = self.extend(self.deferred, now)
        self.deferred = self.deferred[len(frames) :]
        return frames

    def frame(self, seq: Seq, codec: Codec) -> bytes:
        """Return the frame of a delta, encoded anew."""
        return codec.encode(TextDelta(seq=seq, turn_id=self.turn_id, text=self.text.piece(seq)))

    def settle(self) -> tuple[int, int]:
        """Update the turn's text; return count and bytes of the added deltas."""
        count, size = self.unsettled, self.unsettled_size
        self.size += size
        self.unsettled = self.unsettled_size = 0
        self.pieces = _CLOSED
        self.text.grow(self.next_seq - count, count, self.text.max_chars - self.text.length - self.room)
        return count, size

    def drop_first(self) -> int:
        """Drop the first delta; return its share of the run's bytes."""
        size = self.size // (self.next_seq - self.first)
        self.size -= size
        self.first = Seq(self.first + 1)
        return size
