"""Text in pieces with the numbers of their events, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct, field

from .types import MAX_TEXT_CHARS, NO_SEQ, Seq

# Pieces are packed when there are this many, or later, when the packed ones are this many times as many:
# packing copies all of the text.
_PACKED_PIECES = 64
_PACKED_SHARE = 8

_INDEX_BYTES = array("I").itemsize


class IndexedText(Struct, gc=False, eq=False):
    """Text that grows by pieces, each with the number of its event.

    It keeps at most `max_chars` characters; later ones are dropped. A piece costs its characters and four
    bytes, because pieces are packed together. Their numbers are stored only when they are not contiguous.

    A server keeps one for each turn in memory. So the garbage collector does not traverse it, nor, once it
    is packed, anything in it.

    An interrupt waits for the whole text, so reading it joins the pieces and does nothing else.

    Attributes:
        max_chars: Maximum number of characters.
        length: Number of characters.
    """

    max_chars: int = MAX_TEXT_CHARS
    length: int = 0
    _packed: str = ""
    _ends: bytearray = field(default_factory=bytearray)  # ends of the packed pieces, in characters
    _pieces: list[str] | tuple[()] = ()  # pieces that are not packed yet
    _joined: bool = False  # whether `_pieces` are in `_packed` already, without their ends
    _next_seq: int = -1  # number after the last piece
    _seqs: array[int] | None = None  # numbers of all pieces; None while contiguous

    @classmethod
    def of(cls, text: str, seq: Seq) -> IndexedText:
        """Return a text that came with one event."""
        growing = cls()
        if text:
            growing.append(text, seq)
        return growing

    def append(self, text: str, seq: int) -> bool:
        """Add a piece; `seq` never decreases.

        Returns:
            Whether it was kept completely.
        """
        length = self.length + len(text)
        if length > self.max_chars:
            rest = text[: self.max_chars - self.length]
            if rest:
                self.append(rest, seq)
            return False
        if seq != self._next_seq or self._seqs is not None:
            self._number(seq, 1)
        self._next_seq = seq + 1
        self.length = length
        if self._joined:
            self.pack()
        pieces = self._pieces
        if pieces:
            pieces.append(text)
            if len(pieces) >= _PACKED_PIECES:
                self._pack_if_many(pieces)
        else:
            self._pieces = [text]
        return True

    def extend(self, texts: Sequence[str], seq: int) -> bool:
        """Add pieces, numbered contiguously from `seq`.

        Returns:
            Whether all of them fit; if not, nothing has changed.
        """
        length = self.length + sum(map(len, texts))
        if length > self.max_chars:
            return False
        if not texts:
            return True
        if seq != self._next_seq or self._seqs is not None:
            self._number(seq, len(texts))
        self._next_seq = seq + len(texts)
        self.length = length
        if self._joined:
            self.pack()
        pieces = self._pieces
        if not pieces:
            pieces = self._pieces = []
        pieces += texts
        if len(pieces) >= _PACKED_PIECES:
            self._pack_if_many(pieces)
        return True

    def __str__(self) -> str:
        if self._pieces and not self._joined:
            self._packed = "".join((self._packed, *self._pieces))
            self._joined = True
        return self._packed

    @property
    def parts(self) -> tuple[str, Sequence[str]]:
        """The whole text without joining it: the first part and the pieces.

        The value is valid until a piece is added.
        """
        return self._packed, () if self._joined else self._pieces

    def pack(self) -> None:
        """Reduce memory, when no piece is added for a while."""
        if self._pieces:
            whole, lengths = str(self), [len(piece) for piece in self._pieces]
            ends = accumulate(lengths, initial=len(whole) - sum(lengths))
            next(ends)  # the start, which is not the end of a piece
            self._ends += array("I", ends)
            self._pieces, self._joined = (), False

    def piece(self, seq: int) -> str:
        """Return the piece of an event.

        Raises:
            KeyError: The event has no piece.
        """
        index = self._pieces_up_to(seq) - 1
        if index < 0 or self._seq_of(index) != seq:
            raise KeyError(f"no text came with number {seq}")
        ends = self._packed_ends()
        if index >= len(ends):
            return self._pieces[index - len(ends)]
        return self._packed[ends[index - 1] if index else 0 : ends[index]]

    def chars_at(self, seq: int) -> int:
        """Return the number of characters up to and including event `seq`."""
        if seq + 1 >= self._next_seq:
            return self.length
        pieces, ends = self._pieces_up_to(seq), self._packed_ends()
        if pieces > len(ends):
            return self.length - sum(map(len, self._pieces[pieces - len(ends) :]))
        return ends[pieces - 1] if pieces else 0

    def seq_at(self, chars: int) -> Seq:
        """Return the last event within the first `chars` characters."""
        ends = self._packed_ends()
        pieces, end = bisect_right(ends, chars), len(self._packed)
        if pieces == len(ends):
            for piece in self._pieces:
                end += len(piece)
                if end > chars:
                    break
                pieces += 1
        return self._seq_of(pieces - 1) if pieces else NO_SEQ

    @property
    def _count(self) -> int:
        return len(self._ends) // _INDEX_BYTES + len(self._pieces)

    def _packed_ends(self) -> memoryview[int]:
        if self._joined:
            self.pack()
        return memoryview(self._ends).cast("I")

    def _number(self, seq: int, count: int) -> None:
        before = self._count
        if self._seqs is None and before:
            self._seqs = array("Q", range(self._next_seq - before, self._next_seq))
        if self._seqs is not None:
            self._seqs.extend(range(seq, seq + count))

    def _pack_if_many(self, pieces: Sequence[str]) -> None:
        if len(pieces) * _INDEX_BYTES * _PACKED_SHARE >= len(self._ends):
            self.pack()

    def _pieces_up_to(self, seq: int) -> int:
        if self._seqs is not None:
            return bisect_right(self._seqs, seq)
        count = self._count
        return max(0, min(count, count + seq + 1 - self._next_seq))

    def _seq_of(self, index: int) -> Seq:
        return Seq(self._next_seq - self._count + index if self._seqs is None else self._seqs[index])
