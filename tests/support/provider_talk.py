"""A conversation with a model of Anthropic or Google, behind `ModelAgent`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from bargein_server import Turn
from bargein_server.agent import Output
from bargein_server.agents.provider_models import ModelAgent
from memory_client import Line, serve
from provider_servers import Provider


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Talk:
    """A conversation with a provider's model."""

    def __init__(self, provider: Provider, **options: Any) -> None:
        self.agent = ModelAgent(
            model=provider.model, base_url=provider.url, api_key="k", max_tokens=20_000, **options
        )

        async def run(turn: Turn) -> AsyncIterator[Output]:
            async for output in self.agent(turn):
                yield output

        self.provider = provider
        self.sessions = serve(run)
        self.line = Line(self.sessions)

    async def ended(self, times: int = 1) -> Any:
        """Return the end of the turn."""
        await self.line.until("turn.ended", times)
        return self.line.ends()[-1]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.line.events if isinstance(event, kind)]
