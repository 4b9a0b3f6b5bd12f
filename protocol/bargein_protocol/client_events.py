"""Events from a client to the server.

The client makes `id`, which is unique in the session. It makes a resend harmless: the same id gets the
first answer again, marked `duplicate`, and has no further effect.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from .audio import SessionAudio
from .event import Event
from .types import (
    MAX_ATTACHMENTS,
    MAX_PENDING,
    AnyId,
    Attachment,
    Audio,
    CallIdField,
    ClientInfo,
    Count,
    InputIdField,
    InterruptIdField,
    JsonObject,
    Message,
    Milliseconds,
    OnBusy,
    Played,
    Reason,
    Resume,
    RewindIdField,
    SeqField,
    TurnIdField,
    UserText,
)


class InputText(Event, frozen=True, kw_only=True, tag="input.text"):
    """Request for a turn.

    Answered by `input.accepted`, `input.queued` or `input.rejected`.

    Args:
        id: The client's id, which becomes the `input_id` of the turn.
        text: The user's text.
        on_busy: Effect while a turn runs: `interrupt` it, `queue` behind it, or `reject` this input.
            None for the server's setting.
        metadata: Parameters for the agent.
        attachments: Files, such as images, of the media types in `Limits.attachments`.
    """

    id: InputIdField
    text: UserText
    on_busy: OnBusy | None = None
    metadata: JsonObject | None = None
    attachments: Annotated[list[Attachment], Meta(max_length=MAX_ATTACHMENTS)] | None = None


class InputAudio(Event, frozen=True, kw_only=True, tag="input.audio"):
    """A piece of speech of at most a second, in the granted input format."""

    audio: Audio


class InputCommit(Event, frozen=True, kw_only=True, tag="input.commit"):
    """End of the speech sent so far, and request for a turn.

    Answered like `input.text`, once the speech is transcribed; by `input.rejected` with `no_speech` when
    nothing was said.

    Args:
        id: The client's id, which becomes the `input_id` of the turn.
    """

    id: InputIdField


class InputClear(Event, frozen=True, kw_only=True, tag="input.clear"):
    """Discards the speech sent since the last turn was asked for."""


class Interrupt(Event, frozen=True, kw_only=True, tag="interrupt"):
    """Request to end a turn now, answered by one `interrupt.result`.

    Args:
        id: The client's id of the interrupt.
        turn_id: The turn to end.
        input_id: The input whose turn to end, while the turn's id is not known. An input that the
            server has not seen yet is remembered: its turn ends before it starts.
        played: The part of the turn that the user received.
        reason: Value of `turn.ended.reason`; `client` when absent.
        force: Also ends an uninterruptible section.

    With neither `turn_id` nor `input_id` it ends the running turn. That form is for people at a
    terminal: a program cannot control which turn it ends.
    """

    id: InterruptIdField
    turn_id: TurnIdField | None = None
    input_id: InputIdField | None = None
    played: Played | None = None
    reason: Annotated[Reason, Meta(min_length=1)] | None = None
    force: bool = False


class TurnHold(Event, frozen=True, kw_only=True, tag="turn.hold"):
    """Stops the output of a turn immediately; the hold ends after a timeout."""

    turn_id: TurnIdField


class TurnResume(Event, frozen=True, kw_only=True, tag="turn.resume"):
    """Continues a held turn at the exact place."""

    turn_id: TurnIdField


class Playback(Event, frozen=True, kw_only=True, tag="playback"):
    """Report of the part of a turn that was heard, also after the turn's end."""

    turn_id: TurnIdField
    seq: SeqField | None = None
    audio_ms: Milliseconds | None = None
    chars: Count | None = None


class ToolOutput(Event, frozen=True, kw_only=True, tag="tool.output"):
    """Result of a tool that runs in the client; `error` when it failed."""

    call_id: CallIdField
    output: Any = None
    error: Message | None = None


class ToolDecision(Event, frozen=True, kw_only=True, tag="tool.decision"):
    """Answer to `tool.confirm`."""

    call_id: CallIdField
    allow: bool


class SessionRewind(Event, frozen=True, kw_only=True, tag="session.rewind"):
    """Request to drop turns from the end, answered by `session.rewound`.

    The turn and all later ones leave the conversation; those that have not ended are interrupted. An
    input that follows immediately asks again in their place.

    Args:
        id: The client's id of the request.
        turn_id: The first turn to drop.
    """

    id: RewindIdField
    turn_id: TurnIdField


class SessionUpdate(Event, frozen=True, kw_only=True, tag="session.update"):
    """Merge parameters into the session's metadata; null removes a key."""

    metadata: JsonObject


class SessionClose(Event, frozen=True, kw_only=True, tag="session.close"):
    """End of the session: its turn is interrupted, and it cannot be resumed."""


class Ping(Event, frozen=True, kw_only=True, tag="ping"):
    """Request for a `pong` with the same id."""

    id: AnyId


PendingEvent = InputText | InputCommit | Interrupt | SessionRewind


class SessionOpen(Event, frozen=True, kw_only=True, tag="session.open"):
    """First frame, which opens a fresh session or resumes one.

    A client that begins with another event gets a fresh session.

    Args:
        resume: The session to resume; None for a fresh one.
        pending: Inputs, commits, interrupts and rewinds without an answer on an earlier connection, in order.
        auth: A credential, unless the handshake had one.
        client: Name and version of the client.
        audio: Audio that the client sends and takes; None for neither. The answer says what is granted.
    """

    resume: Resume | None = None
    pending: Annotated[list[PendingEvent], Meta(max_length=MAX_PENDING)] | None = None
    auth: Annotated[str, Meta(max_length=8192)] | None = None
    client: ClientInfo | None = None
    audio: SessionAudio | None = None


ClientEvent = (
    SessionOpen
    | InputText
    | InputAudio
    | InputCommit
    | InputClear
    | Interrupt
    | TurnHold
    | TurnResume
    | Playback
    | ToolOutput
    | ToolDecision
    | SessionRewind
    | SessionUpdate
    | SessionClose
    | Ping
)
