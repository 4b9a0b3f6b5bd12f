"""The Python client's parser of event streams against a simple one, however the bytes are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, get_args

import fuzz_seeds
from bargein_client.errors import ChannelClosed, ServerViolation
from bargein_client.sse_channel import EventStreamParser, SseChannel
from bargein_protocol import JSON, ErrorEvent, ReplayDone, ServerEvent, UnknownEvent
from bargein_protocol.types import Seq
from client_script import opened
from reference_event_stream import events_of
from seeded_fuzzing import Target, day_and_night

JSON_WORDS = (
    b'{"type":"',
    b'"',
    b"{}",
    b"[" * 2000,
    b'{"number":' * 700,
    b'"number":',
    b'"name":"restart"',
    b"null",
)
OPENED = opened()
REPLAY = ReplayDone(through=Seq(3))
ERROR = ErrorEvent(code="busy", message="a turn is running")
CLOSE = b'event: close\ndata: {"number":1012,"name":"restart","deep":[[]]}\n\n'


def check(data: bytes) -> None:
    """Parse a stream in pieces."""
    parser = EventStreamParser()
    chance = Random(len(data) * 257 + sum(data[:64]))
    parsed: list[tuple[str, str]] = []
    fed = 0
    for piece in fuzz_seeds.pieces_of(data, chance):
        parsed += [(kind, data.decode("utf-8", "replace")) for kind, data in parser.feed(piece)]
        fed += len(piece)
        assert parser.size <= fed
    assert parsed == events_of(data)


class Answer:
    """Response whose body is a stream in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@day_and_night
async def test_the_channel(night: bool) -> None:
    """A body ends the channel with an error of the client, or with its end."""
    opened = b"event: session.opened\ndata: " + JSON.encode(OPENED) + b"\n\n"
    events = [b"data: " + JSON.encode(event) + b"\n\n" for event in (REPLAY, ERROR)]
    seeds = [opened + each + CLOSE for each in (*events, *fuzz_seeds.STREAMS)]
    target = Target("event_channel", night, seeds=seeds, words=(*fuzz_seeds.STREAM_WORDS, *JSON_WORDS))
    channel = SseChannel("http://localhost/v1/sessions", {})
    channel._events = asyncio.Queue()  # nobody reads while the body is parsed
    try:
        for data in target.inputs(10_000 if night else 1000):
            body: Any = Answer(fuzz_seeds.pieces_of(data, target.chance))
            try:
                ended = await channel._forward(body)
            except Exception as error:
                target.fail(data, error)
            assert isinstance(ended, (ChannelClosed, ServerViolation))
            while not channel._events.empty():
                assert isinstance(channel._events.get_nowait(), (*get_args(ServerEvent), UnknownEvent))
    finally:
        channel.abort()
        await channel.wait_closed()


@day_and_night
def test_python(night: bool) -> None:
    """Events equal those of the reference."""
    Target("event_stream", night, seeds=fuzz_seeds.STREAMS, words=fuzz_seeds.STREAM_WORDS).run(
        check, 60_000 if night else 10_000
    )
