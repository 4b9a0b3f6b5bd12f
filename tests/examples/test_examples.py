"""The examples that come with the server do what they show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bargein_server.examples
from bargein_protocol import Progress, Status, TextDelta, Thought, ToolResult
from bargein_server.agents.tools import ToolError
from bargein_server.examples import calculator as calculator_module
from bargein_server.examples.calculator import calculator, exponentiate
from bargein_server.examples.trip import trip_planner
from memory_client import Line, serve
from model_server import Upstream
from scripted_model import Model, call, say

EXAMPLES = ("calculator", "trip")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name: str) -> None:
    """Under sixty lines."""
    folder = Path(bargein_server.examples.__file__).parent
    assert len((folder / f"{name}.py").read_text("utf-8").splitlines()) < 60


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Model]:
    """A model that the examples find in the environment."""
    model = Model()
    async with Upstream(model) as upstream:
        monkeypatch.setenv("OPENAI_MODEL", "m")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        calculator_module._model.cache_clear()
        yield model
        calculator_module._model.cache_clear()


async def test_the_calculator(model: Model) -> None:
    """Each operation is a call, several at a time, and the model gets their results."""
    model.steps += [
        [say("Let me see. "), call("add", a=1, b=2), call("subtract", a=5, b=1)],
        [call("multiply", a=3, b=4), call("exponentiate", base=2, exponent=10)],
        [say("12 and 1024.")],
    ]
    sessions = serve(calculator)
    line = Line(sessions)
    line.ask("what is (1 + 2) * (5 - 1), and 2 to the 10th?")
    await line.until("turn.ended")
    results = [event.output for event in line.events if isinstance(event, ToolResult)]
    assert results == [3, 4, 12, 1024]
    assert line.texts() == ["Let me see. ", "12 and 1024."]
    names = [tool["function"]["name"] for tool in model.requests[0]["tools"]]
    assert names == ["add", "subtract", "multiply", "exponentiate"]
    await sessions.shut_down()


@pytest.mark.parametrize(("base", "exponent"), [(10.0, 1e6), (0.0, -1.0), (-1.0, 0.5)])
def test_what_is_no_number(base: float, exponent: float) -> None:
    """The model gets the error."""
    with pytest.raises(ToolError):
        exponentiate(base, exponent)


async def play(agent: object, text: str) -> Line:
    """Let an agent answer in virtual time."""
    line = Line(serve(agent))  # type: ignore[arg-type]
    line.ask(text)
    while not line.ends():
        await asyncio.sleep(0.01)
    return line


@pytest.mark.virtual_time
async def test_the_trip_planner() -> None:
    """Status, thought, three searches side by side with their progress, and the plan."""
    line = await play(trip_planner, 'Plan a trip to Rio "de" Janeiro')
    assert {Status, Thought, Progress, ToolResult, TextDelta} <= {type(event) for event in line.events}
    order = [kind for kind in line.types() if kind in ("tool.running", "tool.result")]
    assert order == ["tool.running"] * 3 + ["tool.result"] * 3
    assert "".join(line.texts()) == (
        "Fly BI 204 to Janeiro, stay at Harbour View, eat at The Quiet Table, Janeiro."
    )


@pytest.mark.virtual_time
async def test_the_table_is_booked_although_the_user_interrupts() -> None:
    """The searches are cancelled, the booking is not, and the next turn knows."""
    sessions = serve(trip_planner)
    line = Line(sessions)
    turn = line.ask("Plan a trip to Oslo")
    while line.types().count("tool.running") < 3:
        await asyncio.sleep(0.01)
    line.interrupt(turn)
    while sessions.background:
        await asyncio.sleep(0.01)
    [live] = sessions
    messages = live.core.history(line.ask("and?")).messages()
    results = [message["content"] for message in messages if message["role"] == "tool"]
    assert results[:2] == ["cancelled", "cancelled"]
    assert json.loads(results[2]) == {"restaurant": "The Quiet Table, Oslo", "at": "19:30"}
