"""Keep-alive pings of a connection."""

from __future__ import annotations

import asyncio

import pytest

from fake_transport import Bench
from raw_websocket import frame


@pytest.mark.virtual_time
async def test_a_ping_that_is_answered_is_followed_by_another() -> None:
    """After the interval; a pong that answers nothing changes nothing."""
    bench = Bench(ws_ping_interval=20, ws_ping_timeout=5)
    await bench.open()
    for _ in range(3):
        await asyncio.sleep(20.1)
        ping = bench.transport.take()
        assert ping[:2] == b"\x89\x04"
        bench.read(frame(0xA, b"old") + frame(0xA, ping[2:]) + frame(0xA, ping[2:]))
    assert not bench.transport.is_closing()
    bench.lose()


@pytest.mark.virtual_time
async def test_a_ping_that_is_not_answered_aborts() -> None:
    """The buffer of a dead peer would never drain."""
    bench = Bench(ws_ping_interval=20, ws_ping_timeout=5)
    await bench.open()
    await asyncio.sleep(24.9)
    assert not bench.transport.is_closing()
    bench.read(frame(0xA, b"guess"))
    await asyncio.sleep(0.2)
    assert bench.transport.take()[6:].startswith(b"\x88\x18\x03\xf3keepalive")
    assert bench.transport.is_aborted()
    bench.lose()


@pytest.mark.virtual_time
async def test_pings_without_a_time_limit_go_on() -> None:
    """`ws_ping_timeout=None`."""
    bench = Bench(ws_ping_interval=20, ws_ping_timeout=None)
    await bench.open()
    await asyncio.sleep(65)
    assert bench.transport.take().count(b"\x89\x04") == 3
    bench.lose()
