"""Display of a turn's events."""

from __future__ import annotations

import bargein_protocol as bp

from ..events import SessionEvent, TurnSnapshot
from .screen import CUT, Screen

CUT_SHORT = {
    "length": "cut off: the model reached its limit",
    "content_filter": "cut off by a content filter",
    "refusal": "the model declined",
}
"""Notices below answers that completed although the model ended them early, by their reasons."""


class TurnView:
    """Shows one turn.

    Args:
        screen: Output.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._shown = ""
        self._source = ""
        self._tools: dict[bp.CallId, str] = {}
        self._cut_shown = False

    def cut(self) -> None:
        """Mark where the user interrupted, before the server's answer."""
        if self._shown and not self._cut_shown:
            self._cut_shown = True
            self._screen.cut()
        self._screen.end_line()

    def show(self, event: SessionEvent) -> None:
        """Show an event; some kinds have no display."""
        if isinstance(event, bp.TextDelta):
            self._text(event.text, event.source)
        elif isinstance(event, bp.Thought):
            self._screen.write("thought", event.text)
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
        elif isinstance(event, bp.ToolCall):
            self._tools[event.call_id] = event.name
        elif isinstance(event, bp.ToolRunning):
            self._screen.status(f"running {self._name(event.call_id)}")
        elif isinstance(event, bp.ToolResult):
            what = event.error if event.status == "failed" and event.error else event.status
            self._screen.line("note", f"{self._name(event.call_id)}: {what}")

    def _text(self, text: str, source: str) -> None:
        if source != self._source:
            self._source = source
            self._screen.end_line()
            if source:
                self._screen.line("note", f"{source}:")
        self._screen.status(None)
        self._screen.write("text", text)
        if not source:
            self._shown += text

    def _snapshot(self, state: bp.TurnState) -> None:
        lane = state.lanes.get("")
        whole = lane.text if lane is not None else ""
        if not whole.startswith(self._shown):
            self._screen.end_line()
            self._screen.line("note", "the connection was lost; the answer from its beginning:")
            self._shown = ""
        self._text(whole[len(self._shown) :], "")

    def _end(self, ended: bp.TurnEnded) -> None:
        self._screen.status(None)
        if ended.status == "interrupted":
            self.cut()
            how = "" if ended.reason == "client" else f" \u00b7 {ended.reason}"
            self._screen.line("mark", f"{CUT} cut{how}")
        elif ended.status == "failed":
            self._screen.end_line()
            again = ", you may try again" if ended.retryable else ""
            self._screen.line("mark", f"{CUT} failed \u00b7 {ended.reason}{again}")
        else:
            self._screen.end_line()
            if ended.reason in CUT_SHORT:
                self._screen.line("mark", f"{CUT} {CUT_SHORT[ended.reason]}")

    def _name(self, call_id: bp.CallId) -> str:
        return self._tools.get(call_id) or "a tool"


def _progress(event: bp.Progress) -> str:
    words = [event.label or "", f"{event.value:g}"]
    if event.total is not None:
        words.append(f"of {event.total:g}")
    words.append(event.unit or "")
    return " ".join(filter(None, words))
