"""Every size of the settings: what is as large as it passes, what is one larger does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from bargein_protocol import JSON, Ping, Pong, SessionUpdate, Snapshot
from bargein_protocol.errors import FLOODED
from bargein_server import Output, Turn
from bargein_server.core.turn_record import FRAME_BYTES
from bargein_server.hosting.ports import HIGH_WATER
from bargein_server.transport.peer_limits import FrameCounter
from core_driver import Talk
from fake_transport import Bench
from live_server import echo, serving
from memory_client import Line, serve
from raw_websocket import frame, rest, upgraded
from waiting import WAIT_S

TEXT, CONT, PING, PONG = 1, 0, 9, 10


async def silent(turn: Turn) -> AsyncIterator[Output]:
    """Waits for its end."""
    await asyncio.Event().wait()
    yield "never"


@pytest.mark.virtual_time
async def test_max_bytes_per_s() -> None:
    """Twice as many at once, then so many in a second."""
    frame = JSON.encode(Ping(id="p" * 50))
    line = Line(serve(silent, max_bytes_per_s=32 * len(frame)))
    for _ in range(64):
        line.connection.receive(frame, True)
    await asyncio.sleep(1)
    for _ in range(32):
        line.connection.receive(frame, True)
    assert line.wire.closed is None
    line.connection.receive(b" ", True)
    assert line.wire.closed is FLOODED


async def test_max_frame_bytes() -> None:
    """One more closes the connection with 1009."""
    async with serving(echo, max_frame_bytes=2048) as server, server.connect() as client:
        bare = len(json.dumps({"type": "ping", "id": "p", "x": ""}))
        await client.send(json.dumps({"type": "ping", "id": "p", "x": "x" * (2048 - bare)}))
        await client.until("pong")
        await client.send(json.dumps({"type": "ping", "id": "p", "x": "x" * (2049 - bare)}))
        assert (await client.closed())[0] == 1009


@pytest.mark.parametrize(("fewer", "full"), [(1, False), (0, True)])
def test_max_queued_output_bytes(fewer: int, full: bool) -> None:
    """The agent is not pulled while so much waits."""
    talk = Talk(max_queued_output_bytes=2048)
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "x" * (2048 - FRAME_BYTES - fewer))
    assert talk.session.full is full


@pytest.mark.parametrize(("more", "aborted"), [(0, False), (1, True)])
async def test_max_queued_answer_bytes(more: int, aborted: bool) -> None:
    """A client that reads nothing gets so much, and is then dropped."""
    pong = len(JSON.encode(Pong(id="p" * 50)))
    line = Line(serve(silent, max_queued_answer_bytes=32 * pong))
    line.send(Ping(id="first"))
    line.block()
    for _ in range(32 + more):
        line.send(Ping(id="p" * 50))
    assert line.wire.aborted is aborted


@pytest.mark.parametrize(("size", "snapshots"), [(900, 0), (1100, 1)])
def test_max_log_bytes(size: int, snapshots: int) -> None:
    """So much can be replayed; whoever misses more gets a snapshot."""
    talk = Talk(max_log_bytes=1024)
    turn = talk.ask()
    seen = talk.numbers()[-1]
    talk.detach()
    talk.emit(turn, "x" * (size // 2), "x" * (size // 2 - 150))
    talk.attach(cursor=seen)
    assert len(talk.of(Snapshot)) == snapshots


@pytest.mark.parametrize(("chars", "remembered"), [(1000, 2), (1200, 1)])
def test_max_history_chars(chars: int, remembered: int) -> None:
    """Turns are remembered while their texts together are not longer."""
    talk = Talk(max_history_chars=2200)
    for _ in range(2):
        turn = talk.ask("x" * chars)
        talk.finish(turn)
    last = talk.ask("?")
    assert len([m for m in talk.heard_by_next(last) if m["content"].startswith("x")]) == remembered


@pytest.mark.parametrize(("size", "sessions"), [(400, 2), (600, 1)])
async def test_max_kept_bytes(size: int, sessions: int) -> None:
    """What the sessions of clients that are away keep ends with them when it is more."""
    registry = serve(silent, max_kept_bytes=2 * (1024 + 512), max_client_share=1)
    for _ in range(2):
        line = Line(registry)
        line.send(SessionUpdate(metadata={"a": "x" * (size + 1024)}))
        line.drop()
    assert len(registry) == sessions


@pytest.mark.parametrize(("more", "status"), [(0, b"404"), (1, b"431")])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_max_head_bytes(more: int, status: bytes, pieces: int) -> None:
    """A larger head is refused by its own status, whether it comes in one read or not."""
    begin, end = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ", b"\r\n\r\n"
    head = begin + b"x" * (2048 + more - len(begin) - len(end)) + end
    async with serving(echo, max_head_bytes=2048) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for start in range(0, len(head), len(head) // pieces + 1):
            writer.write(head[start : start + len(head) // pieces + 1])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.read()).split()[1] == status
        writer.close()


async def test_max_frame_fragments() -> None:
    """A message in one more piece closes the connection with 1009."""
    ping = json.dumps({"type": "ping", "id": "p"}).encode()
    async with serving(echo, max_frame_fragments=64) as server, upgraded(server) as (reader, writer):
        writer.write(frame(1, final=False) + frame(0, final=False) * 62 + frame(0, ping))
        async with asyncio.timeout(WAIT_S):
            await reader.readuntil(b'"pong"')
        writer.write(frame(1, final=False) + frame(0, final=False) * 63 + frame(0, ping))
        assert (1009).to_bytes(2, "big") in await rest(reader)


@pytest.mark.parametrize(("more", "closed"), [(0, False), (1, True)])
@pytest.mark.parametrize("opcode", [PING, PONG, CONT])
async def test_max_frames_per_s(opcode: int, more: int, closed: bool) -> None:
    """Two seconds' worth at once; one frame more of any kind closes the connection with 4429."""
    bench = Bench(limits={"max_frames_per_s": 50})
    await bench.open()
    first = frame(TEXT, b"x", final=False) if opcode == CONT else b""
    bench.read(first + frame(opcode, final=opcode != CONT) * (100 - bool(first) + more))
    ends = bench.transport.take().find(bytes([0x88]))
    assert (ends >= 0) is closed
    bench.lose()


async def test_max_pong_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer for which more than so many wait is dropped; all pongs of one read are written as one."""
    judge, waiting = FrameCounter.too_many_pongs, []

    def observed(counter: FrameCounter, buffered: int) -> bool:
        too_many = judge(counter, buffered)
        if not too_many:
            waiting.append(buffered)
        return too_many

    monkeypatch.setattr(FrameCounter, "too_many_pongs", observed)
    async with (
        serving(echo, max_pong_bytes=16384, max_frames_per_s=10**6) as server,
        upgraded(server) as (reader, writer),
    ):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        [protocol] = server.server.server_state.connections
        with contextlib.suppress(ConnectionError):
            while not protocol.transport.is_closing():
                writer.write(frame(9, bytes(125)) * 100)
                await writer.drain()
                await asyncio.sleep(0)
    assert HIGH_WATER < max(waiting) <= 16384


# `max_in_flight_bytes`, which needs a real socket, is in tests/transport/test_peer_limits.py.
