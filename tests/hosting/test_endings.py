"""Exception groups end a turn as their exceptions do (contract 1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

import pytest

from bargein_server import Output, Turn, TurnClosed, TurnFailed
from memory_client import Line, serve
from waiting import until

UPSTREAM = ("upstream", True)
OVERLOAD = ("overload", False)
CANCEL = asyncio.CancelledError


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("errors", errors)


def failed(reason: str = "upstream", retryable: bool = True) -> TurnFailed:
    return TurnFailed(reason, retryable=retryable)


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (group(failed()), UPSTREAM),
        (group(group(group(failed()))), UPSTREAM),
        (group(failed(), failed()), UPSTREAM),
        (group(CANCEL(), failed(), TurnClosed("x")), UPSTREAM),
        (group(failed(), failed("overload", False)), OVERLOAD),
        (group(failed(), group(failed("overload", False), failed())), OVERLOAD),
        (group(failed(), TimeoutError()), ("timeout", True)),
        (group(TimeoutError(), group(CANCEL())), ("timeout", True)),
        (group(failed("overload", False), TimeoutError()), OVERLOAD),
        (group(failed(), ValueError()), ("agent_error", False)),
        (group(failed("overload", False), SystemExit(1)), ("agent_error", False)),
        (group(CANCEL(), group(TurnClosed("x"))), ("agent_error", False)),
        (group(KeyboardInterrupt(), CANCEL()), ("agent_error", False)),
    ],
)
async def test_a_group_ends_the_turn_as_its_worst_exception(error: BaseException, end: Any) -> None:
    """The one ending that they agree on, else the worst."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "one"
        raise error

    line = Line(serve(agent))
    line.ask()
    await until(lambda: line.ends(), "the end")
    [ended] = line.ends()
    assert (ended.status, ended.reason, ended.retryable) == ("failed", *end)


async def test_a_failure_in_a_task_group_keeps_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """As an author writes it; the log has one line without a traceback."""

    async def call() -> None:
        raise failed() from ValueError("secret")

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "one"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call())
            tasks.create_task(asyncio.sleep(3600))

    line = Line(serve(agent))
    turn = line.ask()
    await until(lambda: line.ends(), "the end")
    assert (line.ends()[0].reason, line.ends()[0].retryable) == UPSTREAM
    assert [record.getMessage() for record in caplog.records] == [
        f"turn {turn} failed: upstream (ValueError)"
    ]


@pytest.mark.parametrize("error", [group(CANCEL()), group(group(TurnClosed("x"), CANCEL()))])
async def test_a_group_of_cancels_after_an_interrupt_is_a_cancel(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn was interrupted; nothing failed, and nothing is logged."""
    cleaned = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "one"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cleaned.set()
            raise error from None

    before = asyncio.all_tasks()
    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    await asyncio.wait_for(cleaned.wait(), 10)
    await until(lambda: not asyncio.all_tasks() - before, "the end of all tasks")
    assert [end.reason for end in line.ends()] == ["client"]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


class Reason(StrEnum):
    BUSY = "busy"


@pytest.mark.parametrize(
    ("reason", "told"),
    [(Reason.BUSY, "busy"), ("half \ud83d", "half ?"), ("x" * 200, "x" * 128), (7, "7")],
)
async def test_any_reason_of_an_author_can_be_sent(reason: Any, told: str) -> None:
    """It is text like any other."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "one"
        raise TurnFailed(reason)

    line = Line(serve(agent))
    line.ask()
    await until(lambda: line.ends(), "the end")
    assert line.ends()[0].reason == told
