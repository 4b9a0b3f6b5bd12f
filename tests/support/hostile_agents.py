"""Agents that do everything wrong, and some that only look as if they did.

Each has the rule that it breaks as its docstring. `AGENTS` lists them; `STUBBORN` are those that do
not end within the two cleanup times and are abandoned.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator

from bargein_server import Agent, Output, Turn

_VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

release_threads = threading.Event()


async def careful(turn: Turn) -> AsyncIterator[Output]:
    """Waits, and cleans up without waiting."""
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        turn.session.state["cleaned"] = True


async def awaits_in_finally(turn: Turn) -> AsyncIterator[Output]:
    """Clean up in a few steps."""
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        for _ in range(5):
            await asyncio.sleep(0)
        turn.session.state["cleaned"] = True


async def waits_before_its_first_yield(turn: Turn) -> AsyncIterator[Output]:
    """Wait before the first output."""
    await asyncio.Event().wait()
    yield "never"


async def swallows_the_cancel(turn: Turn) -> AsyncIterator[Output]:
    """Goes on yielding after every cancel, until it is closed."""
    while True:
        try:
            yield "x"
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            yield "stale"


async def swallows_and_returns(turn: Turn) -> AsyncIterator[Output]:
    """Looks as if it had completed."""
    try:
        yield "x"
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return


async def wait_for_swallows(turn: Turn) -> AsyncIterator[Output]:
    """Lose a cancel in `wait_for`, as Python 3.11 does in the last step."""
    yield "x"
    while True:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(_complete, future)
        await asyncio.wait_for(future, 3600)
        yield "y"


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():  # from Python 3.12 on the cancel comes first
        future.set_result(None)


async def yields_flat_out(turn: Turn) -> AsyncIterator[Output]:
    """Never suspends."""
    while True:
        yield "x"


async def cancels_itself(turn: Turn) -> AsyncIterator[Output]:
    """Raise a CancelledError without a cancel."""
    yield "x"
    raise asyncio.CancelledError


async def fails(turn: Turn) -> AsyncIterator[Output]:
    """Raises."""
    yield "x"
    raise ValueError("secret detail")


async def exits(turn: Turn) -> AsyncIterator[Output]:
    """Calls a library that ends the process."""
    yield "x"
    sys.exit(1)


async def fails_in_finally(turn: Turn) -> AsyncIterator[Output]:
    """Raise in the cleanup."""
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        raise ValueError("secret detail")


async def yields_in_finally(turn: Turn) -> AsyncIterator[Output]:
    """Yield in the cleanup."""
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        yield "stale"


async def ignores_generator_exit(turn: Turn) -> AsyncIterator[Output]:
    """Yields when it is closed, which Python forbids."""
    while True:
        try:
            yield "x"
            await asyncio.Event().wait()
        except (GeneratorExit, asyncio.CancelledError):
            yield "stale"


async def nests_without_aclosing(turn: Turn) -> AsyncIterator[Output]:
    """Leave an inner generator open."""

    async def inner() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(3600)
        finally:
            turn.session.state["cleaned"] = True

    async for piece in inner():
        yield piece


async def resets_a_context_variable(turn: Turn) -> AsyncIterator[Output]:
    """Reset a context variable, which only the task that set it can do."""
    token = _VARIABLE.set(1)
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        _VARIABLE.reset(token)
        turn.session.state["cleaned"] = True


async def holds_a_task_group(turn: Turn) -> AsyncIterator[Output]:
    """Send from child tasks, which must end with the agent."""

    async def child() -> None:
        while True:
            await turn.emit("y")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(child())
        group.create_task(child())
        yield "x"
        await asyncio.Event().wait()


async def yields_a_number(turn: Turn) -> AsyncIterator[Output]:
    """Not an output."""
    yield "x"
    yield 42  # type: ignore[misc]


async def yields_what_json_cannot_hold(turn: Turn) -> AsyncIterator[Output]:
    """Fails at its yield, not in the writer."""
    yield "x"
    yield turn.data("thing", object())


async def says_nothing(turn: Turn) -> AsyncIterator[Output]:
    """Returns at once."""
    for _ in ():
        yield "never"


async def hangs_in_finally(turn: Turn) -> AsyncIterator[Output]:
    """Swallow every cancel in a cleanup that never ends."""
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        while not turn.session.state.get("released"):
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue


async def yields_from_a_zombie(turn: Turn) -> AsyncIterator[Output]:
    """Is abandoned, and sends when the next turn runs."""
    try:
        yield "x"
        await asyncio.Event().wait()
    finally:
        while not turn.session.state.get("released"):
            try:
                await turn.emit("stale")
            except asyncio.CancelledError:
                await _a_moment()


async def _a_moment() -> None:
    while True:
        try:
            return await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            continue


AGENTS: list[Agent] = [
    careful, awaits_in_finally, waits_before_its_first_yield, swallows_the_cancel, swallows_and_returns,
    wait_for_swallows, yields_flat_out, cancels_itself, fails, exits, fails_in_finally, yields_in_finally,
    ignores_generator_exit, nests_without_aclosing, resets_a_context_variable, holds_a_task_group,
    yields_a_number, yields_what_json_cannot_hold, says_nothing, hangs_in_finally, yields_from_a_zombie,
]  # fmt: skip
STUBBORN: list[Agent] = [hangs_in_finally, yields_from_a_zombie]
