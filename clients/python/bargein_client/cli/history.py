"""Display of the turns that a conversation had before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import bargein_protocol as bp

from ..conversations import ConversationInput
from ..events import SessionEvent
from .screen import Screen
from .terminal import Kind
from .view import TurnView

_STATUSES: dict[bp.ToolPhase, bp.ToolStatus] = {
    "background": "running",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""Status of the result of a call, by its phase; the other phases have none."""


def show_history(
    screen: Screen, turns: Sequence[bp.TurnState], inputs: Mapping[str, ConversationInput], mine: Kind
) -> None:
    """Show turns as if they ran now.

    Args:
        screen: Output.
        turns: Turns that have ended, oldest first.
        inputs: The user's inputs, by their ids.
        mine: Kind of the lines with the user's own words.
    """
    for turn in turns:
        screen.gap()
        show_input(screen, inputs.get(turn.input_id or ""), mine)
        view = TurnView(screen)
        for event in events_of(turn):
            view.show(event)
        screen.status(None)


def show_input(screen: Screen, given: ConversationInput | None, mine: Kind) -> None:
    """Show an input of the user, with the names of its files."""
    if given is not None:
        files = "".join(f" [{name}]" for name in given.files)
        screen.line(mine, f"> {given.text}{files}")


def events_of(turn: bp.TurnState) -> Iterator[SessionEvent]:
    """Yield events that display a turn that has ended.

    Of an interrupted turn the main lane has the heard text.
    """
    heard = turn.heard or bp.Heard()
    for source, lane in turn.lanes.items():
        text = heard.text if turn.status == "interrupted" and not source and heard.text else lane.text
        at = 0
        if lane.thoughts:
            yield bp.Thought(turn_id=turn.turn_id, source=source, text=lane.thoughts)
        for tool in lane.tools:
            if text[at : tool.text_at]:
                yield bp.TextDelta(turn_id=turn.turn_id, source=source, text=text[at : tool.text_at])
                at = tool.text_at
            yield from _events_of_call(turn.turn_id, source, tool)
        if text[at:]:
            yield bp.TextDelta(turn_id=turn.turn_id, source=source, text=text[at:])
    yield bp.TurnEnded(
        turn_id=turn.turn_id,
        status=turn.status or "completed",
        reason=turn.reason or "completed",
        last_seq=turn.last_output_seq,
        heard=heard,
    )


def _events_of_call(turn_id: bp.TurnId, source: str, tool: bp.ToolState) -> Iterator[SessionEvent]:
    yield bp.ToolCall(turn_id=turn_id, source=source, call_id=tool.call_id, name=tool.name)
    if tool.given is not None:
        yield bp.ToolRunning(
            turn_id=turn_id, source=source, call_id=tool.call_id, arguments=tool.given, runs_in="server"
        )
    status = _STATUSES.get(tool.state)
    if status is not None:
        yield bp.ToolResult(
            turn_id=turn_id,
            source=source,
            call_id=tool.call_id,
            output=tool.output,
            error=tool.error,
            status=status,
            duration_ms=tool.duration_ms,
        )
