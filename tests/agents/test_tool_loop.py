"""The tool loop: a model calls tools, they run, their results go back to it, until it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import date
from functools import wraps
from typing import Any

import pytest
from pydantic import BaseModel

from bargein_protocol import (
    Progress,
    ServerEvent,
    Status,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
)
from bargein_server import Turn
from bargein_server.agents.tools import ToolError, tool
from scripted_model import Part, call, check_messages, say
from tool_conversation import Serve, add, tool_results
from waiting import until


async def fail() -> None:
    """Fail."""
    raise ValueError("secret detail")


async def refuse() -> None:
    """Refuse."""
    raise ToolError("there is no such city")


async def refuse_in_group() -> None:
    """Refuse in a task group."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(refuse())
        tasks.create_task(refuse())


def kinds(events: list[ServerEvent]) -> list[str]:
    """Return the types of events, runs of the same type as one."""
    names = [str(type(event).__struct_config__.tag) for event in events]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


# The loop


async def test_a_whole_conversation(converse: Serve) -> None:
    """Text, call, arguments, running, result, and the answer, in this order; both steps have their end."""
    talk = converse([say("Let me", " see. "), call("add", a=1, b=2)], [say("It is 3.")], tools=[add])
    events = await talk.ask()
    assert kinds(events) == [
        "session.opened", "input.accepted", "turn.started", "text.delta", "tool.call", "tool.call.delta",
        "step.ended", "tool.running", "tool.result", "text.delta", "step.ended", "turn.ended",
    ]  # fmt: skip
    [announced], [running] = talk.of(ToolCall), talk.of(ToolRunning)
    pieces = "".join(event.arguments for event in talk.of(ToolCallDelta))
    assert (announced.name, pieces, running.arguments) == ("add", '{"a": 1, "b": 2}', {"a": 1, "b": 2})
    assert (talk.result.status, talk.result.output) == ("completed", 3)
    assert talk.end.usage is not None
    assert (talk.end.usage.input_tokens, talk.end.usage.output_tokens) == (20, 4)
    assert talk.model.requests[1]["messages"] == [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "Let me see. ",
            "tool_calls": [
                {
                    "id": announced.call_id,
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": announced.call_id, "content": "3"},
    ]


async def test_the_next_turn_is_told_of_the_tools(converse: Serve) -> None:
    """Calls and results are a part of the history, each step for itself."""
    talk = converse(
        [call("add", a=1, b=2)], [call("add", a=3, b=4)], [say("10.")], [say("Bye.")], tools=[add]
    )
    await talk.ask()
    await talk.ask("thanks")
    messages = talk.model.requests[-1]["messages"]
    check_messages(messages)
    assert [message["role"] for message in messages] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


async def test_calls_of_one_step_run_at_the_same_time(converse: Serve) -> None:
    """Each waits for the others to have begun; results come back in the order of the calls."""
    barrier = asyncio.Barrier(3)

    async def meet(name: str) -> str:
        await barrier.wait()
        return name

    calls = [call("meet", name=name) for name in "abc"]
    talk = converse(calls, [say("Done.")], tools=[meet])
    await talk.ask()
    assert talk.end.status == "completed"
    assert talk.model.results() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (call("add", a=1), "Object missing required field `b`"),
        (call("add", a="x", b=2), "Expected `int`, got `str` - at `$.a`"),
        (call("add", raw='{"a": 1, "b'), "the arguments are not JSON"),
        (call("add", raw="[1, 2]"), "the arguments are not a JSON object"),
        (
            call("multiply", a=1, b=2),
            "there is no tool of this name; there are: add, fail, refuse, refuse_in_group",
        ),
        (
            call("functions.multiply", a=1, b=2),
            "there is no tool of this name; there are: add, fail, refuse, refuse_in_group",
        ),
        (call("add", raw='{"a":' + "[" * 70 + "]" * 70 + ',"b":1}'), "Expected `int`, got `array`"),
        (call("fail"), "the tool failed"),
        (call("refuse"), "there is no such city"),
        (call("refuse_in_group"), "there is no such city; there is no such city"),
    ],
)
@pytest.mark.filterwarnings("default")
async def test_a_bad_call_goes_back_to_the_model(converse: Serve, made: Part, error: str) -> None:
    """The model reads what was wrong, the user's turn goes on, and the request stays valid."""
    talk = converse([made], [say("Sorry.")], tools=[add, fail, refuse, refuse_in_group])
    await talk.ask()
    assert talk.end.status == "completed"
    assert talk.result.status == "failed"
    assert (talk.result.error or "").startswith(error)
    assert talk.model.results()[0].startswith(f"error: {error}")
    check_messages(talk.model.requests[-1]["messages"])


class Booking(BaseModel):
    """What a tool returns."""

    number: int
    day: date


class Odd:
    def __str__(self) -> str:
        return "an odd one"


def circular() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(
    ("value", "output", "told"),
    [
        (Booking(number=7, day=date(2026, 11, 30)), {"number": 7, "day": "2026-11-30"},
         '{"number":7,"day":"2026-11-30"}'),
        (Odd(), "an odd one", "an odd one"),
        ({"deep": [Odd(), "\ud83d"]}, {"deep": ["an odd one", "?"]}, '{"deep":["an odd one","?"]}'),
        ("half \ude00", "half ?", "half ?"),
        (circular(), [1, "[circular]"], '[1,"[circular]"]'),
    ],
)  # fmt: skip
async def test_a_result_is_never_lost_for_its_form(
    converse: Serve, value: Any, output: Any, told: str, threaded: bool
) -> None:
    """The tool has run: its result is converted, and no call fails for it."""

    def plain() -> Any:
        return value

    async def odd() -> Any:
        return value

    called = [tool(name="odd")(plain if threaded else odd)]
    talk = converse([call("odd")], [say("Done.")], [say("Yes.")], tools=called)
    await talk.ask()
    assert (talk.result.status, talk.result.error, talk.result.output) == ("completed", None, output)
    await talk.ask("and?")
    assert [talk.model.results(1), talk.model.results(2)] == [[told], [told]]


async def test_a_result_that_is_too_long_is_shortened(converse: Serve) -> None:
    """The model gets its beginning, and how much there was."""

    async def long() -> str:
        return "x" * 2_000_000

    talk = converse([call("long")], [say("Long.")], tools=[long])
    await talk.ask()
    assert talk.result.status == "completed"
    assert talk.model.results()[0].endswith("x… [the first 100000 of 2000000 characters]")


@pytest.mark.parametrize(
    "made",
    [
        call("add", a="1", b=2.0), call("add", a=True, b="2"), call("add", raw='"{\\"a\\": 1, \\"b\\": 2}"'),
    ],
)  # fmt: skip
async def test_arguments_that_can_be_understood_are_accepted(converse: Serve, made: Part) -> None:
    """A refusal would cost a step."""
    talk = converse([made], [say("3.")], tools=[add])
    await talk.ask()
    assert (talk.result.status, talk.result.output) == ("completed", 3)


@pytest.mark.parametrize("raw", ["null", " ", "{}", '"{}"'])
async def test_no_arguments_in_any_form(converse: Serve, raw: str) -> None:
    """Models' servers write them differently."""

    async def ping(n: int = 1) -> int:
        return n

    talk = converse([call("ping", raw=raw)], [say("!")], tools=[ping])
    await talk.ask()
    assert talk.result.output == 1


@pytest.mark.parametrize("runs_in", ["server", "client"])
async def test_unknown_arguments_are_left_out_and_the_model_is_told(converse: Serve, runs_in: Any) -> None:
    """In the result, in this turn and in the history; the client's output stays as it is."""
    called = tool(runs_in=runs_in)(add)
    talk = converse([call("add", a=1, b=2, c=3, unit="m")], [say("3.")], [say("Yes.")], tools=[called])
    asking = asyncio.create_task(talk.ask())
    if runs_in == "client":
        await until(lambda: talk.of(ToolRunning), "the call")
        talk.line.send(ToolOutput(call_id=talk.of(ToolRunning)[0].call_id, output=3))
    await asking
    assert (talk.result.status, talk.result.output) == ("completed", 3)
    await talk.ask("sure?")
    told = "3\n[ignored unknown arguments: c, unit]"
    assert [talk.model.results(1), talk.model.results(2)] == [[told], [told]]


@pytest.mark.parametrize("raw", ['{"text": "half \ud83d"}', '{"text": "half \\ud83d"}'])
async def test_half_a_character_in_the_arguments_fails_nothing(converse: Serve, raw: str) -> None:
    """Neither the call nor the next request."""

    async def repeat(text: str) -> str:
        return text

    talk = converse([call("repeat", raw=raw)], [say("half ?")], [say("Yes.")], tools=[repeat])
    await talk.ask()
    assert str(talk.result.output).rstrip("?\ufffd") == "half "
    assert talk.end.status == "completed"
    await talk.ask("sure?")
    assert talk.end.status == "completed"


async def test_a_tool_that_cancels_itself(converse: Serve) -> None:
    """Nobody asked for it: the call is over, the turn is not."""

    async def gone() -> None:
        raise asyncio.CancelledError

    talk = converse([call("gone")], [say("Sorry.")], tools=[gone])
    await talk.ask()
    assert (talk.result.status, talk.end.status) == ("cancelled", "completed")


async def test_a_call_without_arguments_or_id(converse: Serve) -> None:
    """Some servers leave them out, or give every call the same id."""

    async def ping() -> str:
        return "pong"

    steps = [[call("ping", raw="", call_id="")] * 2, [call("ping", raw="", call_id="same")] * 2, [say("!")]]
    talk = converse(*steps, tools=[ping])
    await talk.ask()
    assert talk.model.results() == ["pong"] * 4
    assert len({event.call_id for event in talk.of(ToolCall)}) == 4
    check_messages(talk.model.requests[-1]["messages"])


async def test_the_last_step_is_without_tools(converse: Serve) -> None:
    """A model that never stops calling is asked for an answer, not failed."""
    steps = [[call("add", a=n, b=n)] for n in range(3)]
    talk = converse(*steps[:2], [say("That is all.")], tools=[add], max_steps=3)
    await talk.ask()
    choices = [request.get("tool_choice") for request in talk.model.requests]
    assert choices == [None, None, "none"]
    assert (talk.end.status, talk.line.texts()) == ("completed", ["That is all."])


async def test_a_call_although_it_was_the_last_step(converse: Serve) -> None:
    """It does not run, and the turn ends."""
    talk = converse([call("add", a=1, b=1)], tools=[add], max_steps=1)
    await talk.ask()
    assert (talk.result.status, talk.end.status, talk.of(ToolRunning)) == ("cancelled", "completed", [])


# What tools say


async def test_a_tool_that_yields(converse: Serve) -> None:
    """Status and progress are sent at once, the last value is the result."""
    go = asyncio.Event()

    async def search(turn: Turn) -> AsyncIterator[Any]:
        yield turn.status("Searching")
        yield ["first"]
        await go.wait()
        yield turn.progress(1, 2)
        yield ["first", "second"]
        yield turn.data("shown", True)

    talk = converse([call("search")], [say("Two.")], tools=[search])
    asking = asyncio.create_task(talk.ask())
    await until(lambda: talk.of(Status), "the status")
    assert talk.of(ToolResult) == []
    go.set()
    await asking
    assert talk.of(Progress)
    assert talk.result.output == ["first", "second"]


async def test_a_plain_function_runs_in_a_thread(converse: Serve) -> None:
    """It may block; one that is declared quick does not need one."""
    threads: list[bool] = []

    def where() -> None:
        threads.append(threading.current_thread() is threading.main_thread())

    def here() -> None:
        where()

    talk = converse([call("where"), call("here")], [say("!")], tools=[where, tool(quick=True)(here)])
    await talk.ask()
    assert sorted(threads) == [False, True]


@pytest.mark.virtual_time
@pytest.mark.parametrize("what", ["cancels", "swallows", "client"])
async def test_a_tool_that_takes_too_long(converse: Serve, what: str) -> None:
    """The model gets an error, whatever the tool makes of its cancel."""

    async def slow() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if what != "swallows":
                    raise
                return

    runs_in: Any = "client" if what == "client" else "server"
    talk = converse([call("slow")], [say("Sorry.")], tools=[tool(timeout_s=90, runs_in=runs_in)(slow)])
    await talk.ask(virtual=True)
    assert (talk.result.error, talk.end.status) == ("no result within 90 s", "completed")


# The client


@pytest.mark.parametrize("allow", [True, False])
async def test_a_call_that_needs_to_be_allowed(converse: Serve, allow: bool) -> None:
    """The client is shown the whole arguments, and nothing runs before it says yes."""
    talk = converse([call("add", a=1, b=2)], [say("OK.")], tools=[tool(confirm=True)(add)])
    asking = asyncio.create_task(talk.ask())
    await until(lambda: talk.of(ToolConfirm), "the question")
    [confirm] = talk.of(ToolConfirm)
    assert (confirm.arguments, talk.of(ToolRunning)) == ({"a": 1, "b": 2}, [])
    talk.line.send(ToolDecision(call_id=confirm.call_id, allow=allow))
    await asking
    assert bool(talk.of(ToolRunning)) is allow
    assert talk.model.results() == ["3" if allow else "cancelled: not allowed by the user"]


@pytest.mark.virtual_time
async def test_nobody_decides(converse: Serve) -> None:
    """A call that is not allowed in time is not allowed; the answer of the model ends the wait."""
    talk = converse([call("add", a=1, b=2)], [say("OK.")], tools=[tool(confirm=True)(add)])
    await talk.ask(virtual=True)
    assert talk.model.results() == ["cancelled: not allowed by the user"]


@pytest.mark.parametrize("error", [None, "no position"])
async def test_a_tool_that_runs_in_the_client(converse: Serve, error: str | None) -> None:
    """Its function is never called; what the client answers goes to the model."""

    @tool(runs_in="client")
    async def locate() -> dict[str, float]:
        """Tell where the user is."""
        raise AssertionError("never called")

    talk = converse([call("locate")], [say("There.")], tools=[locate])
    asking = asyncio.create_task(talk.ask())
    await until(lambda: talk.of(ToolRunning), "the call")
    [running] = talk.of(ToolRunning)
    assert running.runs_in == "client"
    output = None if error else {"lat": 1.5}
    talk.line.send(ToolOutput(call_id=running.call_id, output=output, error=error))
    await asking
    assert talk.model.results() == [f"error: {error}" if error else '{"lat":1.5}']
    assert talk.line.types().count("error") == 0


# The final answer


async def test_a_final_tool_is_said_as_it_is_written(converse: Serve) -> None:
    """Every call is forced, and the answer streams out of the arguments of the last one."""
    talk = converse(
        [call("add", a=1, b=2)],
        [call("final_answer", answer='It is "3".\nÄh, 3!')],
        tools=[add],
        final_tool="final_answer",
    )
    await talk.ask()
    assert "".join(talk.line.texts()) == 'It is "3".\nÄh, 3!'
    assert len(talk.of(TextDelta)) > 1
    assert [event.name for event in talk.of(ToolCall)] == ["add"]
    assert [request["tool_choice"] for request in talk.model.requests] == ["required"] * 2
    assert await tool_results(talk) == ["3"]
    assert talk.model.requests[-1]["messages"][3] == {"role": "assistant", "content": 'It is "3".\nÄh, 3!'}


async def test_a_final_call_without_an_answer_goes_back(converse: Serve) -> None:
    """The model gets the error, and is asked again; the last step forces the final tool."""
    talk = converse(
        [call("final_answer", raw="{}")],
        [call("final_answer", answer="3")],
        tools=[],
        final_tool="final_answer",
        max_steps=2,
    )
    await talk.ask()
    assert talk.model.results() == ["error: Object missing required field `answer`"]
    assert talk.line.texts() == ["3"]
    assert talk.model.requests[1]["tool_choice"]["function"] == {"name": "final_answer"}


async def test_what_is_called_beside_the_answer_does_not_run(converse: Serve) -> None:
    """The answer ends the turn."""
    talk = converse(
        [call("add", a=1, b=2), call("final_answer", answer="3")], tools=[add], final_tool="final_answer"
    )
    await talk.ask()
    assert (talk.result.status, talk.of(ToolRunning), talk.line.texts()) == ("cancelled", [], ["3"])


# Results that a look at the function does not show


async def answer() -> int:
    """Answer."""
    return 42


async def answers() -> AsyncIterator[Any]:
    """Answer in a generator."""
    yield Status(message="soon")
    yield 42


def hidden(function: Any) -> Any:
    """Wrap a function as many decorators do it, in a plain one."""

    @wraps(function)
    def call() -> Any:
        return function()

    return call


def rows() -> Any:
    """Return a generator."""
    return (n for n in range(3))


async def later() -> Any:
    """Return a coroutine that was not awaited."""
    return answer()


@pytest.mark.parametrize(
    ("function", "output"),
    [
        (hidden(answer), 42), (hidden(answers), 42), (hidden(hidden(answer)), 42), (rows, [0, 1, 2]),
        (hidden(rows), [0, 1, 2]), (later, 42),
    ],
)  # fmt: skip
async def test_a_result_that_has_not_run_yet(converse: Serve, function: Any, output: Any) -> None:
    """A coroutine and a generator are run, wherever they come from; the model gets what they return."""
    talk = converse([call(function.__name__)], [say("Done")], tools=[function])
    await talk.ask()
    assert (talk.result.status, talk.result.output) == ("completed", output)
    assert len(talk.of(Status)) == (function.__name__ == "answers")


async def nan() -> AsyncIterator[Any]:
    """Report progress that no client can read."""
    yield Progress(value=float("nan"))


async def long() -> AsyncIterator[Any]:
    """Report a status that is too long."""
    yield Status(message="x" * 100_000)


@pytest.mark.parametrize("function", [nan, long])
async def test_an_output_that_cannot_be_sent(converse: Serve, function: Any) -> None:
    """It is a failed tool, not a failed turn."""
    talk = converse([call(function.__name__)], [say("Sorry")], tools=[function])
    await talk.ask()
    assert (talk.end.status, talk.result.error) == ("completed", "the tool failed")
