"""A stream from what pushes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from bargein_protocol import StepEnded
from bargein_server.streams import Push, StreamClosed, TooSlow, from_callbacks
from streaming import moment, no_accidents, read, run
from waiting import until


async def test_a_handler_becomes_a_stream_of_tokens_steps_and_a_final_answer() -> None:
    """The chain knows nothing of streams; its handler pushes, and its result is pushed last."""

    class Handler:
        def __init__(self, push: Push[str | StepEnded]) -> None:
            self.push = push

        async def on_llm_new_token(self, token: str, **_: Any) -> None:
            await self.push.put(token)

        async def on_tool_end(self, output: str, **_: Any) -> None:
            self.push.step_ended("tool")

    async def invoke(question: str, callbacks: list[Handler]) -> dict[str, str]:
        for handler in callbacks:
            await handler.on_llm_new_token("Looking ")
            await handler.on_llm_new_token("it up. ")
            await handler.on_tool_end("42")
            handler.push.step_ended()
        return {"output": "It is 42."}

    async def produce(push: Push[str | StepEnded]) -> None:
        result = await invoke("what?", callbacks=[Handler(push)])
        push(result["output"])

    assert [item async for item in from_callbacks(produce)] == [
        "Looking ", "it up. ", StepEnded(index=0, kind="tool"), StepEnded(index=1), "It is 42.",
    ]  # fmt: skip


async def test_a_thread_pushes_in_order_and_waits_while_there_is_no_room() -> None:
    """Nothing is lost, and it is never more than the bound ahead."""
    most = 0

    def work(push: Push[int]) -> None:
        nonlocal most
        for number in range(500):
            push(number)
            most = max(most, len(push.items))

    async def produce(push: Push[int]) -> None:
        await asyncio.to_thread(work, push)

    got: list[int] = []
    async for item in from_callbacks(produce, ahead=3):
        got.append(item)
    assert got == [*range(500)]
    assert most <= 3


async def test_a_thread_that_pushes_and_ends_the_stream_loses_nothing() -> None:
    """The reader may look between the push and the end at any point."""

    def work(push: Push[int]) -> None:
        push(1)
        push.close()

    async def produce(push: Push[int]) -> None:
        thread = threading.Thread(target=work, args=(push,))
        thread.start()
        await push.wait_closed()
        thread.join()

    for _ in range(100):
        assert [item async for item in from_callbacks(produce)] == [1]


async def test_a_thread_is_told_by_its_next_push_that_nobody_reads() -> None:
    """One that waits for room is woken; the error is a CancelledError, which passes `except Exception`."""
    told: list[BaseException] = []
    tries = 0

    def work(push: Push[int]) -> None:
        nonlocal tries
        try:
            while True:
                tries += 1
                push(1)
        except BaseException as error:
            told.append(error)

    async def produce(push: Push[int]) -> None:
        await asyncio.to_thread(work, push)

    with no_accidents():
        async with aclosing(from_callbacks(produce, ahead=2)) as stream:
            assert await anext(stream) == 1
            await until(lambda: tries == 4)  # one was taken, two wait, and the next has no room
            for _ in range(100):
                await moment()
        await until(lambda: told)
    assert isinstance(told[0], StreamClosed)
    assert isinstance(told[0], asyncio.CancelledError)


async def test_on_the_loops_thread_a_push_never_waits() -> None:
    """A callback cannot wait: too many items are an error in the producer, after what fitted."""

    async def produce(push: Push[int]) -> None:
        for number in range(5):
            push.put_nowait(number)

    got: list[Any] = []
    with no_accidents():
        _, error = await run(lambda: read(from_callbacks(produce, ahead=3), got))
    assert isinstance(error, TooSlow)
    assert got == [0, 1, 2]


async def test_an_awaited_push_waits_for_room_and_is_told_of_the_end() -> None:
    """Back-pressure for producers that can wait."""
    pushed: list[int] = []

    async def produce(push: Push[int]) -> None:
        for number in range(100):
            await push.put(number)
            pushed.append(number)

    with no_accidents():
        async with aclosing(from_callbacks(produce, ahead=2)) as stream:
            assert await anext(stream) == 0
            for _ in range(20):
                await moment()
            assert pushed == [0, 1, 2]
    assert len(pushed) == 3


async def test_callbacks_may_end_the_stream() -> None:
    """A client that calls back, and whose `on_end` is the end."""
    calls: dict[str, Callable[..., None]] = {}

    async def produce(push: Push[str]) -> None:
        calls.update(on_text=push, on_end=push.close)
        await push.wait_closed()

    stream = from_callbacks(produce)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: calls)
    calls["on_text"]("a")
    calls["on_text"]("b")
    calls["on_end"]()
    assert await first == "a"
    assert [item async for item in stream] == ["b"]
    with pytest.raises(StreamClosed):
        calls["on_text"]("late")


async def test_what_a_producer_raises_comes_after_what_it_pushed() -> None:
    """Once; and a producer that is cancelled may clean up."""

    async def produce(push: Push[str]) -> None:
        push("a")
        raise OSError("upstream")

    got: list[Any] = []
    with no_accidents():
        _, error = await run(lambda: read(from_callbacks(produce), got))
    assert isinstance(error, OSError)
    assert got == ["a"]


async def test_who_leaves_before_the_failure_does_not_hear_of_it() -> None:
    """And nobody complains that it was not heard."""

    async def produce(push: Push[str]) -> None:
        push("a")
        push("b")
        raise OSError("upstream")

    with no_accidents():
        stream = from_callbacks(produce)
        assert await anext(stream) == "a"
        await moment()
        await stream.aclose()


async def test_what_a_producer_raises_in_its_cleanup_is_told() -> None:
    """By the close of the stream."""

    async def produce(push: Push[str]) -> None:
        push("a")
        try:
            await push.wait_closed()
        finally:
            await moment()
            raise OSError("in a cleanup")

    with no_accidents():
        stream = from_callbacks(produce)
        await anext(stream)
        with pytest.raises(OSError, match="in a cleanup"):
            await stream.aclose()


async def test_a_loop_that_is_gone_tells_the_thread() -> None:
    """A thread that outlives the event loop is not left waiting."""

    async def make() -> Push[int]:
        return Push[int](1)

    def elsewhere() -> Push[int]:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(make())
        finally:
            loop.close()

    push = await asyncio.to_thread(elsewhere)
    with pytest.raises(StreamClosed):
        push(1)


async def test_waiting_for_room_in_another_thread_is_an_error() -> None:
    """Nothing would wake it up; the error names the call that blocks."""

    async def produce(push: Push[str]) -> None:
        with pytest.raises(RuntimeError, match=r"call push\(item\) there"):
            await asyncio.to_thread(lambda: asyncio.run(push.put("word")))

    items: list[str] = []
    await read(from_callbacks(produce), items)
    assert items == []
