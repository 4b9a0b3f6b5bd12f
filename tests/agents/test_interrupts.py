"""Contract 8 for random tool conversations, interrupted at every position.

A conversation is a list of steps of a model; each says something or calls tools of several kinds. The
interrupt comes after so many steps of the event loop, so that every place where it can land is tried,
between two frames and between two awaits alike. Then: the next request is valid for the API, no tool
began behind the fence, none ran twice, and whatever finished reaches the next model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bargein_protocol import ToolConfirm, ToolDecision, ToolOutput, ToolRunning
from bargein_server import Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.tools import ToolError, tool
from memory_client import Line, serve
from model_server import Upstream
from scripted_model import Model, Part, call, check_messages, say
from waiting import until

KINDS = ("quick", "slow", "stubborn", "finish", "chatty", "thread", "failing", "confirmed", "client", "bad")

step = st.lists(
    st.one_of(st.just("say"), st.sampled_from(KINDS)), min_size=1, max_size=3
)  # what a model does in one step


class Ledger:
    """What really happened, whatever the history holds.

    Attributes:
        begun: Numbers of the calls whose function was entered.
        finished: Those that returned.
        fenced: Whether the interrupt was read.
        late: Those that began after that.
    """

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.finished: set[int] = set()
        self.late: list[int] = []
        self.fenced = False

    def begin(self, n: int, in_thread: bool = False) -> None:
        self.begun.append(n)
        if self.fenced and not in_thread:  # a thread's first step may be on its way already
            self.late.append(n)

    def finish(self, n: int) -> str:
        self.finished.add(n)
        return f"result {n}"

    def tools(self) -> list[Any]:
        """Return one tool of each kind; each enters what it does."""
        ledger = self

        async def quick(n: int) -> str:
            ledger.begin(n)
            return ledger.finish(n)

        async def slow(n: int) -> str:
            ledger.begin(n)
            for _ in range(3):
                await asyncio.sleep(0)
            return ledger.finish(n)

        async def stubborn(n: int) -> str:
            ledger.begin(n)
            for _ in range(4):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    continue
            return ledger.finish(n)

        async def chatty(turn: Turn, n: int) -> AsyncIterator[Any]:
            ledger.begin(n)
            for k in range(3):
                yield turn.progress(k, 3)
                await asyncio.sleep(0)
            yield ledger.finish(n)

        def thread(n: int) -> str:
            ledger.begin(n, in_thread=True)
            return ledger.finish(n)

        async def failing(n: int) -> str:
            ledger.begin(n)
            await asyncio.sleep(0)
            raise ToolError("no")

        async def client(n: int) -> str:
            raise AssertionError("never called")

        return [
            quick, slow, stubborn, chatty, thread, failing,
            tool(name="finish", on_interrupt="finish")(slow), tool(name="confirmed", confirm=True)(quick),
            tool(runs_in="client")(client),
        ]  # fmt: skip


def model_of(steps: list[list[str]]) -> Model:
    """Return a model that does this; every call has a number of its own."""
    n = 0
    scripted: list[list[Part]] = []
    for kinds in steps:
        parts: list[Part] = []
        for kind in kinds:
            if kind == "say":
                parts.append(say(f"Step {len(scripted)}. "))
            elif kind == "bad":
                parts.append(call("quick", raw='{"n": '))
            else:
                parts.append(call(kind, n=n))
                n += 1
        scripted.append(parts)
        if all(kind == "say" for kind in kinds):
            break  # an answer without calls ends the turn
    return Model(*scripted, [say("Done.")], [say("Next.")], [say("Next.")])


async def answer_client(line: Line, seen: int) -> int:
    """Answer what the client was asked since the last time."""
    for event in line.events[seen:]:
        if isinstance(event, ToolConfirm):
            line.send(ToolDecision(call_id=event.call_id, allow=True))
        elif isinstance(event, ToolRunning) and event.runs_in == "client":
            line.send(ToolOutput(call_id=event.call_id, output="from the client"))
    return len(line.events)


async def converse(steps: list[list[str]], position: int, blocked: bool) -> None:
    """Hold the conversation, interrupt it there, and check what is left."""
    model, ledger = model_of(steps), Ledger()
    async with Upstream(model) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, tools=ledger.tools())

        async def run(turn: Turn) -> AsyncIterator[Output]:
            async for output in agent(turn):
                yield output

        sessions = serve(run)
        line = Line(sessions)
        turn = line.ask("go")
        if blocked:
            line.block()
        seen = 0
        for _ in range(position):
            if line.ends():
                break
            await asyncio.sleep(0)
            seen = await answer_client(line, seen)
        ledger.fenced = True
        line.interrupt(turn)
        finished = set(ledger.finished)
        line.block(False)
        await settled(sessions)
        await until_asked(line, model)
        check_told(model, ledger, finished)
        await sessions.shut_down()
        assert not sessions.abandoned


async def settled(sessions: Any) -> None:
    """Wait until nothing of the turn runs any more."""
    await until(lambda: not sessions.background and not any(live.tasks() for live in sessions), "the tasks")


async def until_asked(line: Line, model: Model) -> None:
    """Ask again; return when the model has answered."""
    asked = len(model.requests)
    model.steps[asked:] = [[say("Next.")]] * 2
    ends = len(line.ends())
    line.ask("and?")
    await until(lambda: len(line.ends()) > ends, "the next turn")
    assert line.ends()[-1].status == "completed"


def check_told(model: Model, ledger: Ledger, finished: set[int]) -> None:
    """The next request is valid and true."""
    for request in model.requests:
        check_messages(request["messages"])
    messages = model.requests[-1]["messages"]
    numbers = {
        made["id"]: json.loads(made["function"]["arguments"]).get("n")
        for message in messages
        for made in message.get("tool_calls", ())
    }
    listed = {
        numbers[message["tool_call_id"]]: message["content"]
        for message in messages
        if message["role"] == "tool"
    }
    assert len(ledger.begun) == len(set(ledger.begun)), "a call ran twice"
    assert ledger.late == [], "a tool began behind the fence"
    for n in finished | {n for n in ledger.finished if listed.get(n) != "cancelled"}:
        assert listed.get(n) == f"result {n}", f"the result of call {n} was lost: {listed}"
    for n, content in listed.items():
        if content == "running":
            raise AssertionError(f"call {n} never settled")
        if n is not None and str(content).startswith("result"):
            assert n in ledger.finished


async def test_an_interrupt_at_every_position_of_one_conversation() -> None:
    """All kinds of tools, two and three at a time: every step of the loop until the turn is over."""
    steps = [["say", "slow", "finish"], ["stubborn", "quick", "bad"], ["confirmed", "client", "chatty"]]
    for position in range(90):
        await converse(steps, position, False)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, min_size=1, max_size=3), position=st.integers(0, 120), blocked=st.booleans())
def test_an_interrupt_at_any_position(steps: list[list[str]], position: int, blocked: bool) -> None:
    """Valid, true, at most once, and nothing lost, wherever it lands."""
    asyncio.run(converse(steps, position, blocked))
