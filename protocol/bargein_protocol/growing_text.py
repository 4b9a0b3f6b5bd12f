"""Text that comes in pieces: which event brought which character, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter

from .types import MAX_TEXT_CHARS, NO_SEQ, Seq

# How many pieces are packed at a time. More would hold more small strings, fewer are joined more often.
_PACKED_PIECES = 64
_position = itemgetter(0)


class GrowingText:
    """Text that grows by pieces, each with the number of its event.

    It keeps at most `max_chars` characters; what comes later is dropped. A piece costs its characters
    and four bytes: pieces are packed together, and numbers that follow one another are not stored.

    Attributes:
        length: Characters.
    """

    __slots__ = (
        "_blocks", "_ends", "_max_chars", "_next_seq", "_pieces", "_run_pieces", "_run_seqs", "length",
    )  # fmt: skip

    def __init__(self, text: str = "", seq: Seq = NO_SEQ, *, max_chars: int = MAX_TEXT_CHARS) -> None:
        self.length = 0
        self._max_chars = max_chars
        self._blocks: list[tuple[int, str]] = []  # packed pieces, by the position of their first character
        self._ends = array("I")  # of every packed piece, in characters
        self._pieces: list[str] = []  # that are not packed yet
        self._next_seq = -1
        self._run_seqs = array("Q")  # where numbers do not follow one another: the number that comes then
        self._run_pieces = array("I")  # and the index of its piece
        if text:
            self.append(text, seq)

    def append(self, text: str, seq: int) -> bool:
        """Add a piece; `seq` never goes down.

        Returns:
            Whether it was kept whole.
        """
        length = self.length + len(text)
        if length > self._max_chars:
            rest = text[: self._max_chars - self.length]
            if rest:
                self.append(rest, seq)
            return False
        pieces = self._pieces
        if seq != self._next_seq:
            self._run_seqs.append(seq)
            self._run_pieces.append(len(self._ends) + len(pieces))
        self._next_seq = seq + 1
        pieces.append(text)
        self.length = length
        if len(pieces) >= _PACKED_PIECES:
            self._pack()
        return True

    def extend(self, texts: Sequence[str], seq: int) -> bool:
        """Add pieces whose numbers follow one another from `seq` on.

        Returns:
            Whether there was room for all of them; if not, nothing has changed.
        """
        length = self.length + sum(map(len, texts))
        if length > self._max_chars:
            return False
        if texts:
            pieces = self._pieces
            if seq != self._next_seq:
                self._run_seqs.append(seq)
                self._run_pieces.append(len(self._ends) + len(pieces))
            self._next_seq = seq + len(texts)
            pieces += texts
            self.length = length
            if len(pieces) >= _PACKED_PIECES:
                self._pack()
        return True

    def __str__(self) -> str:
        if self._pieces:
            self._pack()
        if len(self._blocks) > 1:
            self._blocks = [(0, "".join([block for _, block in self._blocks]))]
        return self._blocks[0][1] if self._blocks else ""

    def piece(self, seq: int) -> str:
        """Return what came with an event.

        Raises:
            KeyError: None of the text did.
        """
        index = self._pieces_up_to(seq) - 1
        if index < 0 or self._seq_of(index) != seq:
            raise KeyError(f"no text came with number {seq}")
        if index >= len(self._ends):
            return self._pieces[index - len(self._ends)]
        start, end = self._ends[index - 1] if index else 0, self._ends[index]
        first, block = self._blocks[bisect_right(self._blocks, start, key=_position) - 1]
        return block[start - first : end - first]

    def chars_at(self, seq: int) -> int:
        """Return how many characters came with events up to and including `seq`."""
        pieces, packed = self._pieces_up_to(seq), len(self._ends)
        if pieces > packed:
            return self.length - sum(map(len, self._pieces[pieces - packed :]))
        return self._ends[pieces - 1] if pieces else 0

    def seq_at(self, chars: int) -> Seq:
        """Return the last event that lies wholly within the first `chars` characters."""
        pieces, end = bisect_right(self._ends, chars), self._ends[-1] if self._ends else 0
        if pieces == len(self._ends):
            for piece in self._pieces:
                end += len(piece)
                if end > chars:
                    break
                pieces += 1
        return self._seq_of(pieces - 1) if pieces else NO_SEQ

    def _pack(self) -> None:
        start = self._ends[-1] if self._ends else 0
        ends = accumulate(map(len, self._pieces), initial=start)
        next(ends)  # the start, which is no end of a piece
        self._ends.extend(ends)
        self._blocks.append((start, "".join(self._pieces)))
        self._pieces.clear()

    def _pieces_up_to(self, seq: int) -> int:
        run = bisect_right(self._run_seqs, seq) - 1
        if run < 0:
            return 0
        following = run + 1
        known = len(self._ends) + len(self._pieces)
        end = self._run_pieces[following] if following < len(self._run_pieces) else known
        return min(end, self._run_pieces[run] + seq - self._run_seqs[run] + 1)

    def _seq_of(self, index: int) -> Seq:
        run = bisect_right(self._run_pieces, index) - 1
        return Seq(self._run_seqs[run] + index - self._run_pieces[run])
