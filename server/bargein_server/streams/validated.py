"""Checking every chunk, and what becomes of a bad one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from .breath import Breath
from .reading import Reading

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replace(Generic[T]):
    """Put `value` in the place of a bad chunk."""

    value: T


@dataclass(frozen=True, slots=True)
class Repair(Generic[T]):
    """Put `function(chunk)` in the place of a bad chunk; drop it when that is None or bad too."""

    function: Callable[[T], T | None]


OnBad = Literal["drop", "stop"] | Replace[T] | Repair[T]
"""What becomes of a bad chunk: `drop` leaves it out, `stop` ends the stream before it."""


async def validated(
    source: AsyncIterable[T], check: Callable[[T], bool], *, on_bad: OnBad[T] = "drop"
) -> AsyncGenerator[T, None]:
    """Yield the chunks that are good, in order, and treat bad ones as `on_bad` says.

    It reads nothing ahead and holds nothing back, so cancelling loses nothing but what the source
    itself holds; it closes the source, as does a stop. What `check` or a repair raises ends the stream.

    Args:
        source: The chunks.
        check: Whether a chunk is good. It must not wait.
        on_bad: The policy.
    """
    breath = Breath()
    async with Reading(source) as chunks:
        async for chunk in chunks:
            good: T | None = chunk
            if not check(chunk):
                if on_bad == "stop":
                    return
                good = _mended(chunk, check, on_bad)
                if good is None:
                    await breath.read()
                    continue
            breath.given()
            yield good  # type: ignore[misc]


def _mended(chunk: T, check: Callable[[T], bool], on_bad: OnBad[T]) -> T | None:
    if isinstance(on_bad, Replace):
        return on_bad.value
    if isinstance(on_bad, Repair):
        mended = on_bad.function(chunk)
        if mended is not None and check(mended):
            return mended
    return None
