from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

import golden_vectors as wire
from bargein_protocol import (
    JSON,
    AudioSpan,
    CallId,
    LaneState,
    ProgressState,
    Seq,
    Snapshot,
    ToolState,
    TurnId,
    TurnState,
)


@wire.QUICK
@given(turn=wire.any_event(TurnState))
def test_a_snapshot_survives_the_wire(turn: TurnState) -> None:
    """A client reads the turns as they were folded."""
    snapshot = Snapshot(through=Seq(7), turns=[turn])
    assert JSON.decode_server(JSON.encode(snapshot)) == snapshot


@pytest.mark.parametrize("struct", [TurnState, LaneState, ToolState, AudioSpan, ProgressState])
def test_defaults_cost_no_bytes(struct: type[msgspec.Struct]) -> None:
    """Folded state holds many fields and says only those that are set."""
    assert struct.__struct_config__.omit_defaults


def test_two_lanes_share_nothing() -> None:
    """Each has lists of its own."""
    one, other = LaneState(), LaneState()
    one.tools.append(ToolState(call_id=CallId("c_1")))
    one.data["a"] = 1
    assert (other.tools, other.data) == ([], {})
    assert TurnState(turn_id=TurnId("t_1")).lanes is not TurnState(turn_id=TurnId("t_1")).lanes
