"""Bytes of a peer on the whole server: heads, bodies, handshakes and frames, mutated and cut anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from random import Random
from typing import Any

import pytest

import fuzz_seeds
from bargein_server import BearerTokens
from live_server import echo
from seeded_fuzzing import Target, day_and_night
from served_transport import Served, ServedTransport, served
from virtual_time import JumpingSelector

LIMITS: dict[str, Any] = {
    "max_sessions": 20, "max_client_share": 1, "max_requests_per_s": 1_000_000, "max_head_bytes": 2048,
    "max_body_bytes": 16_384, "max_frame_bytes": 2048, "max_frame_fragments": 8, "max_connections": 20,
}  # fmt: skip
OPENING = (
    b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Authorization: Bearer secret\r\nContent-Length: 23\r\n\r\n{"type":"session.open"}'
)
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
PATIENCE_S = 60
"""Time in which each state of a connection must end."""


def faults_of(transport: ServedTransport, server: Served, caplog: pytest.LogCaptureFixture) -> list[object]:
    """Return what must not be: exceptions in the loop or in the log, status 500, memory beyond its bound."""
    faults: list[object] = [*server.faults]
    server.faults.clear()
    faults += [record.getMessage() for record in caplog.records if record.exc_info]
    caplog.clear()
    faults += [f"status {status!r}" for status in _STATUS.findall(transport.output) if status == b"500"]
    if transport.output and not transport.output.startswith(b"HTTP/1.1 "):
        faults.append(f"no response: {bytes(transport.output[:40])!r}")
    held = server.app.state.admission.bodies.held
    if held > LIMITS["max_body_bytes"]:
        faults.append(f"{held} bytes of bodies")
    return faults


async def settle() -> None:
    """Let the tasks of a connection run as far as they can."""
    for _ in range(30):
        await asyncio.sleep(0)


class Session:
    """A session with an event stream, which others may follow and drive."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._transport: ServedTransport | None = None
        self._names: tuple[bytes, bytes] = (b"", b"")

    async def fill_in(self, data: bytes) -> bytes:
        """Return bytes with the names of the session."""
        if b"SESSION" not in data:
            return data
        if self._transport is None or self._transport.is_closing():
            self._transport = self._server.connect()
            self._transport.receive(OPENING)
            await settle()
            opened = json.loads(self._transport.output.partition(b"data: ")[2].partition(b"\n")[0])
            self._names = opened["session_id"].encode(), opened["token"].encode()
        return data.replace(b"SESSION", self._names[0]).replace(b"TOKEN", self._names[1])

    def close(self) -> None:
        """Close its stream."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()


async def drive(server: Served, data: bytes, chance: Random, patient: bool) -> ServedTransport:
    """Send bytes in pieces, then leave or wait for the end."""
    transport = server.connect()
    head, _, rest = data.partition(b"\r\n\r\n")
    for part in (head + data[len(head) : len(head) + 4], rest):
        for piece in fuzz_seeds.pieces_of(part, chance):
            transport.receive(piece)
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        await settle()
    if patient:
        if is_stuck := chance.random() < 0.5:
            transport.protocol.pause_writing()
        await asyncio.sleep(PATIENCE_S)
        assert transport.is_closing() or (not is_stuck and b"text/event-stream" in transport.output)
    elif chance.random() < 0.5:
        transport.protocol.eof_received()
    if not transport.is_closing():
        transport.close()
    await settle()
    assert transport.lost
    return transport


@day_and_night
@pytest.mark.virtual_time
@pytest.mark.parametrize("guard", [None, BearerTokens({"secret": "ann"})], ids=["open", "guarded"])
async def test_the_server(
    night: bool, guard: BearerTokens | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and clean refusals; no exception reaches the loop, and nothing stays behind."""
    monkeypatch.setattr(JumpingSelector, "real_wait_s", 0)
    caplog.set_level(logging.ERROR)
    target = Target("connection", night, seeds=fuzz_seeds.connections(), words=fuzz_seeds.CONNECTION_WORDS)
    async with served(echo, authenticator=guard, **LIMITS) as server:
        session = Session(server)
        for index, data in enumerate(target.inputs(8_000 if night else 800)):
            filled = await session.fill_in(data)
            try:
                transport = await drive(server, filled, target.chance, patient=index % 20 == 0)
            except Exception as error:
                target.fail(data, error)
            if faults := faults_of(transport, server, caplog):
                target.fail(data, AssertionError("; ".join(map(str, faults))))
            assert server.sockets == len(server.state.connections) <= 1  # that of the session
        session.close()
        await asyncio.sleep(400)  # the turns and the sessions end
        assert not server.state.tasks
        assert json.dumps(len(server.app.state.sessions)) == "0"
