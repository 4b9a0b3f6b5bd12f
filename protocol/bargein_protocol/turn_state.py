"""A turn's events, folded: what a snapshot carries and what two transcripts are compared by."""

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
    """One tool call.

    Args:
        name: The tool; empty when the call was not announced.
        arguments: The pieces of the arguments so far, joined: JSON text, maybe not whole yet.
        given: The whole arguments, once the tool runs.
        state: How far the call is. `background` after a `tool.result` that says `running`.
        text_at: Characters of the lane's text that came before the call.
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
    """The last progress that was reported."""

    value: Number
    total: Number | None = None
    unit: Label | None = None
    label: Label | None = None


class LaneState(Struct, kw_only=True, omit_defaults=True):
    """What one voice of a turn said and did.

    Args:
        status: The last status message.
        data: The application's events: the last value of each name.
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
    """A turn as it stands.

    Args:
        started: Whether `turn.started` came.
        held: Whether it is held.
        status: How it ended; None while it has not.
        retryable: Whether the same input may succeed when sent again; as in its `turn.ended`.
        last_seq: The last number that is folded in.
        last_output_seq: The last number before its `turn.ended`.
        cut: Whether thoughts, data, and the arguments and outputs of tools were left out for their size.
        lanes: By source; the empty source is the turn's own voice.
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
    cut: bool = False
    lanes: Annotated[dict[Source, LaneState], Meta(max_length=MAX_LANES)] = field(default_factory=dict)
