"""Turn without a session, for tests of one agent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from bargein_protocol import Status, Thought
from bargein_server.agent import NO_SPAN, Span, Turn

TOKENS_PER_MESSAGE = 10


class FakeHistory:
    """Messages that count ten tokens each."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages

    def messages(self, max_tokens: int | None = None, *, attachments: bool = False) -> list[dict[str, Any]]:
        """Return the last messages that fit, and always the last one."""
        kept = len(self._messages) if max_tokens is None else max(1, max_tokens // TOKENS_PER_MESSAGE)
        return self._messages[-kept:]


class FakeSession:
    """Session without anything."""


class FakeTurn:
    """Fake of an agent's turn.

    Args:
        text: The current input.
        before: What was said before it: the user and the assistant by turns.
        http_client: The client that the turn hands out.

    Attributes:
        usage: Input and output tokens that the agent added.
        emitted: Outputs of callbacks.
        reasons: Why the model ended early.
    """

    def __init__(self, text: str = "hello", *before: str, http_client: Any) -> None:
        roles = ("user", "assistant")
        said = [{"role": roles[n % 2], "content": content} for n, content in enumerate(before)]
        self.text = text
        self.source = ""
        self.history = FakeHistory([*said, {"role": "user", "content": text}])
        self.usage = (0, 0)
        self.emitted: list[Any] = []
        self.reasons: list[str] = []
        self.id = "t"
        self.session = FakeSession()
        self._http_client = http_client

    def thought(self, text: str) -> Thought:
        """Return a delta of thought."""
        return Thought(text=text)

    def status(self, message: str) -> Status:
        """Return a status."""
        return Status(message=message)

    async def emit(self, output: Any) -> None:
        """Take an output of a callback."""
        self.emitted.append(output)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine."""
        return asyncio.create_task(work)

    def cut_short(self, reason: str) -> None:
        """Note why the model ended early."""
        self.reasons.append(reason)

    def http_client(self) -> Any:
        """Return the client."""
        return self._http_client

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Count tokens."""
        self.usage = (self.usage[0] + input_tokens, self.usage[1] + output_tokens)

    def span(self, *what: Any) -> Span:
        """Begin nothing."""
        return NO_SPAN

    def for_agent(self) -> Turn:
        """Return it as the agent takes it."""
        return cast(Turn, self)
