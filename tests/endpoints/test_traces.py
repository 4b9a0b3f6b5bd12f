"""Traces over the whole line: a client's `traceparent` reaches the agent's spans."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace

from bargein_server import Output, Turn
from live_server import WireKind, ask, counting, serving
from sse_client import http
from tracing import PARENT_ID, TRACE_ID, TRACEPARENT, Tracing, parent_of
from waiting import until


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> Tracing:
    """The tracing of the process, as an application sets it up."""
    tracing = Tracing()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracing.provider)
    monkeypatch.setattr(trace, "get_tracer", tracing.provider.get_tracer)
    return tracing


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Traces something of its own."""
    with trace.get_tracer("author").start_as_current_span("work"):
        pass
    yield "word"


@pytest.mark.parametrize("traces", [True, False])
async def test_the_handshake_is_the_parent(wire: WireKind, tracing: Tracing, traces: bool) -> None:
    """Of the turns of its session, when turns are traced; without, the author's spans are roots."""
    async with (
        serving(agent, wire, traces=traces) as server,
        server.connect(additional_headers={"traceparent": TRACEPARENT}) as client,
    ):
        await ask(client)
        await client.until("turn.ended")
        if traces:
            await until(lambda: tracing.spans("turn"))
    assert tracing.tree() == ({"turn", "turn/work"} if traces else {"work"})
    if traces:
        assert parent_of(tracing.one("turn")) == (TRACE_ID, PARENT_ID)


async def test_a_request_is_the_parent_of_its_turn(wire: WireKind, tracing: Tracing) -> None:
    """Over HTTP as on a socket."""
    async with (
        serving(agent, wire, traces=True) as server,
        http(server) as client,
        client.stream("/v1/turns", {"text": "hello"}, {"traceparent": TRACEPARENT}) as stream,
    ):
        await stream.until("turn.ended")
        await until(lambda: tracing.spans("turn"))
    assert tracing.tree() == {"turn", "turn/work"}
    assert parent_of(tracing.one("turn")) == (TRACE_ID, PARENT_ID)


async def test_an_interrupt_over_http_is_counted_like_any(wire: WireKind) -> None:
    """With its latency, though another connection drives the session."""
    async with (
        serving(counting, wire, metrics=True) as server,
        http(server) as client,
        client.stream("/v1/turns", {"text": "hello"}) as stream,
    ):
        opened = await stream.until("session.opened")
        turn = (await stream.until("text.delta"))["turn_id"]
        path, token = f"/v1/sessions/{opened['session_id']}/interrupt", opened["token"]
        await client.post(path, {"id": "x", "turn_id": turn}, {"Bargein-Session-Token": token})
        await stream.end()
        body = (await server.request("/metrics"))[2]
    assert b'bargein_interrupts_total{outcome="interrupted"} 1.0' in body
    assert b"bargein_interrupt_fence_seconds_count 1.0" in body
    assert b'bargein_connections_closed_total{code="closed"} 1.0' in body
