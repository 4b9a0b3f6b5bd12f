"""Traces with OpenTelemetry: spans of turns, model calls and tools.

The span of a turn begins when its input is read and ends with the agent's task. It is the current span
of the agent, so spans of the author are its children. Its parent is the `traceparent` in the metadata of
the input (W3C Trace Context), or else in the headers of the handshake. Attributes follow the GenAI
semantic conventions where these define a name. A token adds neither a span nor an event, and no span
holds the text of users or agents.

This module imports opentelemetry, which the extra `otel` installs, so other modules import it late.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import Context
from time import time_ns

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..core import observer
from ..core.observer import Attribute
from .recorder import SessionRecord, Sink, TurnTiming

_KINDS = {"client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_PROPAGATOR = TraceContextTextMapPropagator()


class Traces(Sink):
    """Sink that makes a span of each turn.

    Args:
        tracer: The tracer; None for one of the process's tracer provider.
    """

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        self._tracer = tracer if tracer is not None else trace.get_tracer("bargein")

    def turn_asked(self, session: SessionRecord, turn: TurnTiming) -> None:
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": session.id,
            "bargein.turn.id": turn.turn.id,
            "bargein.input.id": turn.turn.input.id,
        }
        parent = _parent(turn.turn.input.metadata, session.trace)
        span = self._tracer.start_span("turn", parent, SpanKind.SERVER, attributes)
        turn.span = span
        if span.get_span_context().is_valid:
            turn.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def speech(self, session: SessionRecord, decision: str, spoken_s: float, held_s: float | None) -> None:
        if held_s is not None:
            end = time_ns()
            held = end - int(held_s * 1e9)
            span = self._tracer.start_span(
                "speech.verdict",
                _parent(None, session.trace),
                attributes={"gen_ai.conversation.id": session.id, "bargein.speech.decision": decision},
                start_time=held - int(spoken_s * 1e9),
            )
            span.add_event("held", timestamp=held)
            span.end(end)

    def recognised(self, kind: str, result: str, seconds: float) -> None:
        end = time_ns()
        span = self._tracer.start_span(
            "speech.recognition",
            otel_context.Context(),
            attributes={"bargein.recognition.kind": kind, "bargein.recognition.result": result},
            start_time=end - int(seconds * 1e9),
        )
        span.end(end)

    def turn_started(self, session: SessionRecord, turn: TurnTiming, context: Context) -> None:
        turn.span.add_event("started")
        context.run(otel_context.attach, trace.set_span_in_context(turn.span, otel_context.Context()))

    def turn_output(self, session: SessionRecord, turn: TurnTiming) -> None:
        assert turn.output_at is not None
        turn.span.set_attribute("bargein.time_to_first_output", turn.output_at - turn.asked_at)

    def turn_ended(self, session: SessionRecord, turn: TurnTiming) -> None:
        event, span = turn.event, turn.span
        assert event is not None
        span.set_attribute("bargein.turn.status", event.status)
        span.set_attribute("bargein.turn.reason", event.reason)
        if event.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", event.usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", event.usage.output_tokens)
        if event.status == "interrupted":
            span.add_event("interrupt", {"bargein.reason": event.reason})
        elif event.status == "failed":
            span.set_attribute("error.type", event.reason)
            span.set_status(Status(StatusCode.ERROR, event.reason))

    def turn_over(self, session: SessionRecord, turn: TurnTiming) -> None:
        if turn.abandoned:
            turn.span.add_event("abandoned")
        turn.span.end()

    def span(
        self, session: SessionRecord, name: str, kind: str, attributes: Mapping[str, Attribute]
    ) -> observer.Span:
        attributes = {"gen_ai.conversation.id": session.id, **attributes}
        return _Work(self._tracer.start_span(name, None, _KINDS[kind], attributes))


class _Work(observer.Span):
    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def current(self) -> AbstractContextManager[None]:
        return trace.use_span(  # type: ignore[return-value]
            self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, kind))

    def end(self) -> None:
        self._span.end()


def _parent(
    metadata: Mapping[str, object] | None, trace_of_session: Mapping[str, str]
) -> otel_context.Context:
    """Return the client's trace context; empty if missing or malformed."""
    given = metadata if metadata is not None and "traceparent" in metadata else trace_of_session
    carrier = {
        name: value for name in ("traceparent", "tracestate") if isinstance(value := given.get(name), str)
    }
    return _PROPAGATOR.extract(carrier, otel_context.Context())
