"""A span for each turn: its ends, its parent, and what its author traces in it; nothing of what was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from bargein_protocol import InputId, InputText, SessionClose, SessionId
from bargein_server import Output, Turn, TurnFailed
from bargein_server.telemetry import Telemetry
from bargein_server.telemetry.traces import Traces
from memory_client import Line
from tracing import PARENT_ID, TRACE_ID, TRACEPARENT, Tracing, endless, parent_of, traced, turn_of
from waiting import until

OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"


def ask_as_part_of(line: Line, **metadata: Any) -> None:
    line.send(InputText(id=InputId(f"i{len(line.events)}"), text="hello", metadata=metadata))


async def brief(turn: Turn) -> AsyncIterator[Output]:
    """Says two words."""
    turn.add_usage(7, 2)
    yield "one "
    yield "two"


# The turn


async def test_a_turn_is_one_span(tracing: Tracing) -> None:
    """With its ids, its outcome and its time to the first output; no span for a token."""
    line = traced(tracing, brief)
    span = await turn_of(line, tracing)
    assert tracing.spans() == [span]
    assert (span.kind, span.parent, span.status.status_code) == (SpanKind.SERVER, None, StatusCode.UNSET)
    attributes = dict(span.attributes or {})
    assert 0 < float(str(attributes.pop("bargein.time_to_first_output"))) < 1
    [live] = line.connection._registry
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": live.view.id,
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
    line.connection.caller.trace = {"traceparent": TRACEPARENT}
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


# Speech


def test_a_barge_in_is_a_span_from_the_first_sound_to_the_verdict(tracing: Tracing) -> None:
    """The hold is an event of it; other decisions make none."""
    traces = Traces(tracing.provider.get_tracer("test"))
    telemetry = Telemetry([traces]).session(SessionId("s"), None)
    for decision, spoken_ms in (("start", 64), ("hold", 64), ("ask", 480), ("end", 700)):
        telemetry.speech(decision, spoken_ms)
    [span] = tracing.spans()
    assert (span.name, (span.attributes or {})["bargein.speech.decision"]) == ("speech.verdict", "end")
    [held] = span.events
    assert span.start_time is not None
    assert held.timestamp - span.start_time == pytest.approx(64e6, abs=1)


def test_a_recognition_is_a_span(tracing: Tracing) -> None:
    """With its kind and result, and nothing of what was said."""
    Telemetry([Traces(tracing.provider.get_tracer("test"))]).recognised("quick", "done", 0.25)
    [span] = tracing.spans()
    assert span.name == "speech.recognition"
    assert dict(span.attributes or {}) == {
        "bargein.recognition.kind": "quick", "bargein.recognition.result": "done",
    }  # fmt: skip
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == pytest.approx(0.25e9, abs=1)
