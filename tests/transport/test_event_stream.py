"""Frames as events of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

import golden_vectors as wire
from bargein_protocol import (
    CODES,
    JSON,
    Code,
    DecodeError,
    Epoch,
    Heartbeat,
    Numbered,
    Ping,
    Pong,
    ReplayDone,
    Seq,
    Snapshot,
    TextDelta,
    TurnId,
)  # fmt: skip
from bargein_server.transport.event_stream import SSE, close_block, id_prefix, join_blocks


@wire.QUICK
@given(event=wire.any_event(*wire.EVENTS["server"]))
def test_every_event_has_its_type_its_cursor_and_its_json(event: Any) -> None:
    """On one line each, whatever its text holds; a heartbeat is a comment."""
    frame = JSON.encode(event)
    block = join_blocks([SSE.encode(event)], id_prefix(Epoch("e")))
    assert block.endswith(b"\n\n")
    lines = block[:-2].split(b"\n")
    kind = wire.tag(type(event))
    if kind == "heartbeat":
        assert lines == [b": heartbeat"]
        return
    seq = event.seq if isinstance(event, Numbered) else None
    if isinstance(event, (ReplayDone, Snapshot)):
        seq = getattr(event, "through", getattr(event, "seq", None))
    if seq is None or (seq == 0 and isinstance(event, Numbered)):
        cursor = []
    else:
        cursor = [b"id: e.%d" % seq]
    assert lines == [*cursor, b"event: " + kind.encode(), b"data: " + frame]
    assert b"\r" not in block


@wire.QUICK
@given(event=wire.any_event(*wire.EVENTS["server"]))
def test_a_logged_block_can_be_encoded_again(event: Any) -> None:
    """For a client that comes back with another codec; heartbeats are not logged."""
    if wire.tag(type(event)) != "heartbeat":
        assert SSE.decode_server(SSE.encode(event)) == JSON.decode_server(JSON.encode(event))


def test_events_of_clients_are_json() -> None:
    """They come in requests; none goes down a stream."""
    ping = Ping(id="p")
    assert SSE.decode_client(JSON.encode(ping)) == ping
    with pytest.raises(DecodeError):
        SSE.decode_client(b"event: ping")
    with pytest.raises(TypeError, match="expected an event of a server, got Ping"):
        SSE.encode(ping)


def test_blocks_are_joined_with_the_epoch_of_their_session() -> None:
    """Only where a number begins them."""
    delta = TextDelta(seq=Seq(7), turn_id=TurnId("t"), text="7")
    frames = [SSE.encode(event) for event in (Heartbeat(), delta, Pong(id="1"))]
    assert join_blocks(frames, id_prefix(Epoch("1.2"))).split(b"\n") == [
        b": heartbeat", b"",
        b"id: 1.2.7", b"event: text.delta", b"data: " + JSON.encode(delta), b"",
        b"event: pong", b"data: " + JSON.encode(Pong(id="1")), b"", b"",
    ]  # fmt: skip


@pytest.mark.parametrize("code", [code for code in CODES if code.closes], ids=lambda code: code.name)
def test_a_close_says_what_a_close_frame_says(code: Code) -> None:
    """Number, name and reason; and what to do next, which a client need not look up."""
    kind, data, *end = close_block(code).decode().split("\n")
    assert (kind, end) == ("event: close", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "number": code.number, "name": code.name, "reason": code.reason, "action": code.action.value,
    }  # fmt: skip
