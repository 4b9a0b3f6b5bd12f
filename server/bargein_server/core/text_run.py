"""Text as it is written: the tail of the replay log and of its turn's text, in one object.

Text that trickles is most of what a server sends, and the records of a turn leave the processor's
caches between two tokens when there are hundreds of sessions. So a piece of text touches this object
and nothing else: `append` numbers and encodes it, and adds it to the list of pieces that the turn's
text holds too. The counters that depend on it (the log's size, the turn's last number and heard
position) follow when the run is settled (`Sequencer.settle`), which the core does itself before it
numbers or looks at anything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from bargein_protocol import Codec, IndexedText, Seq, TextDelta, TurnId

MAX_UNSETTLED = 128
"""Pieces that may be appended before the records must follow."""


class TextRun(Struct, gc=False, eq=False):  # it leads to nothing that leads back to it
    """Text deltas of a turn's main lane with consecutive numbers.

    Attributes:
        codec: Encodes the frames.
        turn_id: The turn.
        text: The text of the turn's main lane, which holds every piece under its number.
        first: Number of the first delta that the log still has.
        next_seq: Number of the next delta.
        size: Bytes of the frames from `first` on.
        pieces: Tail of `text`.
        open: Whether text may be appended without asking the session.
        deferred: Text that the flush scheduler writes in one of the loop's next iterations. It has
            no number yet, so an interrupt purges it.
        written_at: When the last piece was written, in seconds of the session's clock.
        room: Characters that the turn's record still takes.
        unsettled: Pieces that the records do not count yet.
        unsettled_size: Bytes of their frames.
    """

    codec: Codec
    turn_id: TurnId
    text: IndexedText
    first: Seq
    next_seq: Seq
    size: int = 0
    pieces: list[str] = field(default_factory=list)
    open: bool = False
    deferred: Sequence[str] = ()
    written_at: float = 0.0
    room: int = 0
    unsettled: int = 0
    unsettled_size: int = 0

    def append(self, text: str, now: float) -> bytes | None:
        """Number a piece of text and return its frame, which counts as written in this step.

        Args:
            text: At least one character. A lone surrogate, which the seam of two chunks can leave
                behind, is replaced.
            now: The time in seconds.

        Returns:
            None when the records must follow first, or cannot hold the text; nothing has changed.
        """
        room = self.room - len(text)
        if room < 0 or self.unsettled >= MAX_UNSETTLED:
            return None
        seq = self.next_seq
        try:
            frame = self.codec.encode(TextDelta(seq=seq, turn_id=self.turn_id, text=text))
        except UnicodeEncodeError:
            return self.append(text.encode("utf-8", "replace").decode(), now)
        self.room = room
        self.pieces.append(text)
        self.next_seq = seq + 1  # type: ignore[assignment]  # calling a NewType would cost a call per token
        self.unsettled += 1
        self.unsettled_size += len(frame)
        self.written_at = now
        return frame

    def append_deferred(self, now: float) -> list[bytes]:
        """Append the deferred text; what the records have no room for goes on waiting."""
        frames: list[bytes] = []
        for text in self.deferred:
            frame = self.append(text, now)
            if frame is None:
                break
            frames.append(frame)
        self.deferred = self.deferred[len(frames) :]
        return frames

    def frame(self, seq: Seq, codec: Codec) -> bytes:
        """Return the frame of a delta, encoded anew."""
        return codec.encode(TextDelta(seq=seq, turn_id=self.turn_id, text=self.text.piece(seq)))

    def settle(self) -> tuple[int, int]:
        """Bring the turn's text up to date; return the count and bytes of the deltas that were added."""
        count, size = self.unsettled, self.unsettled_size
        self.size += size
        self.unsettled = self.unsettled_size = 0
        self.text.grow(self.next_seq - count, count, self.text.max_chars - self.text.length - self.room)
        return count, size

    def drop_first(self) -> int:
        """Let go of the first delta; return the bytes that it counted for: the mean of the run's."""
        size = self.size // (self.next_seq - self.first)
        self.size -= size
        self.first = Seq(self.first + 1)
        return size
