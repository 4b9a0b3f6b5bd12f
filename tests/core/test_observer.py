"""A piece of work in a server without traces: it can be used like any, and does nothing."""

from __future__ import annotations

from bargein_server.core.observer import NO_SPAN


def test_a_span_without_traces_takes_everything() -> None:
    """So that agents need not ask whether they are traced."""
    with NO_SPAN.current():
        NO_SPAN.set({"gen_ai.request.model": "m"})
    NO_SPAN.fail("timeout")
    NO_SPAN.end()
    assert not hasattr(NO_SPAN, "__dict__"), "it keeps nothing"
