"""Frames as events of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

import golden_vectors as wire
from bargein_protocol import CODES, JSON, Code, Epoch, Numbered, ReplayDone, Snapshot
from bargein_server.transport.event_stream import close_block, event_block


@wire.QUICK
@given(event=wire.any_event(*wire.EVENTS["server"]))
def test_every_event_has_its_type_its_cursor_and_its_frame(event: Any) -> None:
    """On one line each, whatever its text holds; a heartbeat is a comment."""
    frame = JSON.encode(event)
    block = event_block(frame, Epoch("e"))
    assert block.endswith(b"\n\n")
    lines = block[:-2].split(b"\n")
    kind = wire.tag(type(event))
    if kind == "heartbeat":
        assert lines == [b": heartbeat"]
        return
    moves = isinstance(event, Numbered) and b'"seq":' in frame[: len(kind) + 20]
    seq = event.seq if moves else event.through if isinstance(event, (ReplayDone, Snapshot)) else None
    cursor = [b"id: e.%d" % seq] if seq is not None else []
    assert lines == [b"event: " + kind.encode(), *cursor, b"data: " + frame]
    assert b"\r" not in block


@pytest.mark.parametrize("code", [code for code in CODES if code.closes], ids=lambda code: code.name)
def test_a_close_says_what_a_close_frame_says(code: Code) -> None:
    """Number, name and reason; and what to do next, which a client need not look up."""
    kind, data, *end = close_block(code).decode().split("\n")
    assert (kind, end) == ("event: close", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "number": code.number, "name": code.name, "reason": code.reason, "action": code.action.value,
    }  # fmt: skip
