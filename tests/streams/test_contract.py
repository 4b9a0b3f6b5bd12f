"""The rules that every operator keeps, at every point at which it can be interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from operators import OPERATORS, Operator, texts
from streaming import Mode, Source, no_accidents, read, run

pytestmark = pytest.mark.virtual_time

every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)

CUT = asyncio.CancelledError


def two_sources() -> tuple[Source[str], Source[str]]:
    return Source("A1. ", "A2. ", "A3. "), Source("B1. ", "B2. ", "B3. ")


def assert_closed(*sources: Source[str]) -> None:
    """Assert that every source that has begun was closed, in the task that read it."""
    for source in sources:
        assert source.closed == source.begun
        assert source.strange == []


@every_operator
async def test_a_clean_run_reads_all_and_closes_all(operator: Operator) -> None:
    """Nothing is lost, nothing is doubled, and the sources are closed where they were read."""
    one, two = two_sources()
    got: list[Any] = []
    with no_accidents():
        _, error = await run(lambda: read(operator(one.stream, two.stream), got))
    assert error is None
    assert_closed(one, two)
    text = texts(got).lower()
    name = next(name for name, value in OPERATORS.items() if value is operator)
    left_out = {"validated": "a2. ", "limited": "a3. "}.get(name, "")
    expected = [item for source in (one, two) for item in ("".join(source.given),) if source.begun]
    if name == "raced":
        expected = expected[:1]
    assert sorted(text.split()) == sorted("".join(expected).lower().replace(left_out, "").split())


@every_operator
@pytest.mark.parametrize("mode", ["early", "late", "twice"])
async def test_a_cancel_at_any_suspension_point_closes_all_and_leaves_no_task(
    operator: Operator, mode: Mode
) -> None:
    """For every k: cut at the k-th of the N suspensions of a clean run."""
    points, _ = await run(lambda: read(operator(*(source.stream for source in two_sources())), []))
    assert points > 3
    with no_accidents():
        for point in range(1, points + 1):
            one, two = two_sources()
            stream = operator(one.stream, two.stream)
            _, error = await run(lambda stream=stream: read(stream, []), point, mode)  # type: ignore[misc]
            assert isinstance(error, CUT) or (mode != "early" and error is None), (point, error)
            assert_closed(one, two)


@every_operator
async def test_a_cancel_while_a_reader_leaves_early_is_not_lost(operator: Operator) -> None:
    """A `break` after the first item closes all; a cancel at any point of that closing is passed on."""

    async def read_one(stream: AsyncGenerator[Any, None]) -> None:
        async with aclosing(stream):
            await anext(stream)

    points, _ = await run(lambda: read_one(operator(*(source.stream for source in two_sources()))))
    with no_accidents():
        for point in range(1, points + 1):
            one, two = two_sources()
            stream = operator(one.stream, two.stream)
            _, error = await run(lambda stream=stream: read_one(stream), point)  # type: ignore[misc]
            assert isinstance(error, CUT)
            assert_closed(one, two)


@every_operator
async def test_a_cancel_that_is_thrown_in_at_a_yield_closes_all(operator: Operator) -> None:
    """What the turn's runner does when the agent stands at its yield: for every item."""
    items: list[Any] = []
    await run(lambda: read(operator(*(source.stream for source in two_sources())), items))
    with no_accidents():
        for count in range(1, len(items) + 1):
            one, two = two_sources()
            stream = operator(one.stream, two.stream)
            _, error = await run(lambda stream=stream, count=count: throw_after(stream, count))  # type: ignore[misc]
            assert isinstance(error, CUT)
            assert_closed(one, two)


async def throw_after(stream: AsyncGenerator[Any, None], count: int) -> None:
    for _ in range(count):
        await anext(stream)
    await stream.athrow(CUT())


@every_operator
async def test_a_failure_is_raised_once_after_what_came_before_it(operator: Operator) -> None:
    """The source's error arrives, the items before it too, and the other source is closed."""
    one = Source("A1. ", "A2", fails=OSError("upstream"))
    two = Source[str]()
    got: list[Any] = []
    with no_accidents():
        _, error = await run(lambda: read(operator(one.stream, two.stream), got))
    assert_closed(one, two)
    name = next(name for name, value in OPERATORS.items() if value is operator)
    if name == "limited":
        assert error is None  # it has all that it may have before the failure
        return
    assert isinstance(error, OSError)
    assert texts(got).lower() == ("a1. " if name == "validated" else "a1. a2")


@every_operator
async def test_a_cleanup_that_fails_is_told_and_leaves_nothing(operator: Operator) -> None:
    """A source that raises in its `finally` is closed all the same; its error goes on its way."""
    points, _ = await run(lambda: read(operator(*(source.stream for source in two_sources())), []))
    with no_accidents():
        for point in range(1, points + 1):
            one = Source("A1. ", "A2. ", "A3. ", cleanup_fails=OSError("in a cleanup"))
            two = Source("B1. ", "B2. ", "B3. ")
            stream = operator(one.stream, two.stream)
            _, error = await run(lambda stream=stream: read(stream, []), point)  # type: ignore[misc]
            assert isinstance(error, (CUT, OSError))
            assert_closed(one, two)


@every_operator
async def test_a_source_that_swallows_the_cancel_is_closed(operator: Operator) -> None:
    """It gives one item more, which is the consumer's to refuse, and is closed with the operator."""
    points, _ = await run(lambda: read(operator(*(source.stream for source in two_sources())), []))
    with no_accidents():
        for point in range(1, points + 1):
            one = Source("A1. ", "A2. ", "A3. ", swallows="more. ")
            two = Source("B1. ", "B2. ", "B3. ", swallows="more. ")
            stream = operator(one.stream, two.stream)
            await run(lambda stream=stream: read(stream, []), point)  # type: ignore[misc]
            assert_closed(one, two)


@every_operator
async def test_while_nobody_asks_nothing_is_read_beyond_a_bound(operator: Operator) -> None:
    """Sources that never wait, a reader that stops after two items: a hold, a slow client."""
    one = Source(*(f"A{n}. " for n in range(100_000)), pause=None)
    two = Source(*(f"B{n}. " for n in range(100_000)), pause=None)

    async def read_two() -> None:
        stream = operator(one.stream, two.stream)
        async with aclosing(stream):
            await anext(stream)
            await anext(stream)
            await asyncio.sleep(10)
            assert len(one.given) + len(two.given) < 20

    with no_accidents():
        _, error = await run(read_two)
    assert error is None
    assert_closed(one, two)


@every_operator
async def test_a_source_that_cancels_itself_ends_the_stream_with_that(operator: Operator) -> None:
    """A CancelledError that nobody asked for is passed on, not taken for an end."""
    one, two = Source("A1. ", fails=CUT()), Source[str](pause=None)
    with no_accidents():
        _, error = await run(lambda: read(operator(one.stream, two.stream), []))
    assert isinstance(error, CUT)
    assert_closed(one, two)


@every_operator
async def test_model_streams_that_only_have_close_are_closed(operator: Operator) -> None:
    """The streams of model SDKs are no generators: they have `close()`."""

    class Stream:
        def __init__(self, source: Source[str]) -> None:
            self.source = source
            self.closed = False

        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> str:
            return await anext(self.source.stream)

        async def close(self) -> None:
            self.closed = True
            await self.source.stream.aclose()

    one, two = map(Stream, two_sources())
    with no_accidents():
        await run(lambda: read(operator(one, two), []), 3)
    assert one.closed
    assert two.closed == two.source.begun
    assert_closed(one.source, two.source)
