"""Two servers with addresses for each other, and a Valkey that they share."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect as dial
from websockets.typing import Subprotocol

from live_server import RawClient, ask
from processes import ServerProcess, free_port, server
from valkey_process import valkey
from waiting import WAIT_S
from worker_processes import workers

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


def free_ports(number: int) -> int:
    """Return the first of free ports in a row, as the workers of a machine take them."""
    while True:
        with ExitStack() as stack:
            first = free_port()
            try:
                for port in range(first, first + number):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first


async def test_a_conversation_of_another_machine_is_found_by_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client names it by an id of its own, and meets one worker or the other while the turn runs."""
    (tmp_path / "agents.py").write_text(AGENT)
    monkeypatch.setenv("BARGEIN_PEER_SECRET", "a secret of both machines")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    options = ("--door", "ai-sdk", "--drain-s", "0", "--store")
    async with valkey(tmp_path) as store, AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                workers("agents:talk", tmp_path, *options, store.url, "--peer", f"127.0.0.1:{free_ports(4)}")
            )
            for _ in range(2)
        ]
        for number in range(4):
            async with http() as here, http() as there:
                message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "go"}]}
                body = {"id": f"talk-{number}", "message": message}
                async with here.stream("POST", f"http://127.0.0.1:{one.port}/api/chat", json=body) as stream:
                    await speaks(stream)
                    url = f"http://127.0.0.1:{two.port}/api/chat/talk-{number}"
                    for _ in range(6):  # a new connection reaches any worker
                        async with http() as other, other.stream("GET", url + "/stream") as again:
                            assert again.status_code == 200
                            await speaks(again)
                    assert (await there.post(url + "/stop", json={})).json()["outcome"] == "interrupted"


def http() -> httpx2.AsyncClient:
    """Return a client with connections of its own."""
    return httpx2.AsyncClient(trust_env=False, timeout=WAIT_S)


async def speaks(stream: httpx2.Response) -> None:
    """Wait for a word."""
    async for line in stream.aiter_lines():
        if "text-delta" in line:
            return
    raise AssertionError("the stream has ended")
