"""The page through nginx and two servers that share a store, in a real browser."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser

from chat_page import person
from processes import free_port, server
from proxy_process import NGINX, running
from valkey_process import valkey

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.nightly,
    pytest.mark.needs("valkey"),
    pytest.mark.needs("nginx"),
]

AGENT = """
import asyncio

async def talk(turn):
    if turn.text == "long":
        for number in range(5000):
            yield f"word{number} "
            await asyncio.sleep(0.02)
    yield f"answer after {len(turn.history.messages())}"
"""
SERVERS = """
upstream bargein {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; }}
map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    location / {{ proxy_pass http://bargein; }}
}}
"""


async def test_the_page_goes_on_whichever_server_it_meets(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reloads within a turn, an interrupt, and the end of a server; nginx takes the servers in turns."""
    (tmp_path / "agents.py").write_text(AGENT)
    monkeypatch.setenv("BARGEIN_PEER_SECRET", "a secret of both machines")
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(valkey(tmp_path / "valkey"))
        options = ("--store", store.url, "--drain-s", "0", "--peer")
        one, two = [
            await stack.enter_async_context(
                server("agents:talk", tmp_path, *options, f"127.0.0.1:{free_port()}")
            )
            for _ in range(2)
        ]
        folder, port = tmp_path / "nginx", free_port()
        folder.mkdir()
        servers = SERVERS.format(one=one.port, two=two.port, port=port)
        configuration = NGINX.format(folder=folder, servers=servers)
        await stack.enter_async_context(running("nginx", configuration, folder, port))
        async with person(browser, port) as chat:
            await chat.ended(await chat.say("short"), "completed")
            await chat.speaking(await chat.say("long"))
            for _ in range(4):
                before = len(await chat.turns.last.inner_text())
                await chat.page.reload()
                await chat.connected()
                await chat.speaking(chat.turns.last, before + 50)
            await chat.page.keyboard.press("Escape")
            await chat.ended(chat.turns.last, "interrupted")
            await one.kill()
            turn = await chat.say("again")
            await chat.ended(turn, "completed")
            assert "answer after 5" in await turn.inner_text()
            assert chat.faults == []
