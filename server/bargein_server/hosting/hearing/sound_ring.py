"""Recent sound of a session, by position on its audio clock."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...voice.interfaces import Samples


class SoundRing:
    """Recent sound of one session, kept as int16: 32 KB a second.

    Args:
        at: Position of the first sample.

    Attributes:
        end: Position after the last sample.
    """

    __slots__ = ("_pieces", "end")

    def __init__(self, at: int) -> None:
        self.end = at
        self._pieces: deque[tuple[int, NDArray[np.int16]]] = deque()

    def __len__(self) -> int:
        return self.end - self._pieces[0][0] if self._pieces else 0

    def append(self, sound: Samples) -> None:
        """Append samples."""
        import numpy

        if len(sound):
            whole = numpy.clip(numpy.rint(sound * 32768), -32768, 32767).astype(numpy.int16)
            self._pieces.append((self.end, whole))
            self.end += len(whole)

    def forget(self, before: int) -> None:
        """Drop pieces that end before a position."""
        pieces = self._pieces
        while pieces and pieces[0][0] + len(pieces[0][1]) <= before:
            pieces.popleft()

    def cut(self, start: int, end: int) -> Samples:
        """Return a copy of the sound between two positions, as far as it is kept."""
        import numpy

        found = [
            piece[max(0, start - at) : end - at]
            for at, piece in tuple(self._pieces)
            if at < end and at + len(piece) > start
        ]
        if not found:
            return numpy.zeros(0, dtype=numpy.float32)
        return numpy.concatenate(found).astype(numpy.float32) / numpy.float32(32768)
