"""A reverse proxy that cuts what is silent for 3 s, and a tool that works for 8 s without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bargein_client import Backoff, Reconnecting, connect
from client_script import patiently
from processes import free_port, server
from proxy_process import NGINX, running

AGENT = """
import asyncio
from bargein_protocol import CallId, ToolResult, ToolRunning

async def work(turn):
    call = CallId("call")
    yield ToolRunning(call_id=call, arguments={})
    await asyncio.sleep(8)
    yield ToolResult(call_id=call, output="done", status="completed")
    yield "It is done."
"""

SERVER = """
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://127.0.0.1:{target};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header Host $http_host;
        proxy_read_timeout 3s;
    }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, target: int) -> AsyncIterator[int]:
    """Run nginx in front of a port; yields its own."""
    port = free_port()
    configuration = NGINX.format(folder=folder, servers=SERVER.format(port=port, target=target))
    async with running("nginx", configuration, folder, port):
        yield port


@pytest.mark.parametrize(("heartbeat_s", "cut"), [("1", False), ("15", True)])
async def test_heartbeats_keep_the_line_while_a_tool_is_silent(
    heartbeat_s: str, cut: bool, tmp_path: Path
) -> None:
    """With them the line holds; without, it is cut, and the session resumes without a loss."""
    (tmp_path / "agents.py").write_text(AGENT)
    reconnects = 0
    async with (
        server("agents:work", tmp_path, "--heartbeat-s", heartbeat_s) as behind,
        nginx(tmp_path, behind.port) as port,
        connect(f"ws://127.0.0.1:{port}/v1/session", backoff=Backoff(base_s=0.01)) as session,
    ):
        stream = session.events()
        turn = session.send("work")
        await patiently(turn.accepted())
        async with asyncio.timeout(20):
            ended = await turn.ended()
        assert (ended.status, turn.text) == ("completed", "It is done.")
        async for event in stream:
            reconnects += isinstance(event, Reconnecting)
            if event is ended:
                break
    assert bool(reconnects) is cut
