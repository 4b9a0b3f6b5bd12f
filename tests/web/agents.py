"""Agent for the tests of the JavaScript client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bargein_protocol import CallId, ToolCall, ToolConfirm, ToolResult
from bargein_server import Output, Turn


async def talker(turn: Turn) -> AsyncIterator[Output]:
    """Obey the tests' commands, such as `count 3` and `slowly`; or echo."""
    match turn.text.split():
        case ["count", number]:
            for n in range(int(number)):
                yield f"{n} "
                await asyncio.sleep(0)
        case ["count"]:
            n = 0
            while True:
                yield f"{n} "
                n += 1
                await asyncio.sleep(0.002)
        case ["slowly"] | ["Tell", "me", *_]:
            for n in range(40):
                yield f"{n} "
                await asyncio.sleep(0.01)
        case ["legal"]:
            async with turn.uninterruptible():
                for word in ("you", "agree", "to", "everything"):
                    yield word + " "
                    await asyncio.sleep(0.05)
            await asyncio.sleep(60)
        case ["history"]:
            yield " / ".join(str(message["content"]) for message in turn.history.messages())
        case ["files"]:
            yield " / ".join(f"{file.media_type} {file.name} {len(file.data)}" for file in turn.attachments)
        case ["metadata"]:
            yield str(turn.session.metadata.get("name"))
        case ["fail"]:
            raise RuntimeError("asked to")
        case _:
            yield turn.thought("easy ")
            yield ToolCall(call_id=CallId("c"), name="echo")
            yield ToolConfirm(call_id=CallId("c"), arguments={"text": turn.text})
            yield ToolResult(call_id=CallId("c"), output=turn.text, status="completed")
            yield turn.text


talker.takes_attachments = ("image/*",)  # type: ignore[attr-defined]
