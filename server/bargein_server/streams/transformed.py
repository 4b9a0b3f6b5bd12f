"""Stages that work at the same time, each on its own item."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar, overload

from .prefetched import prefetched
from .reading import Reading

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

Stage = Callable[[T], Awaitable[A] | A]
"""What makes one item of another, at once or after waiting."""


@overload
def transformed(
    source: AsyncIterable[T], first: Stage[T, A], /, *, ahead: int = 8
) -> AsyncGenerator[A, None]: ...
@overload
def transformed(
    source: AsyncIterable[T], first: Stage[T, A], second: Stage[A, B], /, *, ahead: int = 8
) -> AsyncGenerator[B, None]: ...
@overload
def transformed(
    source: AsyncIterable[T],
    first: Stage[T, A],
    second: Stage[A, B],
    third: Stage[B, C],
    /,
    *,
    ahead: int = 8,
) -> AsyncGenerator[C, None]: ...
@overload
def transformed(
    source: AsyncIterable[Any], /, *stages: Stage[Any, Any], ahead: int = 8
) -> AsyncGenerator[Any, None]: ...
def transformed(
    source: AsyncIterable[Any], /, *stages: Stage[Any, Any], ahead: int = 8
) -> AsyncGenerator[Any, None]:
    """Yield the items of `source` after every stage, in order.

    Each stage runs in a task of its own: while the second works on an item the first works on the next,
    so the whole goes as fast as its slowest stage. Between two stages, and before the consumer, at most
    `ahead` items wait. An error of the source or of a stage comes after the items before it, once, and
    closes the rest. Cancelling ends every stage, closes the source, and drops what is on its way.

    A stage that makes several items of one, or one of several, is an operator of its own: write it as
    an async generator, and give that to `prefetched`.

    Args:
        source: The items.
        stages: Plain functions of one item, or functions that return an awaitable.
        ahead: How many items may wait between stages, at least 1.

    Raises:
        ValueError: `ahead` is less than 1, at the first step.
    """
    stream: AsyncIterable[Any] = source
    for stage in stages:
        stream = prefetched(_mapped(stream, stage), ahead=ahead)
    return prefetched(source, ahead=ahead) if stream is source else stream  # type: ignore[return-value]


async def _mapped(source: AsyncIterable[Any], stage: Stage[Any, Any]) -> AsyncGenerator[Any, None]:
    async with Reading(source) as items:
        async for item in items:
            made = stage(item)
            yield await made if inspect.isawaitable(made) else made
