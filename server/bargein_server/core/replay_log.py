"""The replay log: the last numbered frames of a session.

A frame is logged in the step in which it is numbered, or with its utterance (`utterance`), so the log
has no holes. It is bounded in events and in bytes; what falls off is replaced by a snapshot on resume.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Protocol

from msgspec import Struct, field

from bargein_protocol import Codec, IndexedText, Seq, TextDelta, TurnEnded, TurnId


class ReplayLog(Protocol):
    """The last numbered frames of one epoch.

    Attributes:
        top: The last number; 0 before the first.
        first: The oldest number that can still be read; `top + 1` when there is none.
    """

    top: Seq
    first: Seq

    def append(self, frame: bytes, codec: Codec, turn_id: TurnId, end: TurnEnded | None = None) -> None:
        """Store the frame under the number `top + 1`.

        Args:
            frame: As it was encoded.
            codec: In which.
            turn_id: Its turn, empty for an event of none.
            end: The event, if it is the end of a turn: what was heard is a part of the turn's text, so
                that a log in memory need not keep it a second time.
        """
        ...

    def append_spoken(self, count: int, size: int, codec: Codec, turn_id: TurnId, text: IndexedText) -> None:
        """Store text deltas of a turn's own voice under the numbers from `top + 1` on.

        Args:
            count: How many they are.
            size: The bytes of their frames, all together.
            codec: In which they were encoded.
            turn_id: Their turn.
            text: Where they stand whole under their numbers.
        """
        ...

    def read(self, seq: Seq, codec: Codec) -> tuple[bytes, TurnId]:
        """Return the frame with this number, in this codec, and its turn.

        Raises:
            KeyError: It has fallen off, or is not there yet.
        """
        ...


class _Run(Struct, gc=False, eq=False):  # it leads to nothing that leads back to it
    """A stretch of entries that share codec and turn.

    Attributes:
        first: The number of its first entry.
        entries: Frames, ends of turns, and None for what is spoken.
        spoken: Where that stands, None when nothing of it is.
        pieces: How many of its entries are spoken.
        spoken_bytes: And the size of their frames.
    """

    first: Seq
    codec: Codec
    turn_id: TurnId
    entries: list[bytes | TurnEnded | None] = field(default_factory=list)
    spoken: IndexedText | None = None
    pieces: int = 0
    spoken_bytes: int = 0

    def size_of(self, index: int) -> int:
        """Return the size of an entry, which is about to be dropped: of what is spoken, the mean."""
        entry = self.entries[index]
        if entry is not None:
            return len(entry if isinstance(entry, bytes) else self.codec.encode(entry))
        size = self.spoken_bytes // self.pieces
        self.pieces -= 1
        self.spoken_bytes -= size
        return size


_first = attrgetter("first")


class MemoryLog:
    """A replay log in memory. What was spoken is not kept twice: its frame is made anew when it is read.

    Args:
        max_events: At most this many frames are kept.
        max_bytes: And at most this many bytes of them, those that are made anew included. What was
            spoken in one turn counts with its mean size.
    """

    __slots__ = ("_max_bytes", "_max_events", "_run", "_runs", "_size", "first", "top")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.top = Seq(0)
        self.first = Seq(1)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._size = 0
        self._runs: list[_Run] = []
        self._run: _Run | None = None  # the last one

    def append(self, frame: bytes, codec: Codec, turn_id: TurnId, end: TurnEnded | None = None) -> None:
        """Store the frame under the number `top + 1`."""
        self._run_of(codec, turn_id).entries.append(frame if end is None else end)
        self._grown(1, len(frame))

    def append_spoken(self, count: int, size: int, codec: Codec, turn_id: TurnId, text: IndexedText) -> None:
        """Store text deltas of a turn's own voice under the numbers from `top + 1` on."""
        run = self._run_of(codec, turn_id)
        run.entries += [None] * count
        run.spoken = text
        run.pieces += count
        run.spoken_bytes += size
        self._grown(count, size)

    def _run_of(self, codec: Codec, turn_id: TurnId) -> _Run:
        run = self._run
        if run is None or run.turn_id != turn_id or run.codec is not codec:
            run = self._run = _Run(Seq(self.top + 1), codec, turn_id)
            self._runs.append(run)
        return run

    def _grown(self, count: int, size: int) -> None:
        self.top = top = self.top + count  # type: ignore[assignment]  # see Stream.commit_text
        self._size = size = self._size + size
        if size > self._max_bytes or top - self.first >= self._max_events:
            self._trim()

    def read(self, seq: Seq, codec: Codec) -> tuple[bytes, TurnId]:
        """Return the frame with this number, in this codec, and its turn."""
        if not self.first <= seq <= self.top:
            raise KeyError(f"expected a number from {self.first} to {self.top}, got {seq}")
        run = self._runs[bisect_right(self._runs, seq, key=_first) - 1]
        entry = run.entries[seq - run.first]
        if isinstance(entry, bytes):
            same = run.codec is codec
            frame = entry if same else codec.encode(run.codec.decode_server(entry))  # type: ignore[arg-type]
        elif entry is not None:
            frame = codec.encode(entry)
        else:
            assert run.spoken is not None
            frame = codec.encode(TextDelta(seq=seq, turn_id=run.turn_id, text=run.spoken.piece(seq)))
        return frame, run.turn_id

    def _trim(self) -> None:
        # A sixteenth at a time: cutting lists for each frame would cost more than the frame.
        most, room = self._max_events - self._max_events // 16, self._max_bytes - self._max_bytes // 16
        runs, dropped = self._runs, 0
        run, index = runs[0], 0
        while self.top - self.first >= most or self._size > room:
            self._size -= run.size_of(index)
            self.first = Seq(self.first + 1)
            index += 1
            if index == len(run.entries):
                dropped += 1
                if dropped == len(runs):
                    break
                run, index = runs[dropped], 0
        del runs[:dropped]
        if runs:
            del run.entries[:index]
            run.first = self.first
        else:
            self._run = None


NewLog = Callable[[], ReplayLog]
