"""Answers that are given again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar

import pytest

from bargein_server.streams import Cache
from streaming import Mode, Source, no_accidents, read, run

pytestmark = pytest.mark.virtual_time


class Model:
    """Makes a source for each call, of the letters of an answer.

    Attributes:
        calls: The sources.
    """

    def __init__(self, answer: str = "abc", fails: Exception | None = None, pause_s: float = 1) -> None:
        self.answer = answer
        self.calls: list[Source[str]] = []
        self._fails = fails
        self._pause_s = pause_s

    def __call__(self) -> AsyncGenerator[str, None]:
        source = Source(*self.answer, pause=lambda: asyncio.sleep(self._pause_s), fails=self._fails)
        self.calls.append(source)
        return source.stream


async def all_of(stream: AsyncGenerator[str, None]) -> str:
    return "".join([item async for item in stream])


async def test_a_finished_answer_is_replayed_as_a_stream() -> None:
    """The model is called once; the second time takes no time."""
    cache, model = Cache[str](), Model()
    loop = asyncio.get_running_loop()
    assert await all_of(cache.stream("key", model)) == "abc"
    now = loop.time()
    assert await all_of(cache.stream("key", model)) == "abc"
    assert loop.time() == now
    assert len(model.calls) == 1
    assert await all_of(cache.stream("other", model)) == "abc"
    assert len(model.calls) == 2


async def test_an_interrupted_answer_is_not_kept() -> None:
    """It is closed, forgotten, and made anew for the next who asks."""
    cache, model = Cache[str](), Model()
    async with aclosing(cache.stream("key", model)) as stream:
        assert await anext(stream) == "a"
    assert model.calls[0].closed
    assert len(cache) == 0
    assert await all_of(cache.stream("key", model)) == "abc"
    assert len(model.calls) == 2


async def test_a_failed_answer_is_told_to_all_who_listen_and_not_kept() -> None:
    """The items first; the next who asks gets a new try."""
    cache, model = Cache[str](), Model("ab", fails=OSError("upstream"))
    with no_accidents():
        heard: list[list[str]] = [[], []]
        results = await asyncio.gather(
            *(read(cache.stream("key", model), into) for into in heard), return_exceptions=True
        )
    assert all(isinstance(result, OSError) for result in results)
    assert heard == [["a", "b"], ["a", "b"]]
    assert (len(model.calls), len(cache)) == (1, 0)


async def test_equal_requests_at_the_same_time_share_one_upstream() -> None:
    """Who comes late hears it from the first item, and then with the others."""
    cache, model = Cache[str](), Model("abcdef")
    early = asyncio.ensure_future(all_of(cache.stream("key", model)))
    await asyncio.sleep(3.5)
    late = cache.stream("key", model)
    assert [await anext(late) for _ in range(3)] == ["a", "b", "c"]
    assert await early == "abcdef"
    assert await all_of(late) == "def"
    assert len(model.calls) == 1


async def test_the_upstream_stops_when_the_last_one_leaves() -> None:
    """The one who asked first leaves, and the other hears it to the end; both leave, and it is closed."""
    cache, model = Cache[str](), Model("abcdef")
    first, second = (asyncio.ensure_future(all_of(cache.stream("key", model))) for _ in range(2))
    await asyncio.sleep(2.5)
    first.cancel()
    assert await second == "abcdef"
    first, second = (asyncio.ensure_future(all_of(cache.stream("new", model))) for _ in range(2))
    await asyncio.sleep(2.5)
    first.cancel()
    await asyncio.sleep(0.1)
    assert [call.closed for call in model.calls] == [True, False]
    second.cancel()
    await asyncio.wait({second})
    assert [call.closed for call in model.calls] == [True, True]
    assert model.calls[1].strange == []
    assert len(cache) == 1


async def test_who_asks_while_the_last_one_leaves_gets_an_upstream_of_its_own() -> None:
    """Not one that is being closed."""
    cache, model = Cache[str](), Model("abc")
    async with aclosing(cache.stream("key", model)) as stream:
        await anext(stream)
        leaving = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0.5)
        assert not leaving.done()  # its source's cleanup takes a second
        assert await all_of(cache.stream("key", model)) == "abc"
        await leaving
    assert len(model.calls) == 2


async def test_the_upstream_is_nobodys_turn() -> None:
    """It may outlive the turn that asked first, so it does not run in that one's context."""
    variable: ContextVar[str] = ContextVar("variable", default="nobody")
    variable.set("the first turn")

    async def seen() -> AsyncGenerator[str, None]:
        yield variable.get()

    assert await all_of(Cache[str]().stream("key", seen)) == "nobody"


async def test_the_oldest_answers_and_those_that_are_too_old_are_forgotten() -> None:
    """At most two answers, at most ten seconds."""
    cache, model = Cache[str](answers=2, max_age_s=10), Model("a")
    for key in ("one", "two", "one", "three", "one"):
        await all_of(cache.stream(key, model))
    assert (len(cache), len(model.calls)) == (2, 3)
    await all_of(cache.stream("two", model))
    assert len(model.calls) == 4
    await asyncio.sleep(20)
    await all_of(cache.stream("one", model))
    assert len(model.calls) == 5


async def test_an_answer_that_is_too_long_is_streamed_and_not_kept() -> None:
    """All who listen hear all of it; what all have heard is let go; who comes late starts anew."""
    cache, model = Cache[str](items=3), Model("abcdefgh")
    one = asyncio.ensure_future(all_of(cache.stream("key", model)))
    two = asyncio.ensure_future(all_of(cache.stream("key", model)))
    await asyncio.sleep(5.5)
    assert len(cache._answers["key"].items) < 3
    assert await all_of(cache.stream("key", model)) == "abcdefgh"
    assert (await one, await two) == ("abcdefgh", "abcdefgh")
    assert len(model.calls) == 2
    assert len(cache) == 0


async def test_a_listener_that_stands_still_holds_the_upstream_at_a_bound() -> None:
    """It is read a few items ahead of the fastest, and no further."""
    cache, model = Cache[str](), Model("x" * 1000, pause_s=0)
    async with aclosing(cache.stream("key", model)) as stream:
        await anext(stream)
        await asyncio.sleep(5)
        assert len(model.calls[0].given) < 20


async def test_one_that_is_cut_anywhere_harms_no_other() -> None:
    """For every suspension point of one listener, the other hears the whole answer."""
    points, _ = await run(lambda: read(Cache[str]().stream("key", Model()), []))
    modes: list[Mode] = ["early", "late", "twice"]
    for point in range(1, points + 1):
        for mode in modes:
            cache, model = Cache[str](), Model()
            other = asyncio.ensure_future(all_of(cache.stream("key", model)))
            await asyncio.sleep(0)
            stream = cache.stream("key", model)
            await run(lambda stream=stream: read(stream, []), point, mode)  # type: ignore[misc]
            assert await other == "abc"
            assert (len(model.calls), len(cache)) == (1, 1)
