"""Events that come down, from the server to a client.

Numbered events carry `seq`, contiguous within an epoch from 1, and are replayed on resume. Those of
a turn carry `turn_id`. An agent builds them without either; the server fills both in as it hands
the frame over, so an unsent event has `seq` 0 and an empty `turn_id`.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from .event import Event, Numbered, Output, TurnEvent
from .turn_state import TurnState
from .types import (
    NO_TURN,
    AnyId,
    AnyTurnIdField,
    Audio,
    CallIdField,
    Count,
    EpochField,
    Heard,
    InputIdField,
    InterruptIdField,
    JsonObject,
    Label,
    Limits,
    Message,
    Milliseconds,
    Name,
    Number,
    Outcome,
    Reason,
    RefIdField,
    RunsIn,
    SeqField,
    SessionIdField,
    Text,
    TokenField,
    ToolStatus,
    TurnIdField,
    TurnStatus,
    Usage,
)

# --- the session -------------------------------------------------------------------------------


class SessionOpened(Event, frozen=True, kw_only=True, tag="session.opened"):
    """Answers the first frame.

    Args:
        session_id: The session's public name.
        token: The secret that resumes it; replaces every earlier one.
        epoch: The epoch of the numbers that follow.
        resumed: Whether this is the session that was asked for.
        reason: Why a resume was refused; then this is a fresh session.
        turn_id: The turn that runs, if one does.
        heartbeat_ms: At most this long passes without a frame.
        limits: What the server accepts.
    """

    session_id: SessionIdField
    token: TokenField
    epoch: EpochField
    resumed: bool
    reason: Reason | None = None
    turn_id: TurnIdField | None = None
    heartbeat_ms: Milliseconds
    limits: Limits


class ReplayDone(Event, frozen=True, kw_only=True, tag="replay.done"):
    """The end of a replay; live events follow. `through` is the last number replayed."""

    through: SeqField


class Snapshot(Event, frozen=True, kw_only=True, tag="snapshot"):
    """The turns as of number `through`, in place of a replay that the log no longer holds."""

    through: SeqField
    turns: Annotated[list[TurnState], Meta(max_length=4096)]


class Heartbeat(Event, frozen=True, kw_only=True, tag="heartbeat"):
    """The server is alive.

    Args:
        message: What the agent is doing, when it said so.
        position: How many must go first before the turn runs, while it waits for a place on the server.
    """

    message: Message | None = None
    position: Count | None = None


class Pong(Event, frozen=True, kw_only=True, tag="pong"):
    """Answers `ping`."""

    id: AnyId


class GoAway(Event, frozen=True, kw_only=True, tag="goaway"):
    """The server will end the connection; connect again after `reconnect_after_ms`."""

    reason: Reason
    reconnect_after_ms: Milliseconds


class ErrorEvent(Event, frozen=True, kw_only=True, tag="error"):
    """Something that the client sent could not be done; the session lives on.

    Args:
        code: The name of a row in the table of codes.
        message: For people.
        ref_id: The `id` or `call_id` of the event that caused it, where it could be read.
        retryable: Whether the same request may succeed later.
    """

    code: Name
    message: Message
    ref_id: RefIdField | None = None
    retryable: bool = False


# --- inputs and turns --------------------------------------------------------------------------


class InputAccepted(TurnEvent, frozen=True, kw_only=True, tag="input.accepted"):
    """The input has a turn, which will get exactly one `turn.ended`.

    Args:
        input_id: The input's id.
        duplicate: The answer to a resend; such a copy carries no `seq`.
    """

    input_id: InputIdField
    duplicate: bool = False


class InputQueued(TurnEvent, frozen=True, kw_only=True, tag="input.queued"):
    """The input has a turn that waits for `position` others to end first."""

    input_id: InputIdField
    position: Count
    duplicate: bool = False


class InputRejected(Event, frozen=True, kw_only=True, tag="input.rejected"):
    """The input gets no turn.

    Args:
        code: The name of a row in the table of codes.
        retry_after_ms: When it may be tried again, with a new id.
    """

    input_id: InputIdField
    code: Name
    retry_after_ms: Milliseconds | None = None
    duplicate: bool = False


class TurnStarted(TurnEvent, frozen=True, kw_only=True, tag="turn.started"):
    """The agent runs."""

    input_id: InputIdField


class TurnHeld(TurnEvent, frozen=True, kw_only=True, tag="turn.held"):
    """The turn's output has stopped until `turn.resumed` or `turn.ended`."""


class TurnResumed(TurnEvent, frozen=True, kw_only=True, tag="turn.resumed"):
    """The turn's output goes on."""


class TurnEnded(TurnEvent, frozen=True, kw_only=True, tag="turn.ended"):
    """The one end of a turn.

    Args:
        status: `completed`, `interrupted` or `failed`.
        reason: Why; see the protocol's table of reasons.
        last_seq: The turn's last number before this one; 0 when it had none.
        heard: What is known at this time of what the user received.
        usage: Tokens used by the turn's model calls, where the agent told.
        retryable: Whether the same input may succeed when sent again with a new id.
    """

    status: TurnStatus
    reason: Reason
    last_seq: SeqField
    heard: Heard
    usage: Usage | None = None
    retryable: bool = False


class InterruptResult(Event, frozen=True, kw_only=True, tag="interrupt.result"):
    """The one answer to an `interrupt`.

    Args:
        outcome: `interrupted`: this interrupt ended the turn. `already_ended`: it had ended before.
            `deferred`: it will take effect when an uninterruptible section is over, or when the
            input that it names arrives. `unknown_turn`: there is nothing to end.
        duplicate: The answer to a resend.
        heard: For `already_ended`: what is known now of what the user received of the turn.
    """

    interrupt_id: InterruptIdField
    turn_id: TurnIdField | None = None
    outcome: Outcome
    duplicate: bool = False
    heard: Heard | None = None


# --- what agents yield -------------------------------------------------------------------------


class Status(Output, frozen=True, kw_only=True, tag="status"):
    """What the agent is doing, in a few words."""

    message: Message
    icon: Label | None = None


class Thought(Output, frozen=True, kw_only=True, tag="thought"):
    """A piece of the agent's thinking."""

    text: Text


class TextDelta(Output, frozen=True, kw_only=True, tag="text.delta"):
    """A piece of the answer."""

    text: Text


class AudioDelta(Output, frozen=True, kw_only=True, tag="audio.delta"):
    """A piece of speech.

    Args:
        audio: PCM16 little-endian mono at the session's rate.
        start_ms: Where it begins in the turn's audio.
        duration_ms: How long it plays.
        text: The words that it speaks.
    """

    audio: Audio
    start_ms: Milliseconds
    duration_ms: Milliseconds
    text: Text | None = None


class ToolCall(Output, frozen=True, kw_only=True, tag="tool.call"):
    """The model has begun to call a tool; its arguments follow."""

    call_id: CallIdField
    name: Name


class ToolCallDelta(Output, frozen=True, kw_only=True, tag="tool.call.delta"):
    """A piece of the call's arguments, as JSON text."""

    call_id: CallIdField
    arguments: Text


class ToolConfirm(Output, frozen=True, kw_only=True, tag="tool.confirm"):
    """The call waits for a `tool.decision`."""

    call_id: CallIdField
    arguments: JsonObject


class ToolRunning(Output, frozen=True, kw_only=True, tag="tool.running"):
    """The tool has begun.

    Args:
        arguments: The whole arguments.
        runs_in: `client`: the client runs it and answers with `tool.output`.
    """

    call_id: CallIdField
    arguments: JsonObject
    runs_in: RunsIn = "server"


class ToolResult(Output, frozen=True, kw_only=True, tag="tool.result"):
    """What came of the call.

    Args:
        output: Any JSON value.
        error: What went wrong, for the model and the user.
        status: `running` when the tool goes on in the background after an interrupt.
    """

    call_id: CallIdField
    output: Any = None
    error: Message | None = None
    status: ToolStatus
    duration_ms: Milliseconds = 0


class StepEnded(Output, frozen=True, kw_only=True, tag="step.ended"):
    """One step of the agent, such as a model call, is over."""

    index: Count
    kind: Label = ""


class Progress(Output, frozen=True, kw_only=True, tag="progress"):
    """How far something is: `value` of `total` in `unit`."""

    value: Number
    total: Number | None = None
    unit: Label | None = None
    label: Label | None = None


class Data(Output, frozen=True, kw_only=True, tag="data"):
    """The application's own event."""

    name: Name
    value: Any


# --- speech ------------------------------------------------------------------------------------


class SpeechStarted(Numbered, frozen=True, kw_only=True, tag="speech.started"):
    """The user began to speak, `at_ms` into the input audio."""

    at_ms: Milliseconds


class SpeechStopped(Numbered, frozen=True, kw_only=True, tag="speech.stopped"):
    """The user stopped speaking."""

    at_ms: Milliseconds


class TranscriptDelta(Numbered, frozen=True, kw_only=True, tag="transcript.delta"):
    """A piece of what the user said."""

    text: Text


class TranscriptDone(Numbered, frozen=True, kw_only=True, tag="transcript.done"):
    """The whole of what the user said."""

    text: Text


AgentOutput = (
    Status | Thought | TextDelta | AudioDelta | ToolCall | ToolCallDelta | ToolConfirm | ToolRunning
    | ToolResult | StepEnded | Progress | Data
)  # fmt: skip
NumberedEvent = (
    InputAccepted | InputQueued | TurnStarted | TurnHeld | TurnResumed | TurnEnded | AgentOutput
    | SpeechStarted | SpeechStopped | TranscriptDelta | TranscriptDone
)  # fmt: skip
ServerEvent = (
    SessionOpened | ReplayDone | Snapshot | Heartbeat | Pong | GoAway | ErrorEvent | InputRejected
    | InterruptResult | NumberedEvent
)  # fmt: skip


class UnknownEvent(Numbered, frozen=True, kw_only=True):
    """A server event whose type this version does not know; its number still counts.

    Args:
        kind: The `type` as it was on the wire.
    """

    turn_id: AnyTurnIdField = NO_TURN
    kind: str = ""
