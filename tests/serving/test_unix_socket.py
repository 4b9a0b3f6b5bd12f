"""A server on a Unix socket, and what a dead one leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect

from bargein_server.launcher import Launcher, NotProtected
from bargein_server.serving.unix_socket import unix_socket
from live_server import echo

PROTOCOLS: Any = ["bargein.v1.json"]

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")


@asynccontextmanager
async def server(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command on a Unix socket until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "--agent", "demo", "--uds", str(path), "--store", "none",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_conversation_and_a_stop(tmp_path: Path) -> None:
    """The address is printed, clients connect, and the socket is gone after SIGTERM."""
    path = tmp_path / "server.sock"
    async with server(path) as process:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode().strip()
        assert line == f"bargein serves demo at unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        async with unix_connect(str(path), "ws://chat.example/v1/session", subprotocols=PROTOCOLS) as client:
            await client.send(json.dumps({"type": "session.open"}))
            assert json.loads(await client.recv())["type"] == "session.opened"
        process.terminate()
        assert await process.wait() in (0, -signal.SIGTERM)
        assert not path.exists()


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """One of a living server is not, and neither is a file."""
    path = str(tmp_path / "server.sock")
    unix_socket(path).close()
    listener = unix_socket(path)
    listener.listen()
    with pytest.raises(OSError, match="in use"):
        unix_socket(path)
    listener.close()
    file = tmp_path / "notes"
    file.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        unix_socket(str(file))
    assert file.read_text() == "mine"


def test_the_error_names_the_path(tmp_path: Path) -> None:
    """And no port."""
    launcher = Launcher(echo, f"unix:{tmp_path}/no/folder.sock", announce=lambda name, url: None)
    with pytest.raises(OSError, match=r"cannot listen on unix:.*/no/folder\.sock: No such file") as failed:
        launcher.listen()
    assert "port" not in str(failed.value)


def test_a_socket_needs_no_token() -> None:
    """It is reached from this machine alone, unlike a public address."""
    Launcher(echo, "unix:/tmp/never-bound.sock", announce=lambda name, url: None)
    with pytest.raises(NotProtected):
        Launcher(echo, "0.0.0.0", announce=lambda name, url: None)
    assert not os.path.exists("/tmp/never-bound.sock")
