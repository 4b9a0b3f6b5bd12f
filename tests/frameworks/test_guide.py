"""The snippets of the guide to frameworks; `other_frameworks` has those of LlamaIndex and Google ADK."""

from __future__ import annotations

from typing import Any

import pytest
from httpx2 import AsyncClient
from langchain_core.tools import tool

from documentation import blocks
from framework_agents import langchain_model
from live_server import ask, serving
from model_server import Upstream
from strict_model import StrictModel, call, say

PAGE = "server/docs/frameworks.md"
BLOCKS = {name: block for block in blocks(PAGE, "py") for name in (block.file or str(block.line),)}


def execute(text: str, scope: dict[str, Any]) -> dict[str, Any]:
    exec(compile(text, PAGE, "exec"), scope)
    return scope


async def test_each_line_wraps_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agents are made without a server, and without a turn."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    scope: dict[str, Any] = {}
    for name in ("graph_bot.py", "sdk_bot.py", "pydantic_bot.py", "consent_bot.py"):
        agent = execute(BLOCKS[name].text, scope)["agent"]
        assert callable(agent)


async def test_the_graph_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user reads the value of `interrupt()`; a refused booking is not made."""
    model = StrictModel([call("book", flight="LH1")], [say("Well.")])
    async with Upstream(model) as upstream:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_API_BASE", upstream.url)
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        agent = execute(BLOCKS["consent_bot.py"].text, {})["agent"]
        async with serving(agent) as server, server.connect() as client:
            await ask(client)
            question = await client.until("tool.confirm")
            assert question["arguments"] == {"question": "Book LH1?"}
            await client.send({"type": "tool.decision", "call_id": question["call_id"], "allow": False})
            assert (await client.until("turn.ended"))["status"] == "completed"
    assert ("result", "the user declined") in model.heard[-1]


async def test_the_loop_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers; recorded tools are called with the whole call."""
    [own] = [block for block in BLOCKS.values() if "langchain_reader(turn)" in block.text]
    [recorded] = [block for block in BLOCKS.values() if "recorded_tool" in block.text]
    scope: dict[str, Any] = {}
    async with Upstream(StrictModel([say("Hello there.")])) as upstream, AsyncClient() as http:

        def chat_model(**options: Any) -> Any:
            assert options["http_async_client"] is not None
            return langchain_model(upstream.url, http)

        scope["ChatOpenAI"] = chat_model
        agent = execute(own.text, scope)["chat"]
        async with serving(agent) as server, server.connect() as client:
            await ask(client)
            assert (await client.until("turn.ended"))["heard"]["text"] == "Hello there."

    @tool
    async def add(x: int) -> int:
        """Add one."""
        return x + 1

    made = {"name": "add", "args": {"x": 1}, "id": "c", "type": "tool_call"}
    scope |= {"my_tools": [add], "call": made}
    lines = "\n    ".join(recorded.text.splitlines())
    namespace = execute(f"async def use(my_tools, call):\n    {lines}\n    return message", scope)
    assert (await namespace["use"]([add], made)).content == "2"
