"""Applications mounted in those of other frameworks, under other servers: start, drain, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from embedded import COMMANDS, FRAMEWORKS, Site, embedded
from live_server import request
from waiting import WAIT_S

BY_DAY = {
    ("fastapi_site", "uvicorn"),
    ("starlette_site", "gunicorn"),
    ("litestar_site", "granian"),
    ("django_site", "hypercorn"),
    ("fastapi_site", "bargein-server"),
}

PAIRS = [
    pytest.param(site, server, marks=[] if (site, server) in BY_DAY else [pytest.mark.nightly])
    for site in FRAMEWORKS
    for server in COMMANDS
]

ANY_SIGNAL = {0, -signal.SIGTERM}
"""Ends of a server after SIGTERM; uvicorn raises the signal again."""


async def _until(socket: Any, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(3 * WAIT_S):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if frame["type"] == kind:
                return frame


async def _readiness(site: Site) -> tuple[int, Any]:
    status, _, body = await request(site.port, "/chat/readyz")
    return status, json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["status"]  # it may be chunked


async def _ended(site: Site) -> int:
    async with asyncio.timeout(3 * WAIT_S):
        return await site.process.wait()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("framework", "server"), PAIRS)
def test_start_drain_and_stop(framework: str, server: str, tmp_path: Path) -> None:
    """The agent starts, both applications answer, a turn completes after SIGTERM, and the agent stops."""
    asyncio.run(_drained(framework, server, tmp_path))


async def _drained(framework: str, server: str, tmp_path: Path) -> None:
    async with embedded(tmp_path, framework, server) as site:
        assert site.events == ["startup"]
        assert b"hello" in (await request(site.port, "/hello"))[2]
        assert b'src="static/page/main.js"' in (await request(site.port, "/chat/"))[2]
        assert await _readiness(site) == (200, "ok")
        async with site.connect() as socket:
            await socket.send(json.dumps({"type": "input.text", "id": "i", "text": "hello"}))
            await _until(socket, "text.delta")
            site.process.terminate()
            await _until(socket, "goaway")
            assert await _readiness(site) == (503, "draining")
            (tmp_path / "go").touch()
            ended = await _until(socket, "turn.ended")
            assert (ended["status"], ended["heard"]["text"]) == ("completed", "one two")
            assert await _ended(site) in ANY_SIGNAL, site.log
        assert site.events == ["startup", "shutdown"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_a_second_signal_does_not_wait(server: str, tmp_path: Path) -> None:
    """It reaches the server at once, and the turn ends."""
    asyncio.run(_hurried(server, tmp_path))


async def _hurried(server: str, tmp_path: Path) -> None:
    async with embedded(tmp_path, "starlette_site", server) as site:
        async with site.connect() as socket:
            await socket.send(json.dumps({"type": "input.text", "id": "i", "text": "hello"}))
            await _until(socket, "text.delta")
            site.process.terminate()
            await _until(socket, "goaway")
            os.kill(site.process.pid, signal.SIGTERM)
            assert await _ended(site) in ANY_SIGNAL, site.log
        assert site.events == ["startup", "shutdown"]


WITHOUT_LIFESPAN = """
from fastapi import FastAPI

from chat import chat

site = FastAPI()
site.mount("/chat", chat)
"""


@pytest.mark.timeout(240)
def test_without_a_lifespan_the_agent_starts_late(tmp_path: Path) -> None:
    """With the first request for a session, and one clear line."""
    asyncio.run(_late(tmp_path))


async def _late(tmp_path: Path) -> None:
    async with embedded(tmp_path, "fastapi_site", "uvicorn", WITHOUT_LIFESPAN) as site:
        assert site.events == []
        async with site.connect() as socket:
            await socket.send(json.dumps({"type": "input.text", "id": "i", "text": "hello"}))
            await _until(socket, "text.delta")
            assert site.events == ["startup"]
        assert site.log.count("bargein_server.lifespan(app)") == 1
