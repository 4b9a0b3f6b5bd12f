"""State of a turn, as in snapshots and comparisons of transcripts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from .types import (
    MAX_LANES,
    MAX_SPANS,
    MAX_TOOLS,
    NO_SEQ,
    AnyTurnIdField,
    CallIdField,
    Count,
    Heard,
    InputIdField,
    JsonObject,
    Label,
    Message,
    Milliseconds,
    Number,
    Reason,
    SeqField,
    Source,
    Text,
    TurnStatus,
    Usage,
)

ToolPhase = Literal["called", "confirming", "running", "background", "completed", "failed", "cancelled"]


class ToolState(Struct, kw_only=True, omit_defaults=True):
    """State of a tool call.

    Args:
        name: The tool; empty when the call was not announced.
        arguments: The arguments so far: JSON text that may be incomplete.
        given: The complete arguments, once the tool runs.
        state: Progress of the call; `background` after a `tool.result` with status `running`.
        text_at: Characters of the lane's text before the call.
    """

    call_id: CallIdField
    name: Label = ""
    arguments: Text = ""
    given: JsonObject | None = None
    state: ToolPhase = "called"
    output: Any = None
    error: Message | None = None
    duration_ms: Milliseconds = 0
    text_at: Count = 0


class AudioSpan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stretch of speech, without its samples."""

    start_ms: Milliseconds
    duration_ms: Milliseconds
    text: Text | None = None


class ProgressState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Last reported progress."""

    value: Number
    total: Number | None = None
    unit: Label | None = None
    label: Label | None = None


class LaneState(Struct, kw_only=True, omit_defaults=True):
    """State of one lane of a turn: the output of one agent.

    Args:
        status: The last status message.
        data: The last value of each name in the application's events.
    """

    text: Text = ""
    thoughts: Text = ""
    status: Message | None = None
    tools: Annotated[list[ToolState], Meta(max_length=MAX_TOOLS)] = field(default_factory=list)
    audio: Annotated[list[AudioSpan], Meta(max_length=MAX_SPANS)] = field(default_factory=list)
    progress: ProgressState | None = None
    steps: Count = 0
    data: JsonObject = field(default_factory=dict)


class TurnState(Struct, kw_only=True, omit_defaults=True):
    """State of a turn.

    Args:
        started: Whether `turn.started` was received.
        held: Whether the turn is held.
        status: Status of its end; None before the end.
        retryable: As in its `turn.ended`.
        last_seq: The last number in the state.
        last_output_seq: The last number before its `turn.ended`.
        dropped: Whether a rewind dropped the turn; then it has no lanes.
        cut: Whether thoughts, data, and arguments and outputs of tools were left out for their size.
        lanes: Lanes by source; the empty source is the main lane.
    """

    turn_id: AnyTurnIdField
    input_id: InputIdField | None = None
    started: bool = False
    held: bool = False
    status: TurnStatus | None = None
    reason: Reason | None = None
    retryable: bool = False
    last_seq: SeqField = NO_SEQ
    last_output_seq: SeqField = NO_SEQ
    heard: Heard | None = None
    usage: Usage | None = None
    dropped: bool = False
    cut: bool = False
    lanes: Annotated[dict[Source, LaneState], Meta(max_length=MAX_LANES)] = field(default_factory=dict)
