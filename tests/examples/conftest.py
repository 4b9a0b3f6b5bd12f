"""Model that the examples find in the environment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bargein_server.examples.model import place
from model_server import Upstream


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    """A model's server whose calls the test answers."""
    async with Upstream() as upstream:
        monkeypatch.setenv("OPENAI_MODEL", "m")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        await place.shutdown()
        yield upstream
        await place.shutdown()
