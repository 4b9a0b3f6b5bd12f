"""Replay log: the last numbered frames of a session.

A frame is logged in the step in which it is numbered; text is logged with its run (`text_run`). So the
log has no holes. It is bounded in events and in bytes; a snapshot replaces the frames that fall off.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from bargein_protocol import JSON, Codec, LaneState, Seq, Snapshot, ToolState, TurnEnded, TurnId, TurnState

from .text_run import TextRun


class ReplayLog(Protocol):
    """The last numbered frames of one epoch.

    Attributes:
        top: The last number; 0 before the first.
        first: The oldest number that can still be read; `top + 1` when there is none.
    """

    top: Seq
    first: Seq

    @property
    def kept_bytes(self) -> int:
        """Bytes that it keeps in the memory of this process."""
        ...

    def append(self, frame: bytes, codec: Codec, turn_id: TurnId, end: TurnEnded | None = None) -> None:
        """Store a frame under the number `top + 1`.

        Args:
            frame: The encoded event.
            codec: The codec that encoded it.
            turn_id: The event's turn; empty for an event without a turn.
            end: The event, if it ends a turn: the heard text is a part of the turn's text, so a log in
                memory need not keep it a second time.
        """
        ...

    def append_text(self, run: TextRun, added: tuple[int, int]) -> None:
        """Store the last text deltas of a run under the numbers from `top + 1` on.

        Args:
            run: The run, settled; it may grow later.
            added: Number of deltas, and bytes of their frames.
        """
        ...

    def read(self, seq: Seq, codec: Codec) -> tuple[bytes, TurnId]:
        """Return the frame with this number, in this codec, and its turn.

        Raises:
            KeyError: The frame was trimmed, or does not exist yet.
        """
        ...


class _FrameRun(Struct, gc=False, eq=False):  # no cycle can contain it
    """Consecutive frames that share codec and turn.

    Attributes:
        first: Number of the first frame.
        frames: The encoded events.
    """

    codec: Codec
    turn_id: TurnId
    first: Seq
    frames: list[bytes] = field(default_factory=list)

    @property
    def next_seq(self) -> int:
        """The number after the last frame."""
        return self.first + len(self.frames)

    def frame(self, seq: Seq, codec: Codec) -> bytes:
        """Return a frame, encoded anew when the codec is another one."""
        frame = self.frames[seq - self.first]
        if self.codec is codec:
            return frame
        return codec.encode(self.codec.decode_server(frame))  # type: ignore[arg-type]  # the log has no unknown events

    def drop_first(self) -> int:
        """Drop the first frame; return its size in bytes."""
        self.first = Seq(self.first + 1)
        return len(self.frames.pop(0))


class _EndRun(Struct, gc=False, eq=False):  # no cycle can contain it
    """The end of a turn, without a second copy of the heard text.

    Attributes:
        first: Its number.
        next_seq: The number after it.
    """

    codec: Codec
    turn_id: TurnId
    first: Seq
    next_seq: int
    end: TurnEnded

    def frame(self, seq: Seq, codec: Codec) -> bytes:
        """Return the frame, encoded anew."""
        return codec.encode(self.end)

    def drop_first(self) -> int:
        """Drop the end; return its size in bytes."""
        self.first = Seq(self.first + 1)
        return len(self.codec.encode(self.end))


_first = attrgetter("first")


class MemoryLog:
    """Replay log in memory.

    Text is stored once, in its turn; a frame of text is encoded anew when it is read.

    Args:
        max_events: Maximum number of frames.
        max_bytes: Maximum size of all frames together. A text delta counts with the mean size of its run.
    """

    __slots__ = ("_max_bytes", "_max_events", "_runs", "_size", "first", "top")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.top = Seq(0)
        self.first = Seq(1)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._size = 0
        self._runs: list[_FrameRun | _EndRun | TextRun] = []

    @property
    def kept_bytes(self) -> int:
        """Size of all frames together."""
        return self._size

    def append(self, frame: bytes, codec: Codec, turn_id: TurnId, end: TurnEnded | None = None) -> None:
        """Store a frame under the number `top + 1`."""
        run, seq = self._runs[-1] if self._runs else None, Seq(self.top + 1)
        if end is not None:
            self._runs.append(_EndRun(codec, turn_id, seq, seq + 1, end))
        elif type(run) is _FrameRun and run.turn_id == turn_id and run.codec is codec:
            run.frames.append(frame)
        else:
            self._runs.append(_FrameRun(codec, turn_id, seq, [frame]))
        self.top = seq
        self._size += len(frame)
        if self._size > self._max_bytes or self.top - self.first >= self._max_events:
            self._trim()

    def append_text(self, run: TextRun, added: tuple[int, int]) -> None:
        """Store the last text deltas of a run under the numbers from `top + 1` on."""
        if not self._runs or self._runs[-1] is not run:
            self._runs.append(run)
        count, size = added
        self.top = Seq(self.top + count)
        self._size += size
        if self._size > self._max_bytes or self.top - self.first >= self._max_events:
            self._trim()

    def read(self, seq: Seq, codec: Codec) -> tuple[bytes, TurnId]:
        """Return the frame with this number, in this codec, and its turn."""
        if not self.first <= seq <= self.top:
            raise KeyError(f"expected a number from {self.first} to {self.top}, got {seq}")
        run = self._runs[bisect_right(self._runs, seq, key=_first) - 1]
        return run.frame(seq, codec), run.turn_id

    def _trim(self) -> None:
        # A sixteenth at a time: cutting lists for each frame would cost more than the frame.
        most, room = self._max_events - self._max_events // 16, self._max_bytes - self._max_bytes // 16
        runs, dropped = self._runs, 0
        while dropped < len(runs) and (self.top - self.first >= most or self._size > room):
            run = runs[dropped]
            self._size -= run.drop_first()
            self.first = Seq(self.first + 1)
            dropped += run.first == run.next_seq
        del runs[:dropped]


SNAPSHOT_BYTES = 8 * 1024 * 1024
"""Size of the largest frame that clients are asked to accept."""


def bounded_snapshot(through: Seq, turns: list[TurnState], most: int = SNAPSHOT_BYTES) -> Snapshot:
    """Return a snapshot of turns, cut to about `most` bytes of JSON.

    Large parts beside the answer are left out, from the oldest turn on: thoughts, data, and the arguments
    and outputs of tools. Text is kept, so a frame of very long texts may still be longer.
    """
    sizes = [len(JSON.encode(Snapshot(through=through, turns=[turn]))) for turn in turns]
    excess, bounded = sum(sizes) - most, list(turns)
    for index, turn in enumerate(turns):
        if excess > 0:
            bounded[index] = _lightened(turn)
            excess -= sizes[index] - len(JSON.encode(Snapshot(through=through, turns=[bounded[index]])))
    return Snapshot(through=through, turns=bounded)


def _lightened(turn: TurnState) -> TurnState:
    lanes = {source: _lightened_lane(lane) for source, lane in turn.lanes.items()}
    return replace(turn, lanes=lanes, cut=True)


def _lightened_lane(lane: LaneState) -> LaneState:
    return replace(lane, thoughts="", data={}, tools=[_lightened_tool(tool) for tool in lane.tools])


def _lightened_tool(tool: ToolState) -> ToolState:
    return replace(tool, arguments="", given=None, output=None)
