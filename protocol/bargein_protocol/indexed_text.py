"""Text that comes in pieces: which event brought which character, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate

from msgspec import Struct, field

from .types import MAX_TEXT_CHARS, NO_SEQ, Seq

# How many pieces are packed at a time, and how many times as many there are before that takes longer:
# to pack them copies all of the text.
_PACKED_PIECES = 64
_PACKED_SHARE = 8

_INDEX_BYTES = array("I").itemsize


class IndexedText(Struct, gc=False, eq=False):
    """Text that grows by pieces, each with the number of its event.

    It keeps at most `max_chars` characters; what comes later is dropped. A piece costs its characters
    and four bytes, since pieces are packed together. Their numbers are stored only when they do not
    follow one another.

    A server holds one for each turn that it remembers. So the garbage collector does not walk through it,
    nor, once it is packed, through anything that it holds.

    To ask for the whole text is what an interrupt waits for, so that joins pieces and does no more.

    Attributes:
        max_chars: How much is kept.
        length: Characters.
    """

    max_chars: int = MAX_TEXT_CHARS
    length: int = 0
    _packed: str = ""
    _ends: bytearray = field(default_factory=bytearray)  # of every packed piece, in characters
    _pieces: list[str] | tuple[()] = ()  # that are not packed yet
    _joined: bool = False  # whether they are in `_packed` already, and only their ends are missing
    _next_seq: int = -1  # after that of the last piece
    _seqs: array[int] | None = None  # of every piece; None while they follow one another

    @classmethod
    def of(cls, text: str, seq: Seq) -> IndexedText:
        """Return one with this text, all of which came with one event."""
        growing = cls()
        if text:
            growing.append(text, seq)
        return growing

    def append(self, text: str, seq: int) -> bool:
        """Add a piece; `seq` never goes down.

        Returns:
            Whether it was kept whole.
        """
        room = self.max_chars - self.length
        if len(text) > room:
            if room:
                self.append(text[:room], seq)
            return False
        self.tail().append(text)
        self.grow(seq, 1, len(text))
        return True

    def tail(self) -> list[str]:
        """Return the list that ends the text: pieces may be appended to it, then `grow` must follow."""
        if self._joined:
            self.pack()
        if isinstance(self._pieces, tuple):
            self._pieces = []
        return self._pieces

    def grow(self, seq: int, count: int, chars: int) -> None:
        """Count pieces that were appended to the tail.

        Args:
            seq: Number of the first of them; the others follow it.
            count: How many there are.
            chars: How long they are together; the caller keeps within `max_chars`.
        """
        if self._seqs is not None or (seq != self._next_seq and self.length):
            self._number(seq, count)
        self._next_seq = seq + count
        self.length += chars
        if len(self._pieces) >= _PACKED_PIECES:
            self._pack_if_many()

    def __str__(self) -> str:
        if self._pieces and not self._joined:
            self._packed = "".join((self._packed, *self._pieces))
            self._joined = True
        return self._packed

    def pack(self) -> None:
        """Take as little memory as can be: nothing is added any more, or not for a while."""
        if self._pieces:
            whole, lengths = str(self), [len(piece) for piece in self._pieces]
            ends = accumulate(lengths, initial=len(whole) - sum(lengths))
            next(ends)  # the start, which is no end of a piece
            self._ends += array("I", ends)
            self._pieces, self._joined = (), False

    def piece(self, seq: int) -> str:
        """Return what came with an event.

        Raises:
            KeyError: None of the text did.
        """
        index = self._pieces_up_to(seq) - 1
        if index < 0 or self._seq_of(index) != seq:
            raise KeyError(f"no text came with number {seq}")
        ends = self._packed_ends()
        if index >= len(ends):
            return self._pieces[index - len(ends)]
        return self._packed[ends[index - 1] if index else 0 : ends[index]]

    def chars_at(self, seq: int) -> int:
        """Return how many characters came with events up to and including `seq`."""
        if seq + 1 >= self._next_seq:
            return self.length
        pieces, ends = self._pieces_up_to(seq), self._packed_ends()
        if pieces > len(ends):
            return self.length - sum(map(len, self._pieces[pieces - len(ends) :]))
        return ends[pieces - 1] if pieces else 0

    def seq_at(self, chars: int) -> Seq:
        """Return the last event that lies wholly within the first `chars` characters."""
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
        before = self._count - count
        if self._seqs is None and before:
            self._seqs = array("Q", range(self._next_seq - before, self._next_seq))
        if self._seqs is not None:
            self._seqs.extend(range(seq, seq + count))

    def _pack_if_many(self) -> None:
        if len(self._pieces) * _INDEX_BYTES * _PACKED_SHARE >= len(self._ends):
            self.pack()

    def _pieces_up_to(self, seq: int) -> int:
        if self._seqs is not None:
            return bisect_right(self._seqs, seq)
        count = self._count
        return max(0, min(count, count + seq + 1 - self._next_seq))

    def _seq_of(self, index: int) -> Seq:
        return Seq(self._next_seq - self._count + index if self._seqs is None else self._seqs[index])
