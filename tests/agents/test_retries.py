"""Trouble with the model's server: what is tried again, when, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_protocol import Status
from bargein_server.agent import TurnFailed
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.hosting.http_client import TurnClient, create_http_client
from fake_turn import FakeTurn
from model_server import Call, Upstream
from waiting import until

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def http_client() -> AsyncIterator[TurnClient]:
    """A client with room for one connection."""
    async with create_http_client(max_connections=1) as client:
        yield client


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The model's server."""
    async with Upstream() as server:
        yield server


class Answer:
    """An answer that is being given in virtual time."""

    def __init__(self, upstream: Upstream, http_client: TurnClient, **options: Any) -> None:
        agent = OpenAIAgent(model="m", base_url=upstream.url, **options)
        self.outputs: list[Any] = []
        self.times: list[float] = []
        self._task = asyncio.create_task(self._run(agent, FakeTurn(http_client=http_client)))

    async def _run(self, agent: OpenAIAgent, turn: FakeTurn) -> None:
        async for output in agent(turn.for_agent()):
            self.outputs.append(output)

    async def over(self) -> TurnFailed | None:
        """Wait for its end; return how it failed."""
        await asyncio.wait({self._task})
        error = self._task.exception()
        assert error is None or isinstance(error, TurnFailed)
        return error


async def test_a_model_call_waits_for_a_place_and_then_fails_as_overload(upstream: Upstream) -> None:
    """At the limit it runs; one more waits its time, is not tried again, and may be sent again later."""
    async with create_http_client(max_connections=1, wait_s=20) as http_client:
        first = Answer(upstream, http_client)
        call = await first_call(upstream)
        call.open()
        second = Answer(upstream, http_client)
        failure = await second.over()
        assert failure is not None
        assert (failure.reason, failure.retryable) == ("overload", True)
        assert 20 <= now() < 25
        assert len(upstream.calls) == 1
        call.text("done")
        call.finish()
        assert await first.over() is None


async def first_call(upstream: Upstream) -> Call:
    """Wait for the first request, busily: the SDK prepares it in a thread, while virtual time would fly."""
    await until(lambda: upstream.calls, "the first request")
    return await upstream.call()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("headers", "seconds"), [({"retry_after": "20"}, 20), ({"retry_after_ms": "1500"}, 1.5)]
)
async def test_the_time_that_a_server_names(
    upstream: Upstream, http_client: TurnClient, headers: dict[str, str], seconds: float
) -> None:
    """It is waited for, not less, and the user sees a status when it is long."""
    answer = Answer(upstream, http_client)
    (await first_call(upstream)).reply(429, {"error": {"message": "slow down"}}, **headers)
    asked = now()
    while len(upstream.calls) < 2:
        await asyncio.sleep(0.1)
    assert now() - asked >= seconds
    call = await upstream.call()
    call.answer("ok")
    assert await answer.over() is None
    assert answer.outputs[-1] == "ok"
    statuses = [output for output in answer.outputs if isinstance(output, Status)]
    assert len(statuses) == (2 if seconds > 10 else 0)


async def test_a_time_that_is_too_long(upstream: Upstream, http_client: TurnClient) -> None:
    """The server is left alone; the input may be sent again later."""
    answer = Answer(upstream, http_client)
    (await first_call(upstream)).reply(429, {"error": {"message": "no"}}, retry_after="3600")
    failure = await answer.over()
    assert failure is not None
    assert (failure.reason, failure.retryable, len(upstream.calls)) == ("upstream", True, 1)


async def test_a_time_that_is_a_date(upstream: Upstream, http_client: TurnClient) -> None:
    """One that is past means now."""
    answer = Answer(upstream, http_client)
    (await first_call(upstream)).reply(503, {}, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
    (await upstream.call()).answer("ok")
    assert await answer.over() is None


async def test_waits_become_longer(upstream: Upstream, http_client: TurnClient) -> None:
    """Without a named time: half a second, one, two, each shortened by chance by a quarter at most."""
    answer = Answer(upstream, http_client, max_retries=3)
    waits: list[float] = []
    await until(lambda: upstream.calls)
    for _ in range(3):
        (await upstream.call()).reply(500, {})
        asked = now()
        while len(upstream.calls) == len(waits) + 1:
            await asyncio.sleep(0.01)
        waits.append(now() - asked)
    (await upstream.call()).answer("ok")
    assert await answer.over() is None
    for wait, longest in zip(waits, (0.5, 1, 2), strict=True):
        assert 0.7 * longest < wait < 1.3 * longest


@pytest.mark.parametrize("how", ["at once", "after the headers", "after the role", "without framing"])
async def test_a_cut_before_the_first_token(upstream: Upstream, http_client: TurnClient, how: str) -> None:
    """Nothing was said, so nothing is said twice: it is asked again."""
    answer = Answer(upstream, http_client)
    call = await first_call(upstream)
    if how != "at once":
        call.open()
    if how == "after the role":
        call.delta(role="assistant", content="")
    if how == "without framing":
        call.done()
    else:
        call.cut()
    (await upstream.call()).answer("ok")
    assert await answer.over() is None
    assert answer.outputs == ["ok"]


@pytest.mark.parametrize("token", [{"content": "Once"}, {"reasoning": "hm"}])
async def test_a_cut_after_the_first_token(
    upstream: Upstream, http_client: TurnClient, token: dict[str, str]
) -> None:
    """What came is kept and nothing is asked again; a thought is a token too."""
    answer = Answer(upstream, http_client)
    call = await first_call(upstream)
    call.open()
    call.delta(**token)
    while not answer.outputs:
        await asyncio.sleep(0)
    call.cut()
    failure = await answer.over()
    assert failure is not None
    assert (failure.retryable, len(answer.outputs), len(upstream.calls)) == (True, 1, 1)


async def test_a_stream_that_stalls(upstream: Upstream, http_client: TurnClient) -> None:
    """Silence in the middle of an answer fails it after a time; the connection is closed."""
    answer = Answer(upstream, http_client, stall_s=7)
    call = await first_call(upstream)
    call.open()
    call.text("Once")
    while not answer.outputs:
        await asyncio.sleep(0)
    stalled = now()
    failure = await answer.over()
    assert failure is not None
    assert (failure.reason, failure.retryable, answer.outputs) == ("upstream", True, ["Once"])
    assert 7 <= now() - stalled < 8
    assert await call.gone() in ("eof", "reset")


async def test_a_model_that_thinks_before_its_first_word(upstream: Upstream, http_client: TurnClient) -> None:
    """That silence is the session's to bound, not the stream's."""
    answer = Answer(upstream, http_client, stall_s=7)
    call = await first_call(upstream)
    call.open()
    await asyncio.sleep(100)
    call.text("ok")
    call.finish()
    assert await answer.over() is None


@pytest.mark.parametrize(("said", "asked"), [("true", 2), ("false", 1)])
async def test_a_server_that_says_whether_to_try_again(
    upstream: Upstream, http_client: TurnClient, said: str, asked: int
) -> None:
    """`x-should-retry` wins over the status."""
    answer = Answer(upstream, http_client)
    (await first_call(upstream)).reply(400 if said == "true" else 500, {}, x_should_retry=said)
    if asked == 2:
        (await upstream.call()).answer("ok")
    assert (await answer.over() is None) is (asked == 2)
    assert len(upstream.calls) == asked
