"""A reverse proxy that cuts what is silent for 3 s, and a tool that works for 8 s without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bargein_client import Backoff, Reconnecting, connect
from client_script import patiently
from machine import find_program
from processes import free_port, server

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

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
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
}}
"""


@asynccontextmanager
async def nginx(folder: Path, target: int) -> AsyncIterator[int]:
    """Run nginx in front of a port; yields its own."""
    program = find_program("nginx")
    assert program is not None
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, target=target))
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(file), "-p", str(folder), "-e", str(folder / "error.log")
    )
    try:
        await patiently(_listens(port, process))
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, "nginx did not start"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return


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
