"""Metrics of llama.cpp."""

from __future__ import annotations

import asyncio

import httpx2

from bargein_server.agents.local import LocalAgent
from model_server import WAIT_S


class Gauge:
    """Metrics of llama.cpp."""

    def __init__(self, agent: LocalAgent) -> None:
        self._url = agent.model.base_url.removesuffix("/v1")

    async def _get(self, path: str) -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return await client.get(self._url + path)

    async def contexts(self) -> list[int]:
        """The context of each slot, in tokens."""
        return [slot["n_ctx"] for slot in (await self._get("/slots")).json()]

    async def busy(self) -> int:
        """How many answers are being generated."""
        return sum(slot["is_processing"] for slot in (await self._get("/slots")).json())

    async def generated(self) -> int:
        """Tokens generated so far, in answers that are over."""
        lines = (await self._get("/metrics")).text.splitlines()
        return next(
            int(line.split()[1]) for line in lines if line.startswith("llamacpp:tokens_predicted_total ")
        )

    async def becomes(self, busy: int) -> None:
        """Wait until so many answers are being generated."""
        async with asyncio.timeout(WAIT_S):
            while await self.busy() != busy:
                await asyncio.sleep(0.01)
