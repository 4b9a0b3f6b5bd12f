"""The executor of LangChain courses, cut where the task that runs it is not the turn's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient

from bargein_server.examples import course
from live_server import RawClient, ask, serving
from model_server import Upstream
from strict_model import StrictModel, call
from waiting import until

ANSWER = call("final_answer", answer="It is 3, and 12.", tools_used=["add", "multiply"])


class Tools:
    """What ran of the course's tools; `add` waits when it is blocked."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.blocked = False
        self.released = asyncio.Event()

    async def add(self, x: float, y: float) -> float:
        """Add x and y."""
        self.begun.append("add")
        if self.blocked:
            await self.released.wait()
        return x + y

    async def multiply(self, x: float, y: float) -> float:
        """Multiply x by y."""
        self.begun.append("multiply")
        return x * y


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tools]:
    """The example with tools that a test sees."""
    made = Tools()
    monkeypatch.setattr(course, "FUNCTIONS", [made.add, made.multiply, course.final_answer])
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    course.tools.cache_clear()
    yield made
    course.tools.cache_clear()


@asynccontextmanager
async def served(model: StrictModel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RawClient]:
    async with Upstream(model) as upstream:
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.setenv("OPENAI_API_BASE", upstream.url)
        async with serving(course.assistant, hold_s=100) as server, server.connect() as client:
            yield client


def text(client: RawClient) -> str:
    return "".join(frame["text"] for frame in client.frames if frame["type"] == "text.delta")


def running_executor() -> asyncio.Task[Any]:
    """Return the task that the example made."""
    [executor] = [task for task in asyncio.all_tasks() if "Executor.invoke" in repr(task.get_coro())]
    return executor


async def test_the_answer_is_a_field_of_the_last_call(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and arguments come piece by piece, a step's end is told, and the history has the answer."""
    model = StrictModel([call("add", x=1, y=2), call("multiply", x=3, y=4)], [ANSWER], [ANSWER])
    async with served(model, monkeypatch) as client:
        await ask(client, "1 + 2, and 3 * 4?")
        assert (await client.until("turn.ended"))["status"] == "completed"
        assert text(client) == "It is 3, and 12."
        kinds = [frame["type"] for frame in client.frames]
        assert (kinds.count("tool.call"), kinds.count("tool.result"), kinds.count("step.ended")) == (2, 2, 1)
        assert kinds.count("tool.call.delta") > 4
        assert kinds.count("text.delta") > 2
        assert sorted(tools.begun) == ["add", "multiply"]
        await ask(client, "thanks", "i2")
        await client.until("turn.ended")
    assert [body["tool_choice"] for body in model.bodies] == ["required"] * 3
    assert model.heard[-1] == [
        ("user", "1 + 2, and 3 * 4?"),
        ("call", "add", '{"x": 1, "y": 2}'),
        ("call", "multiply", '{"x": 3, "y": 4}'),
        ("result", "3.0"),
        ("result", "12.0"),
        ("assistant", "It is 3, and 12."),
        ("user", "thanks"),
    ]


async def test_the_answer_that_was_heard_is_told(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is cut in the arguments of its call is cut text; the model's stream is closed."""
    half = call("final_answer", pause_at=20, answer="It is 3, and 12.", tools_used=["add"])
    model = StrictModel([half], [ANSWER])
    async with served(model, monkeypatch) as client:
        turn = await ask(client, "go")
        while not text(client):
            await client.receive()
        executor = running_executor()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        assert await model.answered[0].gone() in ("eof", "reset")
        await until(executor.done, "the executor's end")
        heard = text(client)
        await ask(client, "again", "i2")
        await client.until("turn.ended")
    assert executor.cancelled()  # an error would be logged as one that was never retrieved
    assert model.heard[-1] == [("user", "go"), ("assistant", f"{heard} [interrupted]"), ("user", "again")]


async def test_no_tool_begins_in_a_task_that_outlives_the_turn(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the model cannot be closed, because its client is none of the server's."""
    from langchain_openai import ChatOpenAI

    async with AsyncClient() as http:

        def careless(turn: Any) -> ChatOpenAI:
            return ChatOpenAI(model="m", http_async_client=http, max_retries=0)

        monkeypatch.setattr(course, "chat_model", careless)
        model = StrictModel([call("add", pause_at=4, x=1, y=2)], [ANSWER])
        async with served(model, monkeypatch) as client:
            turn = await ask(client, "go")
            await client.until("tool.call")
            executor = running_executor()
            await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
            await client.until("turn.ended")
            model.resume()
            await until(executor.done, "the executor's end")
    assert executor.cancelled()
    assert tools.begun == []


async def test_the_executor_ends_with_the_turn(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool that runs is cancelled, and the model is not called again."""
    tools.blocked = True
    model = StrictModel([call("add", x=1, y=2)], [ANSWER])
    async with served(model, monkeypatch) as client:
        turn = await ask(client, "go")
        await client.until("tool.running")
        await until(lambda: tools.begun, "the tool")
        executor = running_executor()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        await until(executor.done, "the executor's end")
        assert len(model.heard) == 1
        tools.blocked = False
        await ask(client, "again", "i2")
        await client.until("turn.ended")
    assert tools.begun == ["add"]


async def test_an_executor_that_fails_fails_the_turn(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, with its error in the log, although nothing ends the iterator of the handler."""
    model = StrictModel([call("no_such_tool")])
    async with served(model, monkeypatch) as client:
        await ask(client, "go")
        ended = await client.until("turn.ended")
    assert (ended["status"], ended["reason"]) == ("failed", "agent_error")
    assert "KeyError: 'no_such_tool'" in caplog.text
