"""The public conformance cases of RFC 6455 (Autobahn's, as `kosoku` runs them) on what we serve with.

The cases want an echo, so the connection that sits on our protocol class and our wire here is one that
echoes. Left out are groups 9 (speed), 12 and 13 (compression, which is off).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn

from bargein_server import BargeinProtocol, Settings
from bargein_server.serving.server import listening_socket, uvicorn_config
from bargein_server.transport.connection import Connection
from bargein_server.transport.websocket_protocol import EXTENSION
from bargein_server.transport.wires import TransportWire
from waiting import until

LEAST_CASES = 240


class Echo:
    """Stands where a `Connection` does."""

    def __init__(self, protocol: BargeinProtocol) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._wires = {text: TransportWire(protocol, text) for text in (True, False)}

    def receive(self, frame: bytes, text: bool) -> None:
        self._wires[text].write([bytes(frame)])

    def writable_again(self) -> None:
        pass

    def hung_up(self) -> None:
        pass

    def disconnected(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Accept and echo."""
    await receive()
    await send({"type": "websocket.accept"})
    protocol = scope["extensions"][EXTENSION]
    connection = Echo(protocol)
    protocol.attach(cast("Connection", connection))
    await connection.lost


async def run_cases(url: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Run the cases; returns how each behaved and closed."""
    options = [argument for group in ("9.*", "12.*", "13.*") for argument in ("-x", group)]
    options += ["-m", "fuzzingclient", "-p", "4", "-o", str(folder)]
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("kosoku"), *options, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    results = read_reports(folder)
    assert len(results) >= LEAST_CASES, output.decode()
    return results


def read_reports(folder: Path) -> dict[str, tuple[str, str]]:
    """Return how each case behaved and closed."""
    reports = [json.loads(path.read_text()) for path in folder.glob("*_case_*.json")]
    return {report["id"]: (report["behavior"], report["behaviorClose"]) for report in reports}


@pytest.mark.timeout(100)
async def test_every_case_passes(tmp_path: Path) -> None:
    """Behaviour and close alike; INFORMATIONAL and NON-STRICT are what the suite leaves open."""
    limits = Settings(max_frame_bytes=2**24)
    config = uvicorn_config(cast("Any", echo), limits, "127.0.0.1", 0, "critical")
    config.lifespan = "off"
    server = uvicorn.Server(config)
    listener = listening_socket("127.0.0.1", 0, limits.stalled_s)
    task = asyncio.create_task(server._serve([listener]))
    try:
        await until(lambda: server.started, "the server")
        results = await run_cases(f"ws://127.0.0.1:{listener.getsockname()[1]}/", tmp_path)
    finally:
        server.should_exit = True
        await task
    fine = {"OK", "INFORMATIONAL", "NON-STRICT"}
    assert {case: result for case, result in results.items() if not set(result) <= fine} == {}
