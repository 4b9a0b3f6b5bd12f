"""Followers that do not read share one snapshot, and hold no copies of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from bargein_server import Output, Turn
from bargein_server.guard.limits import SnapshotBudget
from bargein_server.transport.event_stream import PART_BYTES
from live_server import Frame, RawClient, Serving, WireKind, ask, serving
from raw_websocket import raw
from sse_client import http
from waiting import until

LARGE = 200_000
FOLLOWERS = 20


async def long(turn: Turn) -> AsyncIterator[Output]:
    """Says a large text."""
    yield "x" * LARGE


async def long_session(socket: RawClient) -> Frame:
    """Return the opening of a session whose log is gone, with a large state."""
    await socket.send({"type": "session.open"})
    opened = await socket.receive()
    for number in range(4):
        await ask(socket, "x", f"i{number}")
        await socket.until("turn.ended")
    return opened


def path(opened: Frame) -> str:
    return f"/v1/sessions/{opened['session_id']}/events"


def token(opened: Frame) -> dict[str, str]:
    return {"Bargein-Session-Token": opened["token"]}


def head(opened: Frame) -> str:
    return f"GET {path(opened)} HTTP/1.1\r\nHost: x\r\nBargein-Session-Token: {opened['token']}\r\n\r\n"


def buffered(server: Serving) -> list[int]:
    connections: Any = server.server.server_state.connections
    return [connection.transport.get_write_buffer_size() for connection in connections]


async def test_followers_that_do_not_read_hold_one_snapshot(wire: WireKind) -> None:
    """It is counted once, and a connection has no more than a part of it."""
    async with (
        serving(long, wire, max_log_events=4) as server,
        server.connect() as socket,
        AsyncExitStack() as stack,
    ):
        opened = await long_session(socket)
        [host] = server.sessions
        for _ in range(FOLLOWERS):
            reader, _ = await stack.enter_async_context(raw(server, head(opened)))
            reader._transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: len(host.followers) == FOLLOWERS, "the followers")
        assert 4 * LARGE < server.sessions.snapshots.held < 12 * LARGE
        assert max(buffered(server)) <= 2 * PART_BYTES
        await stack.aclose()
        await until(lambda: server.sessions.snapshots.held == 0, "the end of the followers")


async def test_snapshots_that_nobody_reads_are_bounded(wire: WireKind) -> None:
    """One more follower is refused, and let in when there is room."""
    async with (
        serving(long, wire, max_log_events=4) as server,
        server.connect() as socket,
        http(server) as client,
    ):
        opened = await long_session(socket)
        server.sessions.snapshots = SnapshotBudget(4 * LARGE)
        refused = await client.request("GET", path(opened), headers=token(opened))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        server.sessions.snapshots = SnapshotBudget(12 * LARGE)
        async with client.stream(path(opened), headers=token(opened)) as follower:
            snapshot = await follower.until("snapshot")
            assert len(snapshot["turns"]) == 4
            await follower.until("replay.done")
        assert server.sessions.snapshots.held == 0


async def test_snapshots_count_as_bytes_of_their_address(wire: WireKind) -> None:
    """The work of a snapshot is paid for before the next body is taken."""
    async with (
        serving(long, wire, max_log_events=4, max_bytes_per_s=LARGE) as server,
        server.connect() as socket,
        http(server) as client,
    ):
        opened = await long_session(socket)
        assert (await client.post("/v1/turns", {"text": "x"})).status_code == 200
        async with client.stream(path(opened), headers=token(opened)) as follower:
            await follower.until("replay.done")
        assert (await client.post("/v1/turns", {"text": "x"})).status_code == 429
