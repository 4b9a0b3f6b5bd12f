"""Keeps a snapshot within the frame that clients are asked to accept."""

from __future__ import annotations

from msgspec.structs import replace

from bargein_protocol import JSON, LaneState, Seq, Snapshot, ToolState, TurnState

SNAPSHOT_BYTES = 8 * 1024 * 1024


def bounded_snapshot(through: Seq, turns: list[TurnState], most: int = SNAPSHOT_BYTES) -> Snapshot:
    """Return a snapshot of turns, cut when it would be longer than `most` bytes of JSON.

    Of the oldest turns first, what can be large and is not the answer is left out: thoughts, data, and
    the arguments and outputs of tools. Text is kept, so a frame of very long texts may still be longer.
    """
    sizes = [len(JSON.encode(Snapshot(through=through, turns=[turn]))) for turn in turns]
    excess, bounded = sum(sizes) - most, list(turns)
    for place, turn in enumerate(turns):
        if excess > 0:
            bounded[place] = _lightened(turn)
            excess -= sizes[place] - len(JSON.encode(Snapshot(through=through, turns=[bounded[place]])))
    return Snapshot(through=through, turns=bounded)


def _lightened(turn: TurnState) -> TurnState:
    lanes = {source: _lightened_lane(lane) for source, lane in turn.lanes.items()}
    return replace(turn, lanes=lanes, cut=True)


def _lightened_lane(lane: LaneState) -> LaneState:
    return replace(lane, thoughts="", data={}, tools=[_lightened_tool(tool) for tool in lane.tools])


def _lightened_tool(tool: ToolState) -> ToolState:
    return replace(tool, arguments="", given=None, output=None)
