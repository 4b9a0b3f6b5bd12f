"""Operators on single items: `transformed` and `validated`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

from .buffering import prefetched
from .sources import Reading
from .tasks import ReadBudget

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

Stage = Callable[[T], Awaitable[A] | A]
"""Function of one item, plain or awaitable."""


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

    Each stage runs in a task of its own: while the second works on an item, the first works on the next,
    so the throughput is that of the slowest stage. Between two stages, and before the consumer, at most
    `ahead` items wait. An error of the source or of a stage is raised once, after the items before it,
    and closes the rest. Cancelling ends every stage, closes the source, and drops the items between.

    A stage that makes several items of one, or one of several, is an operator of its own: write it as
    an async generator, and give that to `prefetched`.

    Args:
        source: The items.
        stages: Functions of one item, plain or awaitable.
        ahead: Number of items that may wait between stages, at least 1.

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


@dataclass(frozen=True, slots=True)
class Replace(Generic[T]):
    """Policy of `validated`: put `value` in place of a bad chunk."""

    value: T


@dataclass(frozen=True, slots=True)
class Repair(Generic[T]):
    """Policy of `validated`: put `function(chunk)` in place of a bad chunk.

    The chunk is dropped if the function returns None or another bad chunk.
    """

    function: Callable[[T], T | None]


OnBad = Literal["drop", "stop"] | Replace[T] | Repair[T]
"""Policy for a bad chunk: `drop` it, `stop` the stream before it, replace it, or repair it."""


async def validated(
    source: AsyncIterable[T], check: Callable[[T], bool], *, on_bad: OnBad[T] = "drop"
) -> AsyncGenerator[T, None]:
    """Yield the good chunks in order, and apply a policy to bad ones.

    Nothing is read ahead or held back, so cancelling loses only the items that the source itself holds.
    The source is closed, by a `stop` too. An exception of `check` or of a repair ends the stream.

    Args:
        source: The chunks.
        check: Returns whether a chunk is good. It must not block.
        on_bad: The policy.
    """
    budget = ReadBudget()
    async with Reading(source) as chunks:
        async for chunk in chunks:
            good: T | None = chunk
            if not check(chunk):
                if on_bad == "stop":
                    return
                good = _mended(chunk, check, on_bad)
                if good is None:
                    await budget.spend()
                    continue
            budget.reset()
            yield good  # type: ignore[misc]


def _mended(chunk: T, check: Callable[[T], bool], on_bad: OnBad[T]) -> T | None:
    if isinstance(on_bad, Replace):
        return on_bad.value
    if isinstance(on_bad, Repair):
        mended = on_bad.function(chunk)
        if mended is not None and check(mended):
            return mended
    return None
