"""Replayed turn: events that fold to a given state."""

from __future__ import annotations

from collections.abc import Iterator

from bargein_protocol import (
    CallId,
    Data,
    Heard,
    InputId,
    LaneState,
    Status,
    StepEnded,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolResult,
    ToolRunning,
    ToolState,
    TurnEnded,
    TurnEvent,
    TurnId,
    TurnStarted,
    TurnState,
)


def events_of(state: TurnState) -> Iterator[TurnEvent]:
    """Yield events that fold to the state of a turn.

    They replace a turn whose first events the log has trimmed. Text and thoughts are whole, so the order of
    both is lost; calls stand where they were made.
    """
    if not state.started:
        return
    yield TurnStarted(turn_id=state.turn_id, input_id=state.input_id or InputId(""))
    for source, lane in state.lanes.items():
        yield from _lane_events(state.turn_id, source, lane)
    if state.status is not None:
        yield TurnEnded(
            turn_id=state.turn_id,
            status=state.status,
            reason=state.reason or "",
            last_seq=state.last_output_seq,
            heard=state.heard or Heard(),
            usage=state.usage,
            retryable=state.retryable,
        )


def _lane_events(turn_id: TurnId, source: str, lane: LaneState) -> Iterator[TurnEvent]:
    if lane.thoughts:
        yield Thought(turn_id=turn_id, source=source, text=lane.thoughts)
    written = 0
    for tool in sorted(lane.tools, key=lambda tool: tool.text_at):
        if tool.text_at > written:
            yield TextDelta(turn_id=turn_id, source=source, text=lane.text[written : tool.text_at])
            written = tool.text_at
        yield from _tool_events(turn_id, source, tool)
    if len(lane.text) > written:
        yield TextDelta(turn_id=turn_id, source=source, text=lane.text[written:])
    for index in range(lane.steps):
        yield StepEnded(turn_id=turn_id, source=source, index=index)
    for name, value in lane.data.items():
        yield Data(turn_id=turn_id, source=source, name=name, value=value)
    if lane.status:
        yield Status(turn_id=turn_id, source=source, message=lane.status)


def _tool_events(turn_id: TurnId, source: str, tool: ToolState) -> Iterator[TurnEvent]:
    call_id = CallId(tool.call_id)
    if tool.name:
        yield ToolCall(turn_id=turn_id, source=source, call_id=call_id, name=tool.name)
    if tool.arguments:
        yield ToolCallDelta(turn_id=turn_id, source=source, call_id=call_id, arguments=tool.arguments)
    given = tool.given
    if given is None or tool.state == "called":
        return
    if tool.state == "confirming":
        yield ToolConfirm(turn_id=turn_id, source=source, call_id=call_id, arguments=given)
        return
    yield ToolRunning(turn_id=turn_id, source=source, call_id=call_id, arguments=given)
    if tool.state != "running":
        yield ToolResult(
            turn_id=turn_id,
            source=source,
            call_id=call_id,
            output=tool.output,
            error=tool.error,
            status="running" if tool.state == "background" else tool.state,
            duration_ms=tool.duration_ms,
        )
