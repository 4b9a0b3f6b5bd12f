"""Peers that attack the line itself: heads, fragments, pings and floods (RFC 6455, and none of it)."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress

import pytest

from bargein_server import Settings
from hostile_agents import yields_flat_out
from live_server import ask, echo, serving
from raw_websocket import ANSWERS_ALL, HEAD, MASK, frame, raw, rest, upgraded
from waiting import WAIT_S, until

MAX_FRAGMENTS = Settings().max_frame_fragments
MAX_PONG_BYTES = Settings().max_pong_bytes


@pytest.mark.parametrize("head", ["", "GET /v1/session HT", HEAD, "GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_half_a_head_is_dropped_in_time(head: str) -> None:
    """Nothing, half a line, half a handshake, half a request."""
    async with serving(echo, request_head_s=0.1) as server, raw(server, head) as (reader, _):
        assert await rest(reader) == b""


async def test_a_head_that_is_whole_is_not_hurried() -> None:
    """A session outlives the time limit of its handshake."""
    async with serving(echo, request_head_s=0.05) as server, server.connect() as client:
        await asyncio.sleep(0.1)
        await ask(client)
        assert (await client.until("turn.ended"))["status"] == "completed"


async def test_the_second_head_of_a_connection_is_limited_too() -> None:
    """A keep-alive connection with half of a next request."""
    whole = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(echo, request_head_s=0.1) as server, raw(server, whole) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /nothing HTTP/1.1\r\nHo")
        await rest(reader)


@pytest.mark.parametrize(
    "extra", ["Cookie: " + "x" * 10_000 + "\r\n", "".join(f"X-{n}: y\r\n" for n in range(200))]
)
async def test_a_head_that_is_too_big_is_refused_and_not_left_hanging(extra: str) -> None:
    """A 10 KB cookie, 200 headers: HTTP 431, and the connection ends."""
    async with serving(echo) as server, raw(server, HEAD + extra + "\r\n") as (reader, _):
        answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 431") if ANSWERS_ALL else answer == b""


async def test_a_head_within_its_bound_is_read_in_pieces() -> None:
    """60 KB of cookies are legal, and arrive in several reads."""
    async with serving(echo) as server:
        head = "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: " + "x" * 60_000
        async with raw(server, head) as (reader, writer):
            await writer.drain()
            writer.write(b"\r\n\r\n")
            assert (await rest(reader)).startswith(b"HTTP/1.1 404")


async def test_fragments_without_end_are_cut_off() -> None:
    """At the limit the message is whole; one fragment more closes with 1009."""
    text = json.dumps({"type": "input.text", "id": "i", "text": "x"}).encode()
    empty = frame(0, final=False)
    async with serving(echo) as server:
        async with upgraded(server) as (reader, writer):
            writer.write(frame(1, final=False) + empty * (MAX_FRAGMENTS - 2) + frame(0, text))
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b'"turn.ended"')
        async with upgraded(server) as (reader, writer):
            writer.write(frame(1, final=False) + empty * MAX_FRAGMENTS)
            received = await rest(reader)
            assert (1009).to_bytes(2, "big") in received


@pytest.mark.parametrize("before", [1, 7, 8])
async def test_what_looks_like_a_frame_inside_of_one_is_not_read_as_one(before: int) -> None:
    """Whoever can choose a part of what another client says could otherwise say more in its name."""
    inner = frame(1, b'{"type":"ping","id":"smuggled"}')
    assert set(MASK) == {0}  # so that it stands in the outer frame as it is
    outer = frame(1, b"x" + inner)
    async with serving(echo) as server, upgraded(server) as (reader, writer):
        for part in (outer[:before], outer[before : -len(inner)], outer[-len(inner) :]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)  # a read of its own
        received = b""
        with suppress(TimeoutError):
            received = await rest(reader)
    assert (1007).to_bytes(2, "big") in received  # as one message it is no UTF-8
    assert b"pong" not in received


async def test_a_message_inside_of_another_is_not_taken() -> None:
    """RFC 6455 section 5.4. The pong shows that the first part was read by itself."""
    async with serving(echo) as server, upgraded(server) as (reader, writer):
        writer.write(frame(1, b'{"type":', final=False) + frame(9))
        async with asyncio.timeout(WAIT_S):
            await reader.readuntil(b"\x8a\x00")
        writer.write(frame(1, b'{"type":"ping","id":"smuggled"}'))
        received = b""
        with suppress(TimeoutError):
            received = await rest(reader)
    assert (1002).to_bytes(2, "big") in received
    assert b"pong" not in received


async def test_a_ping_flood_whose_pongs_nobody_reads_is_aborted() -> None:
    """Pongs are written past a full buffer, and the buffer is bounded."""
    async with serving(echo, max_frames_per_s=10**6) as server, upgraded(server) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        flood = frame(9, os.urandom(125)) * 500
        sent = 0
        async with asyncio.timeout(WAIT_S):
            try:
                while sent < 100 * MAX_PONG_BYTES:
                    writer.write(flood)
                    sent += len(flood)
                    await writer.drain()
            except ConnectionError:
                pass
        assert sent < 100 * MAX_PONG_BYTES


async def test_a_flood_of_pings_is_closed_with_4429() -> None:
    """They are answered up to the rate, whatever else the client sends."""
    async with serving(echo) as server, upgraded(server) as (reader, writer):
        writer.write(frame(9) * 20_000)
        assert (4429).to_bytes(2, "big") in await rest(reader)


async def test_a_flood_of_messages_is_closed_with_4429() -> None:
    """A burst within the limit is answered; one message more ends the connection."""
    ping = json.dumps({"type": "ping", "id": "p"})
    async with serving(echo, max_messages_per_s=50) as server, server.connect() as client:
        await client.send(*[ping] * 100)
        for _ in range(100):
            await client.until("pong")
        await client.send(*[ping] * 100)
        assert (await client.closed())[0] == 4429


async def test_a_flood_of_bytes_is_closed_with_4429() -> None:
    """Few messages, but large."""
    big = json.dumps({"type": "ping", "id": "p", "x": "y" * 10_000})
    async with serving(echo, max_bytes_per_s=10_240) as server, server.connect() as client:
        await client.send(big)
        await client.until("pong")
        await client.send(big, big, big)
        assert (await client.closed())[0] == 4429


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02{}", 1002),  # not masked, section 5.1
        (frame(3), 1002),  # a reserved opcode
        (bytes([0xC1, 0x80]) + MASK, 1002),  # a reserved bit without an extension
        (frame(0, b"x"), 1002),  # nothing to continue
        (frame(9, b"x", final=False), 1002),  # control frames are not fragmented
    ],
)
async def test_frames_that_break_the_standard_close_with_1002(data: bytes, code: int) -> None:
    """RFC 6455 sections 5.1 to 5.5."""
    async with serving(echo) as server, upgraded(server) as (reader, writer):
        writer.write(data)
        assert code.to_bytes(2, "big") in await rest(reader)


async def test_a_client_that_stops_reading_is_dropped_and_its_session_kept() -> None:
    """Its kernel acknowledges no more; the connection is freed in time, the turn goes on to the log."""
    async with serving(yields_flat_out, stalled_s=0.5) as server, upgraded(server) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(frame(1, json.dumps({"type": "input.text", "id": "i", "text": "x"}).encode()))
        await until(lambda: list(server.sessions), "the session")
        [live] = server.sessions
        await until(lambda: live.connection is None, "the end of the connection")
        assert live.core.busy


async def test_a_client_that_answers_no_ping_is_dropped_and_its_session_kept() -> None:
    """It stands still while nothing is on its way that its kernel would acknowledge for it."""
    async with serving(echo, stalled_s=0.2) as server, upgraded(server) as (reader, writer):
        writer.write(frame(1, json.dumps({"type": "session.open"}).encode()))
        async with asyncio.timeout(WAIT_S):
            await reader.readuntil(b"session.opened")
        [live] = server.sessions
        assert live.connection is not None
        await until(lambda: live.connection is None, "the end of the connection")
        assert len(server.sessions) == 1


async def test_a_client_that_answers_pings_is_kept() -> None:
    """However little it says."""
    async with serving(echo, stalled_s=1) as server, server.connect() as client:
        await client.send({"type": "session.open"})
        await client.receive()
        await asyncio.sleep(1.7)  # beyond the time in which the first ping must be answered
        await ask(client)
