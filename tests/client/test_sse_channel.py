"""Taking event streams apart, and where they are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_client.sse_channel import EventStreamParser, stream_url

STREAM = (
    b": heartbeat\n\n"
    b'event: session.opened\ndata: {"a":1}\n\n'
    b'id: e.7\nevent:text.delta\r\ndata:{"b":\r\ndata: 2}\r\n\r\n'
    b"retry: 5\nunknown\n\n"
    b"event: nothing\n\n"
    b"data: x: y\n\n"
)
EVENTS = [("session.opened", b'{"a":1}'), ("text.delta", b'{"b":\n2}'), ("", b"x: y")]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_found_however_the_bytes_arrive(cuts: list[int]) -> None:
    """Types, data of several lines, both line ends; comments are ignored."""
    reader = EventStreamParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    events = []
    for start, end in pairwise(edges):
        events += list(reader.feed(STREAM[start:end]))
    assert events == EVENTS
    assert reader.size == 0


def test_an_event_without_an_end_is_counted() -> None:
    """So that its reader can bound it."""
    reader = EventStreamParser()
    assert list(reader.feed(b"data: " + b"x" * 1000)) == []
    assert list(reader.feed(b"\ndata: " + b"x" * 1000)) == []
    assert reader.size > 2000


@pytest.mark.parametrize(
    ("socket", "streams"),
    [
        ("ws://localhost:8000/v1/session", "http://localhost:8000/v1/sessions"),
        ("wss://a.example/agents/v1/session/", "https://a.example/agents/v1/sessions"),
        ("https://a.example/v1/sessions", "https://a.example/v1/sessions"),
    ],
)
def test_streams_are_beside_the_socket(socket: str, streams: str) -> None:
    """Under the same path, in the plural."""
    assert stream_url(socket) == streams
