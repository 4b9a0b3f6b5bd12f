"""A span for each turn, what its agent does below it, and nothing of what was said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from bargein_protocol import InputId, InputText, SessionClose, ToolOutput, ToolRunning
from bargein_server import Agent, Output, Settings, Turn, TurnFailed
from bargein_server.agents.openai import OpenAIAgent
from bargein_server.agents.parallel import SideBySide
from bargein_server.agents.tools import ToolError, tool
from bargein_server.shell.sessions import Sessions
from bargein_server.telemetry import Telemetry
from bargein_server.telemetry.traces import Traces
from fakes import Line
from model import Model, call, say
from tracing import PARENT_ID, TRACE_ID, TRACEPARENT, Tracing, parent_of
from upstream import Upstream
from waiting import until

OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def tracing() -> Tracing:
    return Tracing()


def traced(tracing: Tracing, agent: Agent, **settings: Any) -> Line:
    """Return a client of a server that traces."""
    limits = Settings(**{"drain_s": 0.0, **settings})
    telemetry = Telemetry([Traces(tracing.provider.get_tracer("bargein"))])
    return Line(Sessions(agent, limits, telemetry))


async def turn_of(line: Line, tracing: Tracing, text: str = "hello") -> ReadableSpan:
    """Have a whole turn; return its span."""
    before = len(tracing.spans("turn"))
    line.ask(text)
    await until(lambda: len(tracing.spans("turn")) > before, "the turn's span")
    return tracing.spans("turn")[-1]


def ask_as_part_of(line: Line, **metadata: Any) -> None:
    line.send(InputText(id=InputId(f"i{len(line.events)}"), text="hello", metadata=metadata))


async def brief(turn: Turn) -> AsyncIterator[Output]:
    """Says two words."""
    turn.add_usage(7, 2)
    yield "one "
    yield "two"


async def endless(turn: Turn) -> AsyncIterator[Output]:
    """Speaks until it is cut."""
    while True:
        yield "word "
        await asyncio.sleep(0.001)


# The turn


async def test_a_turn_is_one_span(tracing: Tracing) -> None:
    """With its ids, its outcome and its time to the first output; no span for a token."""
    line = traced(tracing, brief)
    span = await turn_of(line, tracing)
    assert tracing.spans() == [span]
    assert (span.kind, span.parent, span.status.status_code) == (SpanKind.SERVER, None, StatusCode.UNSET)
    attributes = dict(span.attributes or {})
    assert 0 < float(str(attributes.pop("bargein.time_to_first_output"))) < 1
    [live] = line.connection._sessions
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": live.context.id,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "bargein.turn.id": line.ends()[0].turn_id,
        "bargein.input.id": live.core.turn(line.ends()[0].turn_id).input.id,
        "bargein.turn.status": "completed",
        "bargein.turn.reason": "completed",
    }


async def test_an_interrupt_is_an_event_of_the_span(tracing: Tracing) -> None:
    """With its reason, at the fence; the span goes on until the cleanup is over."""

    async def cleaning(turn: Turn) -> AsyncIterator[Output]:
        try:
            async with aclosing(endless(turn)) as words:  # type: ignore[type-var]
                async for word in words:
                    yield word
        finally:
            await asyncio.sleep(0.02)

    line = traced(tracing, cleaning)
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    assert tracing.spans() == []
    await until(tracing.spans)
    span = tracing.one("turn")
    [event] = [event for event in span.events if event.name == "interrupt"]
    assert dict(event.attributes or {}) == {"bargein.reason": "client"}
    assert (span.attributes or {})["bargein.turn.status"] == "interrupted"
    assert span.status.status_code is StatusCode.UNSET, "an interrupt is no error"
    assert span.end_time is not None
    assert span.end_time - event.timestamp >= 15_000_000


async def test_a_failed_turn_is_an_error(tracing: Tracing) -> None:
    """With its reason, and nothing of the exception's text."""

    async def failing(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        raise TurnFailed("upstream") from ValueError("secret detail")

    span = await turn_of(traced(tracing, failing), tracing)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "upstream")
    assert (span.attributes or {})["error.type"] == "upstream"


async def test_a_turn_that_waited_has_its_start_as_an_event(tracing: Tracing) -> None:
    """Its span begins with its input; one that never started has no start."""
    line = traced(tracing, endless)
    first = line.ask()
    await line.until("text.delta")
    line.send(InputText(id=InputId("second"), text="hello", on_busy="queue"))
    line.send(InputText(id=InputId("third"), text="hello", on_busy="queue"))
    line.interrupt(first)
    await line.until("text.delta", 2)
    line.send(SessionClose())
    await until(lambda: len(tracing.spans("turn")) == 3)
    started = {
        (span.attributes or {})["bargein.input.id"]: "started" in [event.name for event in span.events]
        for span in tracing.spans("turn")
    }
    assert started["second"]
    assert not started["third"]


async def test_an_abandoned_turn_says_so(tracing: Tracing) -> None:
    """Its span ends with the patience of the server."""
    release = asyncio.Event()

    async def stubborn(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    line = traced(tracing, stubborn, cleanup_grace_s=0.0, cleanup_kill_s=0.0)
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    await until(tracing.spans)
    assert "abandoned" in [event.name for event in tracing.one("turn").events]
    release.set()


# Where it comes from


async def test_an_input_says_whose_part_it_is(tracing: Tracing) -> None:
    """`traceparent` in its metadata is the parent; the next input without one is a trace of its own."""
    line = traced(tracing, brief)
    ask_as_part_of(line, traceparent=TRACEPARENT)
    await until(tracing.spans)
    assert parent_of(tracing.one("turn")) == (TRACE_ID, PARENT_ID)
    tracing.clear()
    assert parent_of(await turn_of(line, tracing)) is None


async def test_the_handshake_speaks_for_all_inputs_and_an_input_for_itself(tracing: Tracing) -> None:
    """What an input says wins."""
    line = traced(tracing, brief)
    line.connection._visitor.trace = {"traceparent": TRACEPARENT}
    assert parent_of(await turn_of(line, tracing)) == (TRACE_ID, PARENT_ID)
    tracing.clear()
    ask_as_part_of(line, traceparent=f"00-{OTHER_TRACE}-{PARENT_ID}-01")
    await until(tracing.spans)
    assert parent_of(tracing.one("turn")) == (OTHER_TRACE, PARENT_ID)


@pytest.mark.parametrize("nonsense", ["", "00-zz", TRACEPARENT[:-3], 7, None, ["x"], "ff" + TRACEPARENT[2:]])
async def test_nonsense_is_no_parent(tracing: Tracing, nonsense: Any) -> None:
    """The turn has a trace of its own."""
    line = traced(tracing, brief)
    ask_as_part_of(line, traceparent=nonsense)
    await until(tracing.spans)
    assert parent_of(tracing.one("turn")) is None


async def test_what_the_client_does_not_sample_is_not_sampled(tracing: Tracing) -> None:
    """The flag of the parent decides."""
    line = traced(tracing, brief)
    ask_as_part_of(line, traceparent=TRACEPARENT[:-2] + "00")
    await line.until("turn.ended")
    await turn_of(line, tracing)
    assert len(tracing.spans()) == 1


# The author's own spans


async def test_what_the_author_traces_nests_in_the_turn(tracing: Tracing) -> None:
    """Also in a task, in a thread, and in the cleanup; and never in another turn."""
    tracer = tracing.provider.get_tracer("author")

    def work(name: str) -> None:
        with tracer.start_as_current_span(name):
            pass

    async def author(turn: Turn) -> AsyncIterator[Output]:
        try:
            work("here")
            yield "word"
            await turn.spawn(asyncio.to_thread(work, "thread"))
            async with aclosing(endless(turn)) as words:  # type: ignore[type-var]
                async for word in words:
                    yield word
        finally:
            await asyncio.sleep(0)
            work("cleanup")

    line = traced(tracing, author)
    first = line.ask()
    await line.until("text.delta", 2)
    line.interrupt(first)
    await until(lambda: tracing.spans("turn"))
    assert tracing.tree() == {"turn", "turn/here", "turn/thread", "turn/cleanup"}
    line.ask()
    await line.until("text.delta", 5)
    line.send(SessionClose())
    await until(lambda: len(tracing.spans("turn")) == 2)
    for name in ("here", "thread", "cleanup"):
        parents = [span.parent.span_id for span in tracing.spans(name) if span.parent is not None]
        turns = [span.context.span_id for span in tracing.spans("turn") if span.context is not None]
        assert parents == turns


# Models and tools


async def test_a_model_call_is_a_client_span(tracing: Tracing) -> None:
    """By the conventions for generative AI, and without what was said."""
    async with Upstream(Model([say("secret ", "words")])) as upstream:
        agent = OpenAIAgent(
            model="m", base_url=upstream.url, instructions="secret rules", temperature=0.5, user="secret user"
        )
        line = traced(tracing, agent)
        await turn_of(line, tracing, "secret question")
        await line.connection._sessions.shut_down()
    assert tracing.tree() == {"turn", "turn/chat m"}
    span = tracing.one("chat")
    assert span.kind is SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    assert 0 < float(str(attributes.pop("gen_ai.response.time_to_first_chunk"))) < 5
    assert (
        attributes.pop("gen_ai.conversation.id")
        == (tracing.one("turn").attributes or {})["gen_ai.conversation.id"]
    )
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "c",
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "127.0.0.1",
        "server.port": int(upstream.url.rsplit(":", 1)[1].partition("/")[0]),
    }
    assert "secret" not in "".join(span.to_json() for span in tracing.spans())


async def test_each_attempt_is_a_span(tracing: Tracing) -> None:
    """One that failed says with which error."""

    def script(answer: Any) -> None:
        if len(tracing.spans("chat")) == 0:
            answer.reply(500, {"error": "secret"}, retry_after="0")
        else:
            answer.answer("word")

    async with Upstream(script) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url))
        await turn_of(line, tracing)
        await line.connection._sessions.shut_down()
    first, second = tracing.spans("chat")
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "InternalServerError")
    assert second.status.status_code is StatusCode.UNSET
    assert tracing.tree() == {"turn", "turn/chat m"}


async def test_an_interrupted_model_call_has_no_finish_reason(tracing: Tracing) -> None:
    """Its span ends with the interrupt, below the turn's."""
    async with Upstream() as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url))
        turn = line.ask()
        call = await upstream.call()
        call.open()
        call.text("word")
        await line.until("text.delta")
        line.interrupt(turn)
        await until(lambda: tracing.spans("turn"))
        await line.connection._sessions.shut_down()
    assert tracing.tree() == {"turn", "turn/chat m"}
    assert "gen_ai.response.finish_reasons" not in (tracing.one("chat").attributes or {})
    assert tracing.one("chat").status.status_code is StatusCode.UNSET


async def test_tools_are_spans_in_which_their_own_work_nests(tracing: Tracing) -> None:
    """Async ones and threads; a failure says what kind, never its text or the arguments."""
    tracer = tracing.provider.get_tracer("author")

    async def look_up(city: str) -> str:
        with tracer.start_as_current_span("query"):
            await asyncio.sleep(0)
        return "secret result"

    def compute() -> int:
        with tracer.start_as_current_span("sums"):
            return 1

    async def refuse() -> None:
        raise ToolError("secret reason")

    @tool(timeout_s=0.01)
    async def hang() -> None:
        await asyncio.Event().wait()

    calls = [call("look_up", city="secret"), call("compute"), call("refuse"), call("hang"), call("unknown")]
    async with Upstream(Model(calls, [say("done")])) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, tools=[look_up, compute, refuse, hang])
        line = traced(tracing, agent)
        await turn_of(line, tracing)
        await line.connection._sessions.shut_down()
    assert tracing.tree() == {
        "turn",
        "turn/chat m",
        "turn/execute_tool look_up",
        "turn/execute_tool look_up/query",
        "turn/execute_tool compute",
        "turn/execute_tool compute/sums",
        "turn/execute_tool refuse",
        "turn/execute_tool hang",
    }
    assert len(tracing.spans("chat")) == 2
    errors = {
        span.name: span.status.description for span in tracing.spans("execute") if not span.status.is_ok
    }
    assert errors == {"execute_tool refuse": "ToolError", "execute_tool hang": "timeout"}
    attributes = dict(tracing.one("execute_tool look_up").attributes or {})
    assert str(attributes.pop("gen_ai.tool.call.id")).startswith("call_")
    assert str(attributes.pop("gen_ai.conversation.id")).startswith("s_")
    assert attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look_up",
        "gen_ai.tool.type": "function",
    }
    assert "secret" not in "".join(span.to_json() for span in tracing.spans())


async def test_an_interrupted_tool_ends_its_span(tracing: Tracing) -> None:
    """That of a thread when the thread returns, which nobody can hasten."""
    begun, go = threading.Event(), threading.Event()
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    def order() -> str:
        begun.set()
        go.wait(10)
        return "ordered"

    async with Upstream(Model([call("wait"), call("order")])) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url, tools=[wait, order]))
        turn = line.ask()
        await until(lambda: waits.is_set() and begun.is_set())
        line.interrupt(turn)
        await until(lambda: tracing.spans("turn"))
        assert tracing.tree() == {"turn", "turn/chat m", "turn/execute_tool wait"}
        go.set()
        await until(lambda: tracing.spans("execute_tool order"))
        await line.connection._sessions.shut_down()
    assert tracing.one("execute_tool order").parent == tracing.one("turn").context


async def test_a_background_tool_outlives_its_turn_and_stays_its_child(tracing: Tracing) -> None:
    """Its span ends when it is done, after the turn's."""
    begun, go = asyncio.Event(), asyncio.Event()

    @tool(on_interrupt="finish")
    async def order() -> str:
        with tracing.provider.get_tracer("author").start_as_current_span("payment"):
            begun.set()
            await go.wait()
        return "ordered"

    async with Upstream(Model([call("order")])) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url, tools=[order]))
        turn = line.ask()
        await until(begun.is_set)
        line.interrupt(turn)
        await until(lambda: tracing.spans("turn"))
        assert tracing.tree() == {"turn", "turn/chat m"}
        go.set()
        await until(lambda: tracing.spans("execute_tool"))
        await line.connection._sessions.shut_down()
    assert tracing.tree() == {
        "turn",
        "turn/chat m",
        "turn/execute_tool order",
        "turn/execute_tool order/payment",
    }
    order_ended, turn_ended = tracing.one("execute_tool").end_time, tracing.one("turn").end_time
    assert order_ended is not None
    assert turn_ended is not None
    assert order_ended > turn_ended


async def test_a_tool_of_the_client_is_a_span_too(tracing: Tracing) -> None:
    """From the question to its answer."""

    @tool(runs_in="client")
    async def locate() -> str:
        """Never called."""
        raise AssertionError

    async with Upstream(Model([call("locate")], [say("done")])) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url, tools=[locate]))
        line.ask()
        await line.until("tool.running")
        [running] = [event for event in line.events if isinstance(event, ToolRunning)]
        line.send(ToolOutput(call_id=running.call_id, error="secret"))
        await until(lambda: tracing.spans("turn"))
        await line.connection._sessions.shut_down()
    assert tracing.one("execute_tool locate").status.description == "tool_error"
    assert tracing.one("execute_tool locate").parent == tracing.one("turn").context


async def test_agents_side_by_side_have_a_span_each(tracing: Tracing) -> None:
    """Their model calls are children of their own one, also when they run at the same time."""

    def script(answer: Any) -> None:
        answer.answer("word")

    async with Upstream(script) as upstream:
        branches: dict[str, Agent] = {
            name: OpenAIAgent(model=f"model-of-{name}", base_url=upstream.url) for name in ("ann", "bob")
        }

        async def fails(turn: Turn) -> AsyncIterator[Output]:
            nothing: list[str] = []
            for word in nothing:
                yield word
            raise ValueError("secret")

        async def lead(turn: Turn) -> AsyncIterator[Output]:
            team = SideBySide(turn, {**branches, "eve": fails}, "skip")
            async with aclosing(team.outputs()) as outputs:
                async for output in outputs:
                    yield output

        line = traced(tracing, lead)
        await turn_of(line, tracing)
        await line.connection._sessions.shut_down()
    assert tracing.tree() == {
        "turn",
        "turn/invoke_agent ann",
        "turn/invoke_agent ann/chat model-of-ann",
        "turn/invoke_agent bob",
        "turn/invoke_agent bob/chat model-of-bob",
        "turn/invoke_agent eve",
    }
    assert (tracing.one("chat model-of-ann").attributes or {})["gen_ai.agent.name"] == "ann"
    assert tracing.one("invoke_agent eve").status.description == "ValueError"


async def test_an_interrupt_ends_the_spans_of_agents_side_by_side(tracing: Tracing) -> None:
    """All of them, below their turn."""

    async def lead(turn: Turn) -> AsyncIterator[Output]:
        team = SideBySide(turn, {"ann": endless, "bob": endless})
        async with aclosing(team.outputs()) as outputs:
            async for output in outputs:
                yield output

    line = traced(tracing, lead)
    turn = line.ask()
    await line.until("text.delta", 4)
    line.interrupt(turn)
    await until(lambda: tracing.spans("turn"))
    assert tracing.tree() == {"turn", "turn/invoke_agent ann", "turn/invoke_agent bob"}
