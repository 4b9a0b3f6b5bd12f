"""The boundary to the code of authors: its exits are failures of one call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bargein_server.core.author_code import AuthorExit, Contained, call_contained


async def exits() -> None:
    """Do what argparse does."""
    await asyncio.sleep(0)
    sys.exit(2)


async def presses_ctrl_c() -> None:
    """Do what a careless library does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("work", [exits, presses_ctrl_c])
async def test_a_task_that_exits_fails_alone(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The event loop goes on, and the task has an ordinary exception."""
    task = asyncio.create_task(Contained(work()))
    with pytest.raises(AuthorExit) as caught:
        await task
    assert isinstance(caught.value.__cause__, (SystemExit, KeyboardInterrupt))


async def test_awaiting_it_contains_it_too() -> None:
    """Without a task of its own."""
    with pytest.raises(AuthorExit):
        await Contained(exits())


async def test_an_exit_during_a_cancel_is_contained() -> None:
    """A `finally` block may exit."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            sys.exit(3)

    task = asyncio.create_task(Contained(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(AuthorExit):
        await task


async def test_a_cancel_before_the_first_step_reaches_the_coroutine() -> None:
    """Otherwise Python warns that it was never awaited."""
    task = asyncio.create_task(Contained(exits()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_results_and_errors_pass() -> None:
    """Anything else is as it was."""

    async def result() -> int:
        await asyncio.sleep(0)
        return 3

    async def error() -> None:
        raise ValueError("wrong")

    assert await asyncio.create_task(Contained(result())) == 3
    with pytest.raises(ValueError, match="wrong"):
        await asyncio.create_task(Contained(error()))


async def test_a_task_shows_the_coroutine_of_the_author() -> None:
    """Its name and its stack, for debugging."""
    task = asyncio.create_task(Contained(exits()))
    await asyncio.sleep(0)
    assert "exits()" in repr(task)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["exits"]
    task.cancel()


def test_closing_it_closes_the_coroutine() -> None:
    """As for a turn that has ended."""
    Contained(exits()).close()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), StopIteration()])
def test_a_call_in_a_thread_fails_with_an_exception(error: BaseException) -> None:
    """No future can hold a `StopIteration`, and nobody would get the result."""

    def function() -> None:
        raise error

    with pytest.raises(AuthorExit):
        call_contained(function)
