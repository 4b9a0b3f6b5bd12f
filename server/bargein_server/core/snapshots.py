"""Keeps a snapshot within the frame that clients are asked to accept."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from bargein_protocol import FoldedLane, FoldedTool, FoldedTurn, Seq, Snapshot

SNAPSHOT_BYTES = 8 * 1024 * 1024


def encode_snapshot(
    seq: Seq, turns: list[FoldedTurn], encode: Callable[[Snapshot], bytes], most: int = SNAPSHOT_BYTES
) -> bytes:
    """Return the frame of a snapshot, cut when it would be longer than `most` bytes.

    Of the oldest turns first, what can be large and is not the answer is left out: thoughts, data, and
    the arguments and outputs of tools. Text is kept, so a frame of very long texts may still be longer.
    """
    frame = encode(Snapshot(seq=seq, turns=turns))
    if len(frame) <= most:
        return frame

    def size(turn: FoldedTurn) -> int:
        return len(encode(Snapshot(seq=seq, turns=[turn])))

    excess, turns = len(frame) - most, list(turns)
    for place, turn in enumerate(turns):
        if excess > 0:
            turns[place] = _lightened(turn)
            excess -= size(turn) - size(turns[place])
    return encode(Snapshot(seq=seq, turns=turns))


def _lightened(turn: FoldedTurn) -> FoldedTurn:
    lanes = {source: _lightened_lane(lane) for source, lane in turn.lanes.items()}
    return replace(turn, lanes=lanes, cut=True)


def _lightened_lane(lane: FoldedLane) -> FoldedLane:
    return replace(lane, thoughts="", data={}, tools=[_lightened_tool(tool) for tool in lane.tools])


def _lightened_tool(tool: FoldedTool) -> FoldedTool:
    return replace(tool, arguments="", given=None, output=None)
