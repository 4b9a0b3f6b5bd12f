"""A line for each turn and each session: what is in it, in both forms, and what never is."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_protocol import (
    CallId,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    SessionClose,
    ToolCall,
    ToolResult,
)
from bargein_server import Agent, Output, Settings, Turn
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.telemetry import Telemetry
from bargein_server.telemetry.logs import JsonFormatter, Line, Logs
from bargein_server.telemetry.traces import Traces
from memory_client import Line as Client
from tracing import TRACE_ID, TRACEPARENT, Tracing
from waiting import until


async def secretive(turn: Turn) -> AsyncIterator[Output]:
    """Says what nobody may read in a log."""
    turn.add_usage(7, 2)
    yield "secret answer"
    yield turn.thought("secret thought")
    yield ToolCall(call_id=CallId("c"), name="tool")
    yield ToolResult(call_id=CallId("c"), output="secret result", status="completed")


def logged(agent: Agent, *sinks: Any, **settings: Any) -> Client:
    """Return a client of a server that logs."""
    limits = Settings(**{"drain_s": 0.0, **settings})
    return Client(SessionRegistry(agent, limits, Telemetry([*sinks, Logs()])))


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    """Return the lines of this name as they are in JSON."""
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [line for line in lines if line["message"] == name]


async def test_a_turn_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With ids, outcome, durations and counts; nothing of what was said."""
    caplog.set_level(logging.INFO, "bargein")
    client = logged(secretive)
    client.send(InputText(id=InputId("i1"), text="secret question", metadata={"secret": "secret"}))
    await until(lambda: lines(caplog, "turn.ended"))
    [line] = lines(caplog, "turn.ended")
    for name in ("duration_s", "waited_s", "first_output_s"):
        assert 0 <= line.pop(name) < 5
    assert line.pop("time").endswith("+00:00")
    assert line.pop("session_id").startswith("s_")
    assert line == {
        "level": "info",
        "logger": "bargein.turn",
        "message": "turn.ended",
        "turn_id": client.ends()[0].turn_id,
        "input_id": "i1",
        "status": "completed",
        "reason": "completed",
        "chars": len("secret answer"),
        "heard_chars": len("secret answer"),
        "tools": 1,
        "input_tokens": 7,
        "output_tokens": 2,
    }
    assert "secret" not in caplog.text


async def test_an_interrupted_turn_tells_its_cleanup(caplog: pytest.LogCaptureFixture) -> None:
    """And the reason as the client gave it."""
    caplog.set_level(logging.INFO, "bargein")

    async def held(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        while True:
            yield None  # type: ignore[misc]

    client = logged(held)
    turn = client.ask()
    await client.until("text.delta")
    client.send(Interrupt(id=InterruptId("x"), turn_id=turn, reason="barge_in"))
    await until(lambda: lines(caplog, "turn.ended"))
    [line] = lines(caplog, "turn.ended")
    assert (line["status"], line["reason"]) == ("interrupted", "barge_in")
    assert line["cleanup_s"] >= 0


async def test_a_session_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """When it is over, with what it had."""
    caplog.set_level(logging.INFO, "bargein")
    client = logged(secretive)
    client.ask()
    await client.until("turn.ended")
    client.send(SessionClose())
    [line] = lines(caplog, "session.ended")
    assert 0 < line.pop("duration_s") < 5
    assert line.pop("session_id").startswith("s_")
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "bargein.session",
        "message": "session.ended",
        "reason": "closed",
        "connections": 1,
        "turns": 1,
        "interrupts": 0,
    }


async def test_a_traced_turn_tells_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    """So that a line leads to the trace, and back."""
    caplog.set_level(logging.INFO, "bargein")
    client = logged(secretive, Traces(Tracing().provider.get_tracer("bargein")))
    client.send(InputText(id=InputId("i1"), text="hello", metadata={"traceparent": TRACEPARENT}))
    await until(lambda: lines(caplog, "turn.ended"))
    assert lines(caplog, "turn.ended")[0]["trace_id"] == TRACE_ID


async def test_a_level_above_info_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """The lines are of the level INFO."""
    caplog.set_level(logging.WARNING, "bargein")
    client = logged(secretive)
    client.ask()
    await client.until("turn.ended")
    client.send(SessionClose())
    assert caplog.records == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("t_1", "t_1"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ("line\nturn.ended", '"line\\nturn.ended"'),
        ("", '""'),
        ("ü", '"\\u00fc"'),
        (1.5, "1.5"),
        (True, "true"),
    ],
)
def test_a_line_as_text_cannot_be_taken_for_two(value: Any, text: str) -> None:
    """Whatever a peer calls itself, a value is one word on one line."""
    assert str(Line("turn.ended", {"x": value, "none": None})) == f"turn.ended x={text}"


def test_any_record_is_a_line_of_json() -> None:
    """Those of libraries too, with their exceptions."""
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord(
            "uvicorn.error", logging.ERROR, __file__, 1, "%s of\n%d", ("one", 2), sys.exc_info()
        )
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"]) == ("error", "uvicorn.error", "one of\n2")
    assert line["exception"].endswith("ValueError: why")
