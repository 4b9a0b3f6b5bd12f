"""Health of a server's store: when nobody waits for it any more, and when they do again."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from bargein_server.hosting.store_health import StoreHealth, StoreState
from bargein_server.stores.patience import SLICES

WAIT_S = 0.02


async def test_a_server_that_stood_still_has_not_found_its_store_late() -> None:
    """What it had to ask is sent only now, so that the answer takes some more time."""
    loop = asyncio.get_running_loop()
    gave_up: list[bool] = []
    health = StoreHealth(loop, 5 * WAIT_S, lambda: gave_up.append(True))
    health.opened()
    health.watch()
    time.sleep(10 * WAIT_S)  # noqa: ASYNC251 - it stands still
    answered = asyncio.Event()
    loop.call_later(2 * WAIT_S, answered.set)
    await answered.wait()
    health.answered()
    assert not gave_up
    assert health.state is StoreState.UP


async def test_an_answer_that_waits_in_the_socket_is_not_late() -> None:
    """It is read a few iterations after the clock says that it is late."""
    loop = asyncio.get_running_loop()
    gave_up: list[bool] = []
    health = StoreHealth(loop, WAIT_S, lambda: gave_up.append(True))
    health.opened()
    health.watch()
    for part in range(SLICES):
        time.sleep(WAIT_S)  # noqa: ASYNC251 - it stands still
        if part == SLICES - 1:
            loop.call_soon(loop.call_soon, health.answered)
        await asyncio.sleep(0)
    await asyncio.sleep(WAIT_S)
    assert not gave_up
    assert health.state is StoreState.UP


async def test_the_first_answer_ends_the_state_of_a_late_store() -> None:
    """Not only a new connection does."""
    late = asyncio.Event()
    health = StoreHealth(asyncio.get_running_loop(), WAIT_S, late.set)
    health.opened()
    health.watch()
    await late.wait()
    assert (health.state, health.is_ignored) == (StoreState.LATE, True)
    health.answered()
    assert (health.state, health.is_ignored) == (StoreState.UP, False)


async def test_a_store_that_is_late_again_and_again_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Twice a second for hours would hide the lines that matter; the end is logged as often."""
    caplog.set_level(logging.INFO, "bargein.store")
    late = asyncio.Event()
    health = StoreHealth(asyncio.get_running_loop(), WAIT_S, late.set)
    health.opened()
    for _ in range(5):
        late.clear()
        health.watch()
        await late.wait()
        health.answered()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
