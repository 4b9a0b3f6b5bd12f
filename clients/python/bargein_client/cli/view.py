"""Display of a turn's events."""

from __future__ import annotations

from typing import Any

import msgspec

import bargein_protocol as bp

from ..events import SessionEvent, TurnSnapshot
from .lane_order import LaneOrder, Piece
from .screen import CUT, Screen
from .terminal import Kind, escape_json
from .words import CUT_SHORT, failed, interrupted, tool_result

MAX_ARGUMENT_CHARS = 60
"""Length of the arguments in the line of a tool call; a question shows them all."""

ASKING = "waiting for your answer"
"""Status while a tool waits for the user."""


class TurnView:
    """Shows one turn.

    Args:
        screen: Output.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._order = LaneOrder()
        self._shown = ""
        self._source = ""
        self._tools: dict[bp.CallId, str] = {}
        self._arguments: dict[bp.CallId, str] = {}
        self._unfinished: dict[bp.CallId, str] = {}  # status of each call without a result
        self._cut_shown = False
        self._cut_here = False

    def cut(self) -> None:
        """Mark where the user interrupted, before the server's answer."""
        self._cut_here = True
        self._mark_cut()

    def _mark_cut(self) -> None:
        self._order.flush()
        if self._shown and not self._cut_shown:
            self._cut_shown = True
            self._screen.cut()
        self._screen.end_line()
        self._end_tools()

    def _end_tools(self) -> None:
        """Show the calls without a result before their status disappears."""
        for call_id in self._unfinished:
            self._screen.line("note", f"{self._call(call_id)} {CUT}")
        self._unfinished.clear()

    def show(self, event: SessionEvent) -> None:
        """Show an event; some kinds have no display."""
        if isinstance(event, bp.TextDelta):
            self._text(event.text, event.source)
        elif isinstance(event, bp.Thought):
            self._add(event.source, "thought", event.text)
        elif isinstance(event, TurnSnapshot):
            self._snapshot(event.state)
        elif isinstance(event, bp.TurnEnded):
            self._end(event)
        else:
            self._news(event)

    def _news(self, event: SessionEvent) -> None:
        if isinstance(event, bp.AudioDelta) and event.text:
            self._text(event.text, event.source)
        elif isinstance(event, bp.Status):
            self._screen.status(event.message)
        elif isinstance(event, bp.InputQueued):
            self._screen.status(f"waiting behind {event.position} other{'s' * (event.position != 1)}")
        elif isinstance(event, bp.TurnHeld):
            self._screen.status("held")
        elif isinstance(event, bp.TurnResumed):
            self._screen.status(None)
        elif isinstance(event, bp.Progress):
            self._screen.status(_progress(event))
        else:
            self._tool(event)

    def _tool(self, event: SessionEvent) -> None:
        if isinstance(event, bp.ToolCall):
            self._tools[event.call_id] = event.name
            self._unfinished[event.call_id] = ""
            self._order.pause(event.source)  # a model calls tools behind its text
        elif isinstance(event, bp.ToolConfirm):
            self._order.flush()  # the question that follows stands below all output
            self._screen.end_line()
            self._arguments[event.call_id] = _shortened(event.arguments)
            self._set_status(event.call_id, ASKING)
        elif isinstance(event, bp.ToolRunning):
            self._arguments[event.call_id] = _shortened(event.arguments)
            self._set_status(event.call_id, f"running {self._name(event.call_id)}")
        elif isinstance(event, bp.ToolResult):
            self._set_status(event.call_id, None)
            line = f"{self._call(event.call_id)}: {tool_result(event)}"
            self._order.add(Piece(event.source, lambda: self._screen.line("note", line), None))

    def _set_status(self, call_id: bp.CallId, status: str | None) -> None:
        """Set the status of a call, None at its result; show the chief one."""
        if status is None:
            self._unfinished.pop(call_id, None)
        else:
            self._unfinished[call_id] = status
        calls = [of_call for of_call in self._unfinished.values() if of_call]
        self._screen.status(ASKING if ASKING in calls else calls[-1] if calls else "waiting", passing=True)

    def _text(self, text: str, source: str) -> None:
        self._add(source, "text", text)

    def _add(self, source: str, kind: Kind, text: str) -> None:
        self._order.add(Piece(source, lambda: self._write(source, kind, text), text))

    def _write(self, source: str, kind: Kind, text: str) -> None:
        if source != self._source:
            self._source = source
            self._screen.end_line()
            self._screen.line("note", f"{source or 'answer'}:")
        self._screen.status(None)
        self._screen.write(kind, text)
        if kind == "text" and not source:
            self._shown += text

    def _snapshot(self, state: bp.TurnState) -> None:
        self._order.flush()
        lane = state.lanes.get("")
        whole = lane.text if lane is not None else ""
        if not whole.startswith(self._shown):
            self._screen.end_line()
            self._screen.line("note", "the connection was lost; the answer from its beginning:")
            self._shown = ""
        self._text(whole[len(self._shown) :], "")

    def _end(self, ended: bp.TurnEnded) -> None:
        self._order.flush()
        self._screen.status(None)
        if ended.status == "interrupted":
            self._mark_cut()
            if not (self._cut_here and ended.reason in ("superseded", "rewound")):  # the user's own doing
                self._screen.line("mark", f"{CUT} {interrupted(ended.reason)}")
        elif ended.status == "failed":
            self._screen.end_line()
            self._end_tools()
            self._screen.line("mark", f"{CUT} {failed(ended)}")
        else:
            self._screen.end_line()
            if ended.reason in CUT_SHORT:
                self._screen.line("mark", f"{CUT} {CUT_SHORT[ended.reason]}")

    def _name(self, call_id: bp.CallId) -> str:
        return self._tools.get(call_id) or "a tool"

    def _call(self, call_id: bp.CallId) -> str:
        return " ".join(filter(None, (self._name(call_id), self._arguments.get(call_id))))


def _shortened(arguments: dict[str, Any]) -> str:
    """Return arguments as one short line."""
    if not arguments:
        return ""
    text = escape_json(msgspec.json.encode(arguments).decode())
    return text if len(text) <= MAX_ARGUMENT_CHARS else f"{text[: MAX_ARGUMENT_CHARS - 1]}\u2026"


def _progress(event: bp.Progress) -> str:
    words = [event.label or "", f"{event.value:g}"]
    if event.total is not None:
        words.append(f"of {event.total:g}")
    words.append(event.unit or "")
    return " ".join(filter(None, words))
