"""Text of an agent for the voice: pieces go in, sentences come out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from ..streams.sources import Signal
from ..streams.text import Rules, end_of

MAX_CHARS = 2000
"""Text that waits for the voice; an agent that has written more is not pulled."""

PAUSE_S = 0.35
"""Pause of the agent after which text that ends like a sentence is spoken without its successor."""

_STOPS = ".!?…:;。！？"
_CLOSERS = "\"'”’»)]}"


class Mark:
    """A position in the text, and the event that its sound was played."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()


class SpeechText:
    """Queue of text with marks; one writer side, one reader.

    Args:
        language: A BCP 47 tag, for the end of sentences.
        max_chars: Maximum length of a sentence; a longer one is cut.
    """

    def __init__(self, language: str, max_chars: int) -> None:
        self._rules = Rules(language, max_chars)
        self._waiting: deque[str | Mark] = deque()
        self._chars = 0
        self._news = Signal()
        self._room = Signal()
        self._closed = False
        self._failure: Exception | None = None

    async def put(self, text: str) -> None:
        """Append text; wait while too much of it waits."""
        while self._chars >= MAX_CHARS and not self._closed:
            await self._room.wait()
        self._waiting.append(text)
        self._chars += len(text)
        self._news.wake()

    def mark(self) -> Mark:
        """Append a mark, which also ends a sentence."""
        mark = Mark()
        self._waiting.append(mark)
        self._news.wake()
        return mark

    def close(self, failure: Exception | None = None) -> None:
        """End the text; `failure` is raised after it."""
        self._closed, self._failure = True, failure
        self._news.wake()

    async def sentences(self) -> AsyncGenerator[str | Mark, None]:
        """Yield sentences and marks in order.

        A sentence is given out when the first letter after it has arrived, at a mark, at the end, or when
        the agent pauses.
        """
        loop = asyncio.get_running_loop()
        text, start = "", 0
        while True:
            if not self._waiting:
                if self._closed:
                    break
                deadline = loop.time() + PAUSE_S if _complete(text[start:]) else None
                if not await self._news.wait(deadline) and not self._waiting:
                    yield text[start:]
                    text, start = "", 0
                continue
            item = self._waiting.popleft()
            if isinstance(item, Mark):
                if text[start:]:
                    yield text[start:]
                text, start = "", 0
                yield item
                continue
            self._chars -= len(item)
            self._room.wake()
            text, start = text[start:] + item, 0
            while end := end_of(text, start, self._rules):
                yield text[start:end]
                start = end
        if text[start:]:
            yield text[start:]
        if self._failure is not None:
            raise self._failure


def _complete(text: str) -> bool:
    return text.rstrip().rstrip(_CLOSERS)[-1:] in (*_STOPS,)
