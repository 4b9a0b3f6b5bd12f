"""Generators from the return values of agents.

Decorators for tracing, retries and caching return objects of their own in place of an async generator. Some
have only `__anext__`, others are coroutines that return an iterator. What the call returns decides, not the
function that `functools.wraps` names.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from types import AsyncGeneratorType, TracebackType
from typing import Any


class NotAnAgent(TypeError):
    """The object is not an agent, or its call returned no async iterator."""


async def as_generator(returned: object) -> AsyncGenerator[Any, None]:
    """Return an async generator for an agent's return value.

    A coroutine is awaited, and its result counts.

    Args:
        returned: An async generator, async iterator or async iterable, or an awaitable that returns one.

    Raises:
        NotAnAgent: It is none of them; the message names the remedy.
    """
    if inspect.isawaitable(returned) and not hasattr(returned, "__aiter__"):
        returned = await returned
    if isinstance(returned, (AsyncGeneratorType, AsyncGenerator)):
        return returned
    iterator: Any = returned
    if hasattr(returned, "__aiter__"):
        iterator = returned.__aiter__()
    if isinstance(iterator, AsyncGeneratorType):
        return iterator
    if not hasattr(iterator, "__anext__"):
        raise NotAnAgent(
            f"the agent returned {type(returned).__name__}: write `async def` with `yield`, "
            "or return an async iterator"
        )
    return AdaptedGenerator(iterator)


class AdaptedGenerator(AsyncGenerator[Any, None]):
    """Async generator around an async iterator, whose methods may be missing.

    An error that is thrown into an iterator without `athrow` closes it and is raised. An iterator without
    `aclose` is closed by the garbage collector, as in `async for`.

    Args:
        iterator: An object with `__anext__`.
    """

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __anext__(self) -> Any:
        """Return an awaitable of the next output."""
        return self._iterator.__anext__()

    async def asend(self, value: Any) -> Any:
        """Return the next output; the iterator cannot take a value."""
        return await self._iterator.__anext__()

    async def athrow(
        self,
        error: BaseException | type[BaseException],
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise an error in the iterator; or close it, and raise the error here."""
        if hasattr(self._iterator, "athrow"):
            return await self._iterator.athrow(error)
        await self.aclose()
        raise error

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed."""
        if not hasattr(self._iterator, "aclose"):
            return
        closing = self._iterator.aclose()
        if inspect.isawaitable(closing):
            await closing
