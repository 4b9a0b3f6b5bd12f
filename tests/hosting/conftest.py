"""Fixtures for tests that reach a model."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from bargein_server.hosting.http_client import TurnClient, create_http_client
from model_agents import KEPT
from model_server import Upstream


@pytest.fixture
async def no_accidents() -> AsyncIterator[None]:
    """No collector during the test, and no complaint of the loop by the end of it."""
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    gc.disable()
    try:
        yield
        KEPT.clear()
        gc.collect()
        await asyncio.sleep(0)
        assert errors == []
    finally:
        gc.enable()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The model's server."""
    async with Upstream() as server:
        yield server


@pytest.fixture
async def http_client() -> AsyncIterator[TurnClient]:
    """A client with room for one connection: a place that is lost is missed at once."""
    async with create_http_client(max_connections=1, max_keepalive=1) as client:
        yield client


@pytest.fixture
def model(upstream: Upstream, http_client: TurnClient) -> AsyncOpenAI:
    """The SDK on that client."""
    return AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=http_client)
