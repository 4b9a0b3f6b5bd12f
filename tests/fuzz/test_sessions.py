"""Events of a client that mean anything or nothing, in whole frames, to a session of the whole server."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import Any

import pytest
from msgspec import json, msgpack

import fuzz_seeds
from live_server import echo
from raw_websocket import HEAD, frame
from seeded_fuzzing import Target, day_and_night
from served_transport import Served, ServedTransport, served
from virtual_time import JumpingSelector

LIMITS: dict[str, Any] = {
    "max_sessions": 30, "max_client_share": 1, "max_frame_bytes": 8192, "max_messages_per_s": 100_000,
    "max_bytes_per_s": 100_000_000,
}  # fmt: skip
OPEN = b'{"type":"session.open"}'
SETTLE = 20


async def settle() -> None:
    """Let the tasks of a session run."""
    for _ in range(SETTLE):
        await asyncio.sleep(0)


def packed(event: bytes) -> bytes:
    """Return JSON as MessagePack; what is not JSON stays as it is."""
    try:
        return msgpack.encode(json.decode(event))
    except Exception:
        return event


async def converse(server: Served, events: list[bytes], target: Target) -> ServedTransport:
    """Send events to a session, with time between some."""
    transport = server.connect()
    as_json = target.chance.random() < 0.7
    header = "" if as_json else "Sec-WebSocket-Protocol: bargein.v1.msgpack\r\n"
    transport.receive(f"{HEAD}{header}\r\n".encode())
    await settle()
    for event in events:
        transport.receive(frame(1, event) if as_json else frame(2, packed(event)))
        if target.chance.random() < 0.3:
            await asyncio.sleep(target.chance.choice((0, 0.01, 3)))
    await settle()
    if not transport.is_closing():
        transport.close()
    await settle()
    return transport


@day_and_night
@pytest.mark.virtual_time
async def test_a_session(
    night: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer, an error or a close; no exception reaches the loop or the log, and nothing stays behind."""
    monkeypatch.setattr(JumpingSelector, "real_wait_s", 0)
    caplog.set_level(logging.ERROR)
    target = Target(
        "session", night, seeds=fuzz_seeds.client_events(), words=fuzz_seeds.JSON_WORDS, lines=True
    )
    waiting = target.inputs(60_000 if night else 3000)
    async with served(echo, **LIMITS) as server:
        while events := list(islice(waiting, target.chance.randint(1, 12))):
            lines = [line for data in events for line in data.splitlines()]
            conversation = [OPEN, *lines] if target.chance.random() < 0.7 else lines
            try:
                await converse(server, conversation, target)
                assert server.faults == []
                assert [record.getMessage() for record in caplog.records if record.exc_info] == []
            except Exception as error:
                target.fail(b"\n".join(conversation), error)
        await asyncio.sleep(400)  # the turns and the sessions end
        assert not server.state.tasks
        assert len(server.app.state.sessions) == server.sockets == 0
