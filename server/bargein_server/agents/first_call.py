"""The first call of OpenAI's SDK in a process, made before the first turn.

The SDK imports its resources on first use, and builds the types of requests: a tenth of a second in which
the event loop stands still. So does anyio, which opens connections, with its backend.
"""

from __future__ import annotations

import json

import anyio.lowlevel
import httpx2
import openai

_CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
_ANSWER = f"data: {json.dumps(_CHUNK)}\n\ndata: [DONE]\n\n".encode()

_made = False


async def make_first_call() -> None:
    """Stream an answer that needs no network; once per process."""
    global _made
    if _made:
        return
    _made = True
    await anyio.lowlevel.checkpoint()
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(_answer)) as http_client:
        client = openai.AsyncOpenAI(api_key="none", base_url="http://localhost", http_client=http_client)
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "?"}]
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        async for _ in stream:
            pass


def _answer(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=_ANSWER)
