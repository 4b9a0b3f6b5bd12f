"""Log lines for the ends of sessions and turns, as text or as JSON.

A line holds ids and numbers, and never the text of users or agents. A client or an agent may have chosen
its `reason`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from .recorder import SessionRecord, Sink, TurnTiming

Value = str | int | float | bool | None

_sessions = logging.getLogger("bargein.session")
_turns = logging.getLogger("bargein.turn")


class Line:
    """A log message with fields, such as `turn.ended turn_id=t_1`.

    Args:
        name: The name of the event.
        fields: The fields; those that are None are left out.
    """

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: Mapping[str, Value]) -> None:
        self.name = name
        self.fields = {key: value for key, value in fields.items() if value is not None}

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={_word(value)}" for key, value in self.fields.items())])


def _word(value: Value) -> str:
    """Return a value as one word, quoted unless it is alphanumeric."""
    if isinstance(value, str) and not (value.isascii() and value.replace("_", "").isalnum()):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


class JsonFormatter(logging.Formatter):
    """Formatter with one JSON object per line.

    Its fields are `time` (UTC), `level`, `logger`, `message`, and those of a `Line`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        shown: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.msg, Line):
            shown |= {"message": record.msg.name, **record.msg.fields}
        else:
            shown["message"] = record.getMessage()
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        return json.dumps(shown)


class Logs(Sink):
    """Sink that logs ends, with `bargein.session` and `bargein.turn` at INFO."""

    def session_closed(self, session: SessionRecord, reason: str, now: float) -> None:
        if _sessions.isEnabledFor(logging.INFO):
            fields: dict[str, Value] = {
                "session_id": session.id,
                "principal": session.principal,
                "reason": reason,
                "duration_s": _seconds(session.opened_at, now),
                "connections": session.connections,
                "turns": session.turns,
                "interrupts": session.interrupts,
            }
            _sessions.info(Line("session.ended", fields))

    def turn_over(self, session: SessionRecord, turn: TurnTiming) -> None:
        if _turns.isEnabledFor(logging.INFO):
            _turns.info(Line("turn.ended", _fields(session, turn)))


def _fields(session: SessionRecord, record: TurnTiming) -> dict[str, Value]:
    event, turn = record.event, record.turn
    assert event is not None
    usage = event.usage
    return {
        "turn_id": turn.id,
        "session_id": session.id,
        "input_id": turn.input.id,
        "principal": session.principal,
        "trace_id": record.trace_id or None,
        "status": event.status,
        "reason": event.reason,
        "duration_s": _seconds(record.asked_at, record.ended_at),
        "waited_s": _seconds(record.asked_at, record.started_at),
        "first_output_s": _seconds(record.asked_at, record.output_at),
        "cleanup_s": _seconds(record.ended_at, record.over_at) if event.status == "interrupted" else None,
        "abandoned": record.abandoned or None,
        "chars": turn.fold.main_lane.text.length,
        "heard_chars": len(event.heard.text),
        "tools": sum(len(lane.tools) for lane in turn.fold.lanes.values()),
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
    }


def _seconds(start: float | None, end: float | None) -> float | None:
    return round(end - start, 6) if start is not None and end is not None else None
