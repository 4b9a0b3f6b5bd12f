"""Two servers with addresses for each other, and a Valkey that they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as dial
from websockets.typing import Subprotocol

from live_server import RawClient, ask
from processes import ServerProcess, free_port, server
from valkey_process import valkey

pytestmark = pytest.mark.needs("valkey")

AGENT = """
import asyncio

async def talk(turn):
    while True:
        yield "word "
        await asyncio.sleep(0.02)
"""


@asynccontextmanager
async def client(process: ServerProcess) -> AsyncIterator[RawClient]:
    """Connect a client that does what it is told."""
    subprotocols = [Subprotocol("bargein.v1.json")]
    async with dial(process.url, subprotocols=subprotocols, compression=None, proxy=None) as websocket:
        try:
            yield RawClient(websocket)
        finally:
            websocket.transport.abort()


async def test_a_turn_goes_on_at_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client resumes there while the turn runs here, hears the next word, and interrupts it."""
    (tmp_path / "agents.py").write_text(AGENT)
    monkeypatch.setenv("BARGEIN_PEER_SECRET", "a secret of both machines")
    async with valkey(tmp_path) as store:
        options = ("--store", store.url, "--drain-s", "0", "--peer")
        async with (
            server("agents:talk", tmp_path, *options, f"127.0.0.1:{free_port()}") as first,
            server("agents:talk", tmp_path, *options, f"127.0.0.1:{free_port()}") as second,
        ):
            async with client(first) as here:
                await here.send({"type": "session.open"})
                opened = await here.until("session.opened")
                turn = await ask(here)
                seen = await here.until("text.delta")
                cursor = {"epoch": opened["epoch"], "seq": seen["seq"]}
                resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
                async with client(second) as there:
                    await there.send({"type": "session.open", "resume": resume})
                    again = await there.until("session.opened")
                    assert (again["resumed"], again["turn_id"]) == (True, turn)
                    assert (await there.until("text.delta"))["seq"] == seen["seq"] + 1
                    await there.send({"type": "interrupt", "id": "x", "turn_id": turn})
                    assert (await there.until("interrupt.result"))["outcome"] == "interrupted"
                    assert (await there.receive())["type"] == "turn.ended"
