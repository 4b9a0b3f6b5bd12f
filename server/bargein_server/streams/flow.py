"""Operators on single items: functions, rates, limits and progress."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

import msgspec

from bargein_protocol import Progress

from .buffering import prefetched
from .sources import LimitExceeded, ReadBudget, Reading

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


# Tolerance for the rounding of times, in seconds.
_ROUNDING_S = 1e-6
# Poll interval of a playback clock that stands still, in seconds.
_POLL_S = 0.02


async def throttled(
    source: AsyncIterable[T], per_second: float, *, size_of: Callable[[T], float] = lambda _: 1.0
) -> AsyncGenerator[T, None]:
    """Yield the items of `source` at most at a rate.

    It waits before it reads, never with an item in hand, so cancelling loses none; it closes the source.
    Time in which no item was requested, or the source had none, is not made up for by a burst.

    Args:
        source: The items.
        per_second: Maximum sum of sizes in a second.
        size_of: Size of an item: `len` for characters. By default each item counts 1.

    Raises:
        ValueError: `per_second` is not positive, at the first step.
    """
    if not per_second > 0:
        raise ValueError(f"expected a rate above 0, got {per_second}")
    clock = asyncio.get_running_loop().time
    due = clock()
    async with Reading(source) as items:
        while True:
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            due = max(due, clock()) + size_of(item) / per_second
            yield item


async def throttled_to_playback(
    source: AsyncIterable[T],
    seconds_of: Callable[[T], float],
    *,
    ahead_s: float = 1.0,
    played_s: Callable[[], float] | None = None,
) -> AsyncGenerator[T, None]:
    """Yield audio chunks not much faster than they are played.

    The next one is read when at most `ahead_s` seconds of audio wait to be played. Speech is synthesised
    faster than it is played. Audio that is made too early costs money and is discarded by an interrupt,
    so the source is not read before there is room. It waits before it reads, never with a chunk in hand,
    so cancelling loses none; it closes the source.

    Args:
        source: The chunks.
        seconds_of: Duration of a chunk, in seconds.
        ahead_s: Maximum duration of audio that waits to be played, in seconds.
        played_s: Returns the played duration in seconds, as reported by the client. None assumes a
            player that begins with the first chunk and stands still while it has none.
    """
    clock = asyncio.get_running_loop().time
    given, until = 0.0, clock()
    async with Reading(source) as chunks:
        while True:
            while (
                wait := (until - clock() if played_s is None else given - played_s()) - ahead_s
            ) > _ROUNDING_S:
                await asyncio.sleep(wait if played_s is None else max(wait, _POLL_S))
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            lasts = seconds_of(chunk)
            given += lasts
            until = max(until, clock()) + lasts
            yield chunk


async def limited(
    source: AsyncIterable[T],
    *,
    chunks: int | None = None,
    size: int | None = None,
    then: Literal["stop", "fail"] = "stop",
) -> AsyncGenerator[T, None]:
    """Yield the items of `source` up to a limit.

    The item that would exceed the limit is not given out. The source is closed, so a model that never
    stops costs no more. With `stop`, a source that has given its number of chunks is closed at the next
    step, without a request for one more. Nothing is read ahead; cancelling closes the source.

    Args:
        source: The items: text, bytes, or the structs of `bargein_protocol`.
        chunks: Maximum number of items; None for any number.
        size: Maximum number of bytes in total: UTF-8 for text, JSON for structs; None for any number.
        then: At the limit the stream ends (`stop`) or raises (`fail`).

    Raises:
        LimitExceeded: The source had more, and `then` is `fail`.
        TypeError: An item has no size in bytes, and `size` is given.
    """
    given = taken = 0
    async with Reading(source) as items:
        while then == "fail" or chunks is None or given < chunks:
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            given += 1
            if size is not None:
                taken += size_of(item)
            if (chunks is not None and given > chunks) or (size is not None and taken > size):
                if then == "fail":
                    raise LimitExceeded(f"expected at most {chunks} chunks and {size} bytes")
                return
            yield item


def size_of(item: object) -> int:
    """Return the size of an item in bytes: UTF-8 for text, JSON for structs.

    Raises:
        TypeError: The item is none of text, bytes or a struct.
    """
    if isinstance(item, str):
        return len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
    if isinstance(item, (bytes, bytearray, memoryview)):
        return memoryview(item).nbytes
    if isinstance(item, msgspec.Struct):
        return len(msgspec.json.encode(item))
    raise TypeError(f"expected str, bytes or a struct, got {type(item).__name__}")


async def with_progress(
    source: AsyncIterable[T],
    *,
    total: float | None = None,
    every: float = 1.0,
    unit: str | None = None,
    label: str | None = None,
    size_of: Callable[[T], float] = lambda _: 1.0,
) -> AsyncGenerator[T | Progress, None]:
    """Yield the items of `source` with `Progress` events between them.

    A `Progress` follows the item with which its value has grown by `every` since the last one. A final
    one follows at the end if the last is out of date, but not when the source fails. Nothing is read
    ahead; cancelling closes the source.

    Args:
        source: The items.
        total: The value at the end, if it is known in advance.
        every: Growth of the value between two reports.
        unit: Unit of the value, for people.
        label: Name of the work, for people.
        size_of: Size of an item. By default each item counts 1.
    """
    value = reported = 0.0
    async with Reading(source) as items:
        async for item in items:
            yield item
            value += size_of(item)
            if value - reported >= every:
                reported = value
                yield Progress(value=value, total=total, unit=unit, label=label)
    if reported != value:
        yield Progress(value=value, total=total, unit=unit, label=label)
