"""Events from the server to a client.

Numbered events carry `seq`, contiguous within an epoch from 1, and are replayed on resume. Those of a turn
carry `turn_id`. An agent creates events without either. The server sets both when it passes the frame to
the transport, so an event that was not sent has `seq` 0 and an empty `turn_id`.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from .audio import SessionAudio
from .event import Event, Numbered, Output, TurnEvent
from .speech_events import SpeechStarted, SpeechStopped, TranscriptDelta, TranscriptDone
from .turn_state import TurnState
from .types import (
    MAX_TURNS,
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
    RewindIdField,
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
    """Answer to the first frame.

    Args:
        session_id: The public id of the session.
        token: The secret for resuming it; replaces every earlier one.
        epoch: The epoch of the following numbers.
        resumed: Whether this is the requested session.
        reason: Reason for refusing a resume; then this is a fresh session.
        turn_id: The running turn, None without one.
        heartbeat_ms: Maximum time without a frame.
        limits: The limits of the server.
        audio: The audio that is granted; None without any.
    """

    session_id: SessionIdField
    token: TokenField
    epoch: EpochField
    resumed: bool
    reason: Reason | None = None
    turn_id: TurnIdField | None = None
    heartbeat_ms: Milliseconds
    limits: Limits
    audio: SessionAudio | None = None


class ReplayDone(Event, frozen=True, kw_only=True, tag="replay.done"):
    """End of a replay; `through` is the last number replayed."""

    through: SeqField


class Snapshot(Event, frozen=True, kw_only=True, tag="snapshot"):
    """State of turns as of number `through`, in place of a replay.

    It is sent when the log no longer reaches back to the cursor.
    """

    through: SeqField
    turns: Annotated[list[TurnState], Meta(max_length=MAX_TURNS)]


class Heartbeat(Event, frozen=True, kw_only=True, tag="heartbeat"):
    """Sign of life of the server.

    Args:
        message: The last status of the agent.
        position: Number of turns that must go first, while the turn waits for a place on the server.
    """

    message: Message | None = None
    position: Count | None = None


class Pong(Event, frozen=True, kw_only=True, tag="pong"):
    """Answer to `ping`."""

    id: AnyId


class GoAway(Event, frozen=True, kw_only=True, tag="goaway"):
    """Announcement that the server will close the connection.

    The client connects again after `reconnect_after_ms`.
    """

    reason: Reason
    reconnect_after_ms: Milliseconds


class ErrorEvent(Event, frozen=True, kw_only=True, tag="error"):
    """Error in an event of the client, after which the session goes on.

    Args:
        code: The name of a code.
        message: A text for people.
        ref_id: The `id` or `call_id` of the event, where it could be read.
        retryable: Whether the same request may succeed later.
    """

    code: Name
    message: Message
    ref_id: RefIdField | None = None
    retryable: bool = False


# --- inputs and turns --------------------------------------------------------------------------


class InputAccepted(TurnEvent, frozen=True, kw_only=True, tag="input.accepted"):
    """The input has a turn, which gets exactly one `turn.ended`.

    Args:
        input_id: The id of the input.
        duplicate: Whether this answers a resend; such a copy carries no `seq`.
    """

    input_id: InputIdField
    duplicate: bool = False


class InputQueued(TurnEvent, frozen=True, kw_only=True, tag="input.queued"):
    """The input has a turn that waits for the end of `position` others."""

    input_id: InputIdField
    position: Count
    duplicate: bool = False


class InputRejected(Event, frozen=True, kw_only=True, tag="input.rejected"):
    """The input gets no turn.

    Args:
        code: The name of a code.
        retry_after_ms: Time until the next attempt, with a new id.
    """

    input_id: InputIdField
    code: Name
    retry_after_ms: Milliseconds | None = None
    duplicate: bool = False


class TurnStarted(TurnEvent, frozen=True, kw_only=True, tag="turn.started"):
    """The agent of the turn runs."""

    input_id: InputIdField


class TurnHeld(TurnEvent, frozen=True, kw_only=True, tag="turn.held"):
    """The turn's output has stopped until `turn.resumed` or `turn.ended`."""


class TurnResumed(TurnEvent, frozen=True, kw_only=True, tag="turn.resumed"):
    """The turn's output continues."""


class TurnEnded(TurnEvent, frozen=True, kw_only=True, tag="turn.ended"):
    """The single end of a turn.

    Args:
        status: `completed`, `interrupted` or `failed`.
        reason: Reason of the end, from the protocol's table.
        last_seq: The turn's last number before this one; 0 when it had none.
        heard: The part that the user received, as known at this time.
        usage: Tokens of the turn's model calls, as reported by the agent.
        retryable: Whether the same input may succeed when sent again with a new id.
    """

    status: TurnStatus
    reason: Reason
    last_seq: SeqField
    heard: Heard
    usage: Usage | None = None
    retryable: bool = False


class InterruptResult(Event, frozen=True, kw_only=True, tag="interrupt.result"):
    """The single answer to an `interrupt`.

    Args:
        outcome: `interrupted`: this interrupt ended the turn. `already_ended`: it had ended before.
            `deferred`: it takes effect when an uninterruptible section is over, or when the input
            that it names arrives. `unknown_turn`: there is no turn to end.
        duplicate: Whether this answers a resend.
        heard: For `already_ended`, the part of the turn that the user received, as known now.
    """

    interrupt_id: InterruptIdField
    turn_id: TurnIdField | None = None
    outcome: Outcome
    duplicate: bool = False
    heard: Heard | None = None


class SessionRewound(Numbered, frozen=True, kw_only=True, tag="session.rewound"):
    """Turns have left the conversation; the answer to `session.rewind`.

    Args:
        turns: The turns, all of which have ended.
        duplicate: Whether this answers a resend; such a copy carries no `seq`.
    """

    rewind_id: RewindIdField
    turns: Annotated[list[TurnIdField], Meta(max_length=MAX_TURNS)]
    duplicate: bool = False


# --- output of agents --------------------------------------------------------------------------


class Status(Output, frozen=True, kw_only=True, tag="status"):
    """Current activity of the agent, in a few words."""

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
        audio: Sound in the format of `session.opened.audio.output`.
        start_ms: Start within the turn's audio.
        duration_ms: Duration.
        text: The words in it.
    """

    audio: Audio
    start_ms: Milliseconds
    duration_ms: Milliseconds
    text: Text | None = None


class ToolCall(Output, frozen=True, kw_only=True, tag="tool.call"):
    """Start of a tool call; its arguments follow."""

    call_id: CallIdField
    name: Name


class ToolCallDelta(Output, frozen=True, kw_only=True, tag="tool.call.delta"):
    """A piece of the call's arguments, as JSON text."""

    call_id: CallIdField
    arguments: Text


class ToolConfirm(Output, frozen=True, kw_only=True, tag="tool.confirm"):
    """Request for a `tool.decision` of the user."""

    call_id: CallIdField
    arguments: JsonObject


class ToolRunning(Output, frozen=True, kw_only=True, tag="tool.running"):
    """Start of a tool's work.

    Args:
        arguments: The complete arguments.
        runs_in: `client` when the client runs the tool and answers with `tool.output`.
    """

    call_id: CallIdField
    arguments: JsonObject
    runs_in: RunsIn = "server"


class ToolResult(Output, frozen=True, kw_only=True, tag="tool.result"):
    """Result of a tool call.

    Args:
        output: Any JSON value.
        error: Description of a failure, for the model and the user. Beside a completed result it is a note
            for the model, such as on arguments that were left out.
        status: `running` when the tool goes on in the background after an interrupt.
    """

    call_id: CallIdField
    output: Any = None
    error: Message | None = None
    status: ToolStatus
    duration_ms: Milliseconds = 0


class StepEnded(Output, frozen=True, kw_only=True, tag="step.ended"):
    """End of one step of the agent, such as a model call."""

    index: Count
    kind: Label = ""


class Progress(Output, frozen=True, kw_only=True, tag="progress"):
    """Progress of work: `value` of `total` in `unit`."""

    value: Number
    total: Number | None = None
    unit: Label | None = None
    label: Label | None = None


class Data(Output, frozen=True, kw_only=True, tag="data"):
    """Event of the application."""

    name: Name
    value: Any


AgentOutput = (
    Status | Thought | TextDelta | AudioDelta | ToolCall | ToolCallDelta | ToolConfirm | ToolRunning
    | ToolResult | StepEnded | Progress | Data
)  # fmt: skip
NumberedEvent = (
    InputAccepted | InputQueued | TurnStarted | TurnHeld | TurnResumed | TurnEnded | SessionRewound
    | AgentOutput | SpeechStarted | SpeechStopped | TranscriptDelta | TranscriptDone
)  # fmt: skip
ServerEvent = (
    SessionOpened | ReplayDone | Snapshot | Heartbeat | Pong | GoAway | ErrorEvent | InputRejected
    | InterruptResult | NumberedEvent
)  # fmt: skip


class UnknownEvent(Numbered, frozen=True, kw_only=True):
    """A server event of a type that this version lacks; its number counts.

    Args:
        kind: The `type` on the wire.
    """

    turn_id: AnyTurnIdField = NO_TURN
    kind: str = ""
