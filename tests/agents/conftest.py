"""What the tests of agents share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_server import Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from memory_client import serve
from model_server import Upstream
from scripted_model import Model, Part
from tool_conversation import Conversation, Serve


@pytest.fixture
async def converse() -> AsyncIterator[Serve]:
    """Makes conversations."""
    made: list[Conversation] = []
    servers: list[Upstream] = []

    async def close() -> None:
        for conversation in made:
            await conversation.sessions.shut_down()
        for server in servers:
            await server.__aexit__()

    def make(*steps: list[Part], tools: list[Any], **options: Any) -> Conversation:
        model = Model(*steps)
        server = Upstream(model)
        servers.append(server)
        agent: list[OpenAIAgent] = []

        async def lazily(turn: Turn) -> AsyncIterator[Any]:
            if not agent:
                await server.__aenter__()
                agent.append(OpenAIAgent(model="m", base_url=server.url, tools=tools, **options))
            async for output in agent[0](turn):
                yield output

        made.append(Conversation(serve(lazily), model))
        return made[-1]

    yield make
    await close()
