"""The replay log: the last numbered frames of a session, as they were encoded.

A frame is logged in the step in which it is numbered, so the log has no holes. It is bounded in
events and in bytes; what falls off is replaced by a snapshot on resume.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Protocol

from bargein_protocol import Codec, Seq, TurnId


class ReplayLog(Protocol):
    """The last numbered frames of one epoch.

    Attributes:
        top: The last number; 0 before the first.
        first: The oldest number that can still be read; `top + 1` when there is none.
    """

    top: Seq
    first: Seq

    def append(self, frame: bytes, codec: Codec, turn_id: TurnId) -> None:
        """Store the frame under the number `top + 1`."""
        ...

    def read(self, seq: Seq, codec: Codec) -> tuple[bytes, TurnId]:
        """Return the frame with this number, in this codec, and its turn.

        Raises:
            KeyError: It has fallen off, or is not there yet.
        """
        ...


class _Run:
    """A stretch of entries that share codec and turn."""

    __slots__ = ("codec", "first", "turn_id")

    def __init__(self, first: int, codec: Codec, turn_id: TurnId) -> None:
        self.first = first
        self.codec = codec
        self.turn_id = turn_id


_first = attrgetter("first")


class MemoryLog:
    """A replay log in one packed buffer: a frame costs its bytes and four more.

    Args:
        max_events: At most this many frames are kept.
        max_bytes: And at most this many bytes of them.
    """

    __slots__ = ("_data", "_ends", "_max_bytes", "_max_events", "_runs", "_trimmed", "first", "top")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.top = Seq(0)
        self.first = Seq(1)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._ends = array("Q")  # offsets in the whole stream of bytes; _trimmed of them are gone
        self._trimmed = 0
        self._runs: list[_Run] = []

    def append(self, frame: bytes, codec: Codec, turn_id: TurnId) -> None:
        """Store the frame under the number `top + 1`."""
        self.top = top = Seq(self.top + 1)
        data = self._data
        data += frame
        self._ends.append(self._trimmed + len(data))
        runs = self._runs
        if not runs or runs[-1].turn_id != turn_id or runs[-1].codec is not codec:
            runs.append(_Run(top, codec, turn_id))
        if len(self._ends) > self._max_events or len(data) > self._max_bytes:
            self._trim()

    def read(self, seq: Seq, codec: Codec) -> tuple[bytes, TurnId]:
        """Return the frame with this number, in this codec, and its turn."""
        if not self.first <= seq <= self.top:
            raise KeyError(f"expected a number from {self.first} to {self.top}, got {seq}")
        index = seq - self.first
        start = self._ends[index - 1] if index else self._trimmed
        frame = bytes(self._data[start - self._trimmed : self._ends[index] - self._trimmed])
        run = self._runs[bisect_right(self._runs, seq, key=_first) - 1]
        if run.codec is not codec:
            frame = codec.encode(run.codec.decode_server(frame))  # type: ignore[arg-type]
        return frame, run.turn_id

    def _trim(self) -> None:
        # Trimmed a sixteenth at a time: moving the rest for each frame would cost more than the frame.
        events = self._max_events - self._max_events // 16
        room = self._max_bytes - self._max_bytes // 16
        drop = max(0, len(self._ends) - events)
        total = self._trimmed + len(self._data)
        while drop < len(self._ends) and total - self._end_before(drop) > room:
            drop += 1
        cut = self._end_before(drop)
        del self._data[: cut - self._trimmed]
        del self._ends[:drop]
        self._trimmed = cut
        self.first = Seq(self.first + drop)
        while len(self._runs) > 1 and self._runs[1].first <= self.first:
            del self._runs[0]

    def _end_before(self, index: int) -> int:
        return self._ends[index - 1] if index else self._trimmed


NewLog = Callable[[], ReplayLog]
