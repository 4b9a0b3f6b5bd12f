"""Text in pieces with the numbers of their events, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
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
        room = self.max_chars - self.length
        if len(text) > room:
            if room:
                self.append(text[:room], seq)
            return False
        self.tail().append(text)
        self.grow(seq, 1, len(text))
        return True

    def tail(self) -> list[str]:
        """Return the list of the last pieces.

        After an append to it, `grow` must be called.
        """
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
        if self._seqs is not None or (seq != self._next_seq and self._next_seq >= 0):
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
