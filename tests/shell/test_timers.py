"""The event loop of the server: its timers share one for each millisecond, and nobody notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from math import inf
from time import monotonic
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_server import Settings, create_app
from bargein_server.shell import server
from bargein_server.shell.timers import Loop, Timer
from hostile import waits_before_its_first_yield
from waiting import until

on_it = pytest.mark.asyncio(loop_factories=["uvloop"])

TOLD: ContextVar[str] = ContextVar("TOLD", default="nothing")
DELAYS_S = st.lists(st.floats(1e-6, 0.03), min_size=1, max_size=60)


def work(seconds: float) -> None:
    """Keep an iteration busy, during which the loop's own clock stands still."""
    end = monotonic() + seconds
    while monotonic() < end:
        pass


def nothing() -> None:
    """What nobody waits for."""


@settings(max_examples=20, deadline=None)
@given(DELAYS_S)
def test_a_timer_never_fires_early_and_those_of_a_millisecond_fire_in_their_order(
    delays: list[float],
) -> None:
    """Whatever the delays; each fires once."""
    fired: list[int] = []
    early: list[int] = []

    async def main() -> list[int]:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        due: list[float] = []

        def fire(n: int) -> None:
            fired.append(n)
            if monotonic() < due[n]:
                early.append(n)
            if len(fired) > len(delays):
                done.set()

        timers: list[asyncio.TimerHandle] = []
        for n, delay in enumerate(delays):
            due.append(monotonic() + delay)
            timers.append(loop.call_later(delay, fire, n))
        work(0.003)
        due.append(monotonic() + 0.001)
        timers.append(loop.call_later(0.001, fire, len(delays)))
        await done.wait()
        await asyncio.sleep(0.002)
        assert not any(timer.cancelled() for timer in timers)
        return [int(timer.when() * 1000) for timer in timers]

    with asyncio.Runner(loop_factory=Loop) as runner:
        milliseconds = runner.run(main())
    assert not early
    assert sorted(fired) == list(range(len(delays) + 1))
    for together in set(milliseconds):
        of_it = [n for n in fired if milliseconds[n] == together]
        assert of_it == sorted(of_it)


def at_once(
    loop: asyncio.AbstractEventLoop, *callbacks: Callable[[], object], after: float = 0.05
) -> list[Any]:
    """Make timers of one millisecond."""
    due = loop.time() + after
    return [loop.call_at(due, callback) for callback in callbacks]


@on_it
async def test_one_that_was_cancelled_does_not_fire() -> None:
    """Be it by another of its millisecond that fires before it."""
    loop, fired = asyncio.get_running_loop(), list[str]()
    timers: list[Timer] = []
    timers += at_once(
        loop,
        lambda: fired.append("first"),
        lambda: timers[2].cancel(),
        lambda: fired.append("cancelled by another"),
        lambda: fired.append("cancelled before"),
        lambda: timers[0].cancel(),
        lambda: fired.append("last"),
    )
    timers[3].cancel()
    timers[3].cancel()
    await until(lambda: "last" in fired)
    assert fired == ["first", "last"]
    assert [timer.cancelled() for timer in timers] == [True, False, True, True, False, False]


@on_it
async def test_what_is_made_while_a_millisecond_fires_fires_later() -> None:
    """Also when it is due at once, and when the others of its millisecond are cancelled."""
    loop, fired = asyncio.get_running_loop(), list[str]()
    timers: list[Timer] = []

    def again() -> None:
        loop.call_later(1e-9, fired.append, "again")
        timers[1].cancel()

    timers += at_once(loop, again, lambda: fired.append("cancelled"), lambda: fired.append("other"))
    await until(lambda: "again" in fired)
    assert fired == ["other", "again"]


@on_it
async def test_timers_of_a_millisecond_are_one_of_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left of those that are cancelled: most timeouts are, long before they are due."""
    made: list[asyncio.TimerHandle] = []
    make = uvloop.Loop.call_later

    def call_later(loop: uvloop.Loop, *args: Any, **options: Any) -> asyncio.TimerHandle:
        made.append(make(loop, *args, **options))
        return made[-1]

    monkeypatch.setattr(uvloop.Loop, "call_later", call_later)
    loop = asyncio.get_running_loop()
    timers = at_once(loop, *[nothing] * 100, after=10)
    assert len(made) == 1
    for timer in timers[:-1]:
        timer.cancel()
    assert not made[0].cancelled()
    timers[-1].cancel()
    assert made[0].cancelled()
    assert at_once(loop, nothing, after=10)
    assert len(made) == 2


@on_it
async def test_what_raises_is_told_and_does_not_matter_to_others() -> None:
    """As with any loop."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    fired: list[str] = []

    def breaks() -> None:
        raise asyncio.CancelledError("broken")

    at_once(loop, breaks, lambda: fired.append("other"))
    await until(lambda: fired)
    assert [type(context["exception"]) for context in told] == [asyncio.CancelledError]
    assert "breaks" in told[0]["message"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_loop_does_not_lose_other_timers(error: type[BaseException]) -> None:
    """They fire when it runs again, as it does to end what runs."""
    fired: list[str] = []

    def ends() -> None:
        raise error

    async def main() -> None:
        at_once(asyncio.get_running_loop(), ends, lambda: fired.append("other"))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=Loop) as runner:
        with pytest.raises(error):
            runner.run(main())
        runner.run(asyncio.sleep(0))
    assert fired == ["other"]


@on_it
async def test_a_callback_runs_in_its_context() -> None:
    """A copy of the caller's, or the one that was given, though it is empty."""
    loop, told = asyncio.get_running_loop(), list[str]()
    TOLD.set("caller's")
    loop.call_later(0.001, lambda: told.append(TOLD.get()))
    loop.call_later(0.001, lambda: told.append(TOLD.get()), context=Context())
    TOLD.set("later")
    await until(lambda: len(told) == 2)
    assert sorted(told) == ["caller's", "nothing"]


@on_it
@pytest.mark.parametrize("delay", [0, -1, -inf])
async def test_what_is_due_already_is_called_soon(delay: float) -> None:
    """In the next iteration, not in the next millisecond."""
    fired: list[str] = []
    asyncio.get_running_loop().call_later(delay, fired.append, "now")
    await asyncio.sleep(0)
    assert fired == ["now"]


@on_it
@pytest.mark.parametrize("delay", [inf, 1e12])
async def test_what_is_due_in_an_age_can_be_cancelled(delay: float) -> None:
    """`asyncio.timeout(inf)` is no error."""
    timer = asyncio.get_running_loop().call_later(delay, nothing)
    timer.cancel()
    assert timer.cancelled()


@on_it
async def test_a_time_is_that_of_the_loops_clock() -> None:
    """Whatever the loop has done in this iteration."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    due = loop.time() + 0.05
    work(0.005)
    assert loop.call_at(due, done.set).when() == due
    await done.wait()
    assert loop.time() >= due


@on_it
async def test_timeouts_time_out() -> None:
    """They are timers, too."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()


def test_the_server_runs_on_it() -> None:
    """Whoever starts `uvicorn` with this configuration gets this loop."""
    limits = Settings()
    config = server.uvicorn_config(
        create_app(waits_before_its_first_yield, limits), limits, "127.0.0.1", 0, "critical"
    )
    factory = config.get_loop_factory()
    assert factory is not None
    loop = factory()
    loop.close()
    assert isinstance(loop, Loop)
    assert isinstance(loop, uvloop.Loop)
