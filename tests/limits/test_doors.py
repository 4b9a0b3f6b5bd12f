"""The limit of a conversation that a client sends through a door, at it and a byte past it."""

from __future__ import annotations

import json

from door_agent import play
from live_server import serving
from sse_client import http


async def test_max_conversation_bytes() -> None:
    """A longer body is refused before it is decoded."""
    body = {"messages": [{"role": "user", "content": "hello"}], "model": "m"}
    size = len(json.dumps(body))
    for limit, status in ((size, 200), (size - 1, 413)):
        async with (
            serving(play, doors=["chat"], max_conversation_bytes=limit) as server,
            http(server) as client,
        ):
            assert (await client.post("/v1/chat/completions", body)).status_code == status
