"""OpenTelemetry that exports into memory, and a server that traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bargein_server import Agent, Output, Settings, Turn
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.telemetry import Telemetry
from bargein_server.telemetry.traces import Traces
from memory_client import Line
from waiting import until

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
"""The example of the W3C's recommendation."""


class Tracing:
    """Exporter in memory with the tracer provider of a test.

    Attributes:
        provider: The SDK.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return ended spans by the start of their name, in order of their ends."""
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def one(self, name: str) -> ReadableSpan:
        """Return the one span with this beginning."""
        [span] = self.spans(name)
        return span

    def tree(self) -> set[str]:
        """Return each ended span as its path of names, as far as those ended."""
        by_id = {span.context.span_id: span for span in self.spans() if span.context is not None}
        return {"/".join(reversed(list(_path(span, by_id)))) for span in by_id.values()}

    def clear(self) -> None:
        """Forget those that have ended."""
        self._exporter.clear()


def _path(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> Iterator[str]:
    yield span.name
    parent = span.parent
    while parent is not None and parent.span_id in by_id:
        above = by_id[parent.span_id]
        yield above.name
        parent = above.parent


def parent_of(span: ReadableSpan) -> tuple[str, str] | None:
    """Return the trace id and the span id of a span's parent, in hexadecimal."""
    if span.parent is None:
        return None
    return f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}"


def traced(tracing: Tracing, agent: Agent, **settings: Any) -> Line:
    """Return a client of a server that traces."""
    limits = Settings(**{"drain_s": 0.0, **settings})
    telemetry = Telemetry([Traces(tracing.provider.get_tracer("bargein"))])
    return Line(SessionRegistry(agent, limits, telemetry))


async def turn_of(line: Line, tracing: Tracing, text: str = "hello") -> ReadableSpan:
    """Have a whole turn; return its span."""
    before = len(tracing.spans("turn"))
    line.ask(text)
    await until(lambda: len(tracing.spans("turn")) > before, "the turn's span")
    return tracing.spans("turn")[-1]


async def endless(turn: Turn) -> AsyncIterator[Output]:
    """Write until the cut."""
    while True:
        yield "word "
        await asyncio.sleep(0.001)
