"""What a process does once is done before its first turn."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from processes import ROOT

PROGRAM = """
import asyncio, json, sys

from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.hosting import http_client
from live_server import ask, serving
from model_server import Upstream

async def main():
    async with Upstream(lambda call: call.answer("Hello.")) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, api_key="k")
        agent = agent if "warm" in sys.argv else agent.__call__
        async with serving(agent) as server, server.connect() as client:
            known = set(sys.modules)
            certificates = http_client.tls_context.cache_info().currsize
            await ask(client)
            assert (await client.until("turn.ended"))["status"] == "completed"
            print(json.dumps([certificates, sorted(set(sys.modules) - known)]))

asyncio.run(main())
"""


def first_turn(kind: str) -> tuple[int, set[str]]:
    """Return whether the certificates were read before the first turn, and the modules that it imported."""
    path = [str(ROOT / folder) for folder in ("protocol", "server", "tests/support")]
    lines = f"import sys; sys.path[:0] = {path!r}\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", lines, kind], capture_output=True, text=True, check=True, timeout=60
    )
    certificates, imported = json.loads(done.stdout.splitlines()[-1])
    return certificates, set(imported)


@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_a_turn_imports_nothing(kind: str) -> None:
    """Neither the resources of OpenAI's SDK nor anyio's backend; an agent without `startup()` shows them."""
    certificates, imported = first_turn(kind)
    assert certificates == 1
    slow = {name for name in imported if name.startswith(("openai", "anyio"))}
    assert bool(slow) == (kind == "cold"), sorted(slow)
