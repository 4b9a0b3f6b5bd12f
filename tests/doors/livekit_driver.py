"""Drives a Realtime session of LiveKit's OpenAI plugin as it is, by lines of JSON.

It runs in `.venv-clients` (scripts/setup_clients). Its fatal errors fail a step.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from livekit.agents import llm
from livekit.plugins.openai.realtime import RealtimeModel

from json_answers import answer, until


@llm.function_tool(raw_schema={"name": "locate", "description": "Tell where.", "parameters": {}})  # type: ignore[untyped-decorator]
async def locate(raw_arguments: dict[str, Any]) -> str:
    """Tell where the user is."""
    return "Oslo"


class Generation:
    """One response while it is read."""

    def __init__(self, event: llm.GenerationCreatedEvent) -> None:
        self.text = ""
        self.calls: list[llm.FunctionCall] = []
        self.ended_at = 0.0
        self.task = asyncio.create_task(self._read(event))

    async def _read(self, event: llm.GenerationCreatedEvent) -> None:
        async for message in event.message_stream:
            async for piece in message.text_stream:
                self.text += piece
        async for call in event.function_stream:
            self.calls.append(call)
        self.ended_at = time.perf_counter()


class Driver:
    """The steps."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.reconnected = asyncio.Event()

    async def connect(self, url: str) -> None:
        """Open a session for text."""
        self.model = RealtimeModel(base_url=url, api_key="none", modalities=["text"], turn_detection=None)
        self.session = self.model.session()
        self.session.on("error", self._note)
        self.session.on("session_reconnected", lambda event: self.reconnected.set())
        await self.session.update_instructions("Be kind.")
        await self.session.update_tools([locate])

    def _note(self, event: Any) -> None:
        if not event.recoverable:
            self.errors.append(repr(event.error))

    async def _add(self, item: Any) -> None:
        context = self.session.chat_ctx.copy()
        context.items.append(item)
        await self.session.update_chat_ctx(context)

    async def _respond(self) -> Generation:
        self.generation = Generation(await self.session.generate_reply())
        return self.generation

    async def send(self, words: str) -> dict[str, Any]:
        """Send a message, and return the answer, after the calls of functions that it needs."""
        await self._add(llm.ChatMessage(role="user", content=[words]))
        text = ""
        called: list[str] = []
        while True:
            generation = await self._respond()
            await generation.task
            assert not self.errors, self.errors
            text += generation.text
            if not generation.calls:
                return {"text": text, "called": called}
            for call in generation.calls:
                called.append(call.arguments)
                output = await locate({})
                await self._add(
                    llm.FunctionCallOutput(
                        call_id=call.call_id, name=call.name, output=output, is_error=False
                    )
                )

    async def begin(self, words: str, seen: str) -> None:
        """Send a message, and read the answer up to a text."""
        self.asked = words
        await self._add(llm.ChatMessage(role="user", content=[words]))
        generation = await self._respond()
        await until(lambda: seen in generation.text)

    async def interrupt(self) -> dict[str, Any]:
        """Interrupt; return the answer so far, and how long it took until its end."""
        began = time.perf_counter()
        self.session.interrupt()
        await self.generation.task
        return {"text": self.generation.text, "took": self.generation.ended_at - began}

    async def reconnect(self) -> None:
        """Wait until the session has reconnected by itself, and has given up the answer.

        Its conversation is empty until the server has confirmed the messages that it sends again; one that
        is added before that would be the first.
        """
        await self.reconnected.wait()
        await self.generation.task
        await until(lambda: self.asked in [item.text_content for item in self.session.chat_ctx.messages()])

    async def close(self) -> None:
        """End the session."""
        await self.session.aclose()
        await self.model.aclose()


async def main() -> None:
    """Answer steps."""
    driver = Driver()
    names = ("connect", "send", "begin", "interrupt", "reconnect", "close")
    await answer({name: getattr(driver, name) for name in names})


asyncio.run(main())
