"""Event streams: their bytes, their URL, and the errors of their requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bargein_protocol as bp
from bargein_client import sse_channel
from bargein_client.channel import Channel
from bargein_client.errors import BargeinError, ChannelClosed, ServerViolation
from bargein_client.sse_channel import EventStreamParser, connect_sse_channel, stream_url
from bargein_protocol.errors import ABNORMAL, FLOODED, RESTART, TOO_BIG, UNAUTHORIZED
from client_script import opened, patiently

STREAM = (
    b": heartbeat\n\n"
    b'event: session.opened\ndata: {"a":1}\n\n'
    b'id: e.7\nevent:text.delta\r\ndata:{"b":\r\ndata: 2}\r\n\r\n'
    b"retry: 5\nunknown\n\n"
    b"event: nothing\n\n"
    b"data: x: y\n\n"
)
CR_STREAM = b"\xef\xbb\xbf" + STREAM.replace(b"\r\n", b"\n").replace(b"\n", b"\r")
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


@given(cuts=st.lists(st.integers(0, len(CR_STREAM)), max_size=8))
def test_lines_may_end_with_cr_after_a_byte_order_mark(cuts: list[int]) -> None:
    """As the standard allows."""
    reader = EventStreamParser()
    edges = [0, *sorted(cuts), len(CR_STREAM)]
    events = [event for start, end in pairwise(edges) for event in reader.feed(CR_STREAM[start:end])]
    assert events == EVENTS


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    """Half a megabyte, byte by byte, and then lines without data."""
    reader = EventStreamParser()
    began = time.process_time()
    for _ in range(2**19):
        assert not list(reader.feed(b"x"))
    assert time.process_time() - began < 20  # copying what came before takes far longer
    assert reader.size == 2**19
    assert list(reader.feed(b"\n" + b"data\n" * 1000)) == []
    assert reader.size == 1000  # each has at least its end


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


STREAMING = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
OPENED = f"event: session.opened\ndata: {bp.JSON.encode(opened()).decode()}\n\n"
INPUT = bp.InputText(id=bp.InputId("in_1"), text="hello")


@asynccontextmanager
async def channel(
    stream: str, answer: str = "", *, instead: ChannelClosed | None = None
) -> AsyncIterator[Channel]:
    """Open a channel to a server.

    Args:
        stream: What it answers to the request for a stream; then it waits, unless it is empty.
        answer: What it answers to every other request, before it closes.
        instead: What the channel raises when no server of ours answers.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_stream = head.startswith(b"POST /v1/sessions HTTP")
        writer.write((stream if is_stream else answer).encode())
        if is_stream and stream:
            await reader.read()  # until the client closes
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/session"
        channel = await connect_sse_channel(url, {}, instead)
        await channel.send(bp.SessionOpen())
        try:
            yield channel
        finally:
            channel.abort()
            await patiently(channel.wait_closed())


def refusal(status: int) -> str:
    """Return an answer without a body."""
    return f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refusal(413), TOO_BIG),
        (refusal(429), FLOODED),
        (refusal(401), UNAUTHORIZED),
        (refusal(404), ABNORMAL),
        ("", ABNORMAL),
    ],
)
async def test_a_refused_request_ends_the_channel(answer: str, code: bp.Code) -> None:
    """For its sender and its reader alike; what was read before it is dropped."""
    async with channel(STREAMING + OPENED, answer) as sse:
        assert isinstance(await patiently(sse.receive()), bp.SessionOpened)
        with pytest.raises(ChannelClosed) as sending:
            await patiently(sse.send(INPUT))
        with pytest.raises(ChannelClosed) as reading:
            await patiently(sse.receive())
        assert sending.value is reading.value
        assert sending.value.code is code


async def test_the_body_of_an_answer_is_not_kept() -> None:
    """A server that never ends it costs no memory and no time."""
    endless = "HTTP/1.1 202 Accepted\r\nContent-Length: 1000000000\r\n\r\n" + "x" * 100_000
    async with channel(STREAMING + OPENED, endless) as sse:
        await patiently(sse.send(INPUT))


async def test_a_compressed_stream_is_not_unpacked() -> None:
    """A few bytes could become millions; the client does not ask for compression."""
    packed = STREAMING.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n")
    async with channel(packed + OPENED) as sse:
        assert isinstance(await patiently(sse.receive()), bp.SessionOpened)


async def test_an_accepted_request_says_nothing() -> None:
    """The answer comes with the stream."""
    async with channel(STREAMING + OPENED, refusal(202)) as sse:
        await patiently(sse.send(INPUT))


@pytest.mark.parametrize(
    ("stream", "kind", "words"),
    [
        (refusal(401), ChannelClosed, UNAUTHORIZED.reason),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ChannelClosed, "200"),
        ("", ChannelClosed, ABNORMAL.reason),
        (f'{STREAMING}event: close\ndata: {{"number":1012}}\n\n', ChannelClosed, RESTART.reason),
        (f"{STREAMING}event: close\ndata: soon\n\n", ServerViolation, "expected a code in the close event"),
        (
            f'{STREAMING}event: close\ndata: {{"x":{"[" * 100_000}\n\n',
            ServerViolation,
            "expected a code in the close event",
        ),
        (f"{STREAMING}data: {{\n\n", ServerViolation, "expected an event, got one that does not decode"),
    ],
    ids=["refused", "no stream", "broken", "closed", "closed badly", "closed deep", "no event"],
)
async def test_a_stream_that_ends_says_why(stream: str, kind: type[BargeinError], words: str) -> None:
    """Also to a sender that waits for the stream to open."""
    async with channel(stream) as sse:
        sending = asyncio.create_task(sse.send(INPUT))
        with pytest.raises(kind, match=words):
            await patiently(sse.receive())
        with pytest.raises(ChannelClosed):
            await patiently(sending)


async def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are bounded."""
    monkeypatch.setattr(sse_channel, "MAX_FRAME_BYTES", 1000)
    async with channel(f"{STREAMING}data: {'x' * 1001}") as sse:
        with pytest.raises(ServerViolation, match="at most 1000 bytes of an event"):
            await patiently(sse.receive())


@pytest.mark.parametrize("stream", [refusal(404), ""])
async def test_without_a_server_of_ours_the_first_error_counts(stream: str) -> None:
    """A fallback tells why WebSockets failed, not that there are no event streams either."""
    first = ChannelClosed(ABNORMAL, "the handshake failed")
    async with channel(stream, instead=first) as sse:
        with pytest.raises(ChannelClosed) as caught:
            await patiently(sse.receive())
        assert caught.value is first


async def test_a_fallback_that_gets_no_answer_tells_why_websockets_failed() -> None:
    """The watchdog drops a silent stream; until its first event the first error counts."""
    first = ChannelClosed(ABNORMAL, "no answer within 10 s")
    silent = "HTTP/1.1 100 Continue\r\n\r\n"
    async with channel(silent, instead=first) as sse:
        sse.abort()
        with pytest.raises(ChannelClosed) as caught:
            await patiently(sse.receive())
        assert caught.value is first
