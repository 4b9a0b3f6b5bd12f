"""The packages without the modules and signals that Windows does not have."""

from __future__ import annotations

import asyncio
import sys

from processes import environment
from waiting import WAIT_S

ABSENT = (
    "fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty", "uvloop",
)  # fmt: skip

PROGRAM = """
import asyncio, os, pkgutil, signal, sys

for name in {absent}:
    sys.modules[name] = None
del signal.SIGHUP

import bargein_client, bargein_protocol, bargein_server

for package in (bargein_protocol, bargein_server, bargein_client):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # The package mcp asks for the platform, which this program cannot change.
        if not module.name.endswith(("__main__", ".mcp_tools", ".mcp_connection")):
            __import__(module.name)

from bargein_client import connect
from bargein_server import Settings
from bargein_server.launcher import Launcher

async def agent(turn):
    yield "hello"

async def main():
    url = asyncio.get_running_loop().create_future()
    launcher = Launcher(
        agent, port=0, settings=Settings(drain_s=0, max_in_flight_bytes=4096),
        announce=lambda name, address: url.set_result(address),
    )
    serving = asyncio.create_task(launcher.serve())
    async with connect(await url) as session:
        turn = session.send("hello")
        await turn.ended()
        print(turn.text)
    serving.cancel()
    await asyncio.wait([serving])

asyncio.run(main())
"""


async def test_everything_imports_and_serves_without_them() -> None:
    """Also with a cap on bytes in flight, which needs one of them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM.replace("{absent}", repr(ABSENT)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(3 * WAIT_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (output.decode(), errors.decode(), process.returncode) == ("hello\n", "", 0)
