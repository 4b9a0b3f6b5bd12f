"""The agent for chat completions, against a server that does what a test says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_protocol import Thought
from bargein_server.agent import TurnFailed
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.hosting.http_client import TurnClient, create_http_client
from fake_turn import FakeTurn
from held_turn import HeldTurn
from model_server import Call, Upstream


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


@pytest.fixture
def agent(upstream: Upstream) -> OpenAIAgent:
    """The agent, on that server."""
    return OpenAIAgent(model="m", base_url=upstream.url)


@pytest.fixture
def turn(http_client: TurnClient) -> FakeTurn:
    """The third input of a conversation."""
    return FakeTurn("and you?", "hi", "hello", "how are you?", "fine", http_client=http_client)


async def outputs_of(agent: OpenAIAgent, turn: FakeTurn) -> list[Any]:
    """Run the turn to its end."""
    return [output async for output in agent(turn.for_agent())]


async def fails(agent: OpenAIAgent, turn: FakeTurn) -> TurnFailed:
    """Run a turn that fails; returns how."""
    with pytest.raises(TurnFailed) as failure:
        await outputs_of(agent, turn)
    assert failure.value.reason == "upstream"
    return failure.value


async def test_text_and_thought_in_order(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """Deltas come out as they come in: text as text, both spellings of reasoning as thought."""
    running = asyncio.create_task(outputs_of(agent, turn))
    call = await upstream.call()
    call.open()
    call.delta(role="assistant", content="")
    call.delta(reasoning_content="hm")
    call.delta(reasoning="well")
    call.text("Fine")
    call.text(", thanks")
    call.finish()
    assert await running == [Thought(text="hm"), Thought(text="well"), "Fine", ", thanks"]


async def test_a_refusal_is_text(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """What the model says instead of an answer is heard."""
    running = asyncio.create_task(outputs_of(agent, turn))
    call = await upstream.call()
    call.open()
    call.delta(refusal="I cannot")
    call.finish()
    assert await running == ["I cannot"]


async def test_the_request(turn: FakeTurn, upstream: Upstream) -> None:
    """The model gets the system prompt, the history with the input last, and the author's options."""
    agent = OpenAIAgent(
        model="m",
        base_url=upstream.url,
        api_key="key",
        instructions="Be kind.",
        history_tokens=30,
        temperature=0,
    )
    running = asyncio.create_task(outputs_of(agent, turn))
    call = await upstream.call()
    call.answer("ok")
    await running
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer key"
    assert call.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "how are you?"},
            {"role": "assistant", "content": "fine"},
            {"role": "user", "content": "and you?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
    }


async def test_settings_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, turn: FakeTurn, upstream: Upstream
) -> None:
    """Model, address and key may come from the environment."""
    monkeypatch.setenv("OPENAI_MODEL", "from-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    running = asyncio.create_task(outputs_of(OpenAIAgent(), turn))
    call = await upstream.call()
    call.answer("ok")
    await running
    assert (call.body["model"], call.headers["authorization"]) == ("from-environment", "Bearer secret")


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"model": "m"}, "OPENAI_API_KEY"),
        ({"base_url": "http://localhost/v1"}, "OPENAI_MODEL"),
        ({"api_key": "sk-\u2026"}, "ASCII"),
    ],
)
def test_missing_settings(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], missing: str) -> None:
    """What is missing is named when the agent is made, not when someone talks to it."""
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=missing):
        OpenAIAgent(**settings)


# Usage


async def test_usage_at_the_end(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """Tokens that the server counts in a chunk of their own are the turn's."""
    running = asyncio.create_task(outputs_of(agent, turn))
    call = await upstream.call()
    call.open()
    call.text("ok")
    call.delta(finish_reason="stop")
    call.usage(12, 3)
    call.done()
    await running
    assert turn.usage == (12, 3)


async def test_usage_with_every_chunk(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """A running count is not added up."""
    running = asyncio.create_task(outputs_of(agent, turn))
    call = await upstream.call()
    call.open()
    for output_tokens in (1, 2, 3):
        call.usage(12, output_tokens)
    call.finish()
    await running
    assert turn.usage == (12, 3)


async def test_a_server_without_usage(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """A server that does not count is fine."""
    running = asyncio.create_task(outputs_of(agent, turn))
    (await upstream.call()).answer("ok")
    await running
    assert turn.usage == (0, 0)


async def test_a_server_that_refuses_to_count(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """A server that refuses `stream_options` is asked without, from then on."""
    running = asyncio.create_task(outputs_of(agent, turn))
    (await upstream.call()).reply(422, {"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]})
    (await upstream.call()).answer("ok")
    assert await running == ["ok"]
    running = asyncio.create_task(outputs_of(agent, turn))
    (await upstream.call()).answer("ok")
    await running
    assert ["stream_options" in call.body for call in upstream.calls] == [True, False, False]


# Failures


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (401, False), (404, False), (429, True), (500, True), (503, True)]
)
async def test_a_server_that_refuses(status: int, retryable: bool, turn: FakeTurn) -> None:
    """A status becomes the turn's failure, says whether to try again, and nothing else."""

    def refuse(call: Call) -> None:
        call.reply(status, {"error": {"message": "secret"}}, retry_after_ms="1")

    async with Upstream(refuse) as upstream:
        failure = await fails(OpenAIAgent(model="m", base_url=upstream.url), turn)
        assert failure.retryable is retryable
        assert "secret" not in str(failure)
        assert len(upstream.calls) == (3 if retryable else 1)


async def test_tries_again_after_the_time_that_the_server_names(
    agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream
) -> None:
    """429 with `retry-after` is tried again before the first token; the user sees only the answer."""
    running = asyncio.create_task(outputs_of(agent, turn))
    (await upstream.call()).reply(429, {"error": {"message": "slow down"}}, retry_after="0.01")
    (await upstream.call()).answer("ok")
    assert await running == ["ok"]


@pytest.mark.parametrize("how", ["cut", "cut in an event", "error event", "no json", "no framing"])
async def test_a_stream_that_breaks(how: str, agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """What came stays, nothing is tried again, and the turn fails as retryable."""
    generator = agent(turn.for_agent())
    first = asyncio.create_task(anext(generator))
    call = await upstream.call()
    call.open()
    call.text("Once")
    assert await first == "Once"
    match how:
        case "cut":
            call.cut()
        case "cut in an event":
            call.cut_after(30)
            call.text("upon a time")
        case "error event":
            call.event({"error": {"message": "overloaded", "code": 503}})
        case "no json":
            call.event("{oops")
        case "no framing":
            call.end()
    with pytest.raises(TurnFailed) as failure:
        await anext(generator)
    assert (failure.value.reason, failure.value.retryable) == ("upstream", True)
    assert len(upstream.calls) == 1


async def test_nobody_listens(turn: FakeTurn) -> None:
    """A server that is not there is a retryable failure."""
    async with Upstream() as gone:
        agent = OpenAIAgent(model="m", base_url=gone.url)
    assert (await fails(agent, turn)).retryable


async def test_an_answer_that_is_no_stream(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """A page of something else is not an empty answer."""
    running = asyncio.create_task(fails(agent, turn))
    (await upstream.call()).reply(200, {"hello": "world"})
    assert (await running).retryable


# A history that is too long


@pytest.mark.parametrize(
    "error", [{"code": "context_length_exceeded"}, {"code": 400, "type": "exceed_context_size_error"}]
)
async def test_a_history_that_is_too_long(
    error: dict[str, Any], agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream
) -> None:
    """A history that the model finds too long is made shorter until it fits."""
    agent.history_tokens = 50
    running = asyncio.create_task(outputs_of(agent, turn))
    for _ in range(2):
        (await upstream.call()).reply(400, {"error": {"message": "too long", **error}})
    (await upstream.call()).answer("ok")
    assert await running == ["ok"]
    assert [len(call.body["messages"]) for call in upstream.calls] == [5, 2, 1]


async def test_an_input_that_is_too_long(agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream) -> None:
    """An input that is too long by itself fails, not to be tried again."""
    agent.history_tokens = 10
    running = asyncio.create_task(fails(agent, turn))
    (await upstream.call()).reply(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    assert not (await running).retryable


# Interrupts


@pytest.mark.parametrize("hold_after", [None, 1], ids=["waiting", "at yield"])
async def test_an_interrupt(
    hold_after: int | None, agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream
) -> None:
    """An interrupt closes the stream, and the next turn uses the same client."""
    held = HeldTurn(agent(turn.for_agent()), hold_after=hold_after)
    call = await upstream.call()
    call.open()
    call.text("Once")
    while not held.outputs:
        await asyncio.sleep(0)
    held.interrupt()
    assert await call.gone() in ("eof", "reset")
    assert await held.over() is None
    assert held.outputs == ["Once"]
    running = asyncio.create_task(outputs_of(agent, turn))
    (await upstream.call()).answer("ok")
    assert await running == ["ok"]


async def test_an_interrupt_while_it_waits_to_try_again(
    agent: OpenAIAgent, turn: FakeTurn, upstream: Upstream
) -> None:
    """The wait that a server asks for ends with the turn."""
    held = HeldTurn(agent(turn.for_agent()))
    (await upstream.call()).reply(429, {"error": {"message": "slow down"}}, retry_after="60")
    while len(held.streams):
        await asyncio.sleep(0)
    held.interrupt()
    assert await held.over() is None
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("package", ["httpx2", "openai"])
def test_without_its_extra_the_import_names_the_remedy(package: str) -> None:
    """The error has the command, as the one of `--agent openai`."""
    program = f"import sys; sys.modules[{package!r}] = None; import bargein_server.agents.chat_completions"
    result = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == f'ImportError: OpenAIAgent needs {package}: pip install "bargein[openai]"'
