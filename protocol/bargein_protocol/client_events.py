"""Events that go up, from a client to the server.

`id` is made by the client and unique in the session. It makes a resend harmless: the same id gets
the first answer again, marked `duplicate`, and nothing happens twice.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from .event import Event
from .types import (
    MAX_PENDING,
    AnyId,
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
    SeqField,
    TurnIdField,
    UserText,
)


class InputText(Event, frozen=True, kw_only=True, tag="input.text"):
    """Asks for a turn.

    Answered by `input.accepted`, `input.queued` or `input.rejected`.

    Args:
        id: Made by the client; the turn's `input_id`.
        text: What the user said.
        on_busy: What to do when a turn runs: `interrupt` it, `queue` behind it, or `reject` this
            input. None leaves it to the session's setting.
        metadata: For the agent; the server does not read it.
    """

    id: InputIdField
    text: UserText
    on_busy: OnBusy | None = None
    metadata: JsonObject | None = None


class InputAudio(Event, frozen=True, kw_only=True, tag="input.audio"):
    """A piece of speech: PCM16 little-endian mono at the session's rate."""

    audio: Audio


class InputCommit(Event, frozen=True, kw_only=True, tag="input.commit"):
    """Ends the speech sent so far and asks for a turn."""

    id: InputIdField


class InputClear(Event, frozen=True, kw_only=True, tag="input.clear"):
    """Throws the speech sent so far away."""


class Interrupt(Event, frozen=True, kw_only=True, tag="interrupt"):
    """Ends a turn now. Answered once, by `interrupt.result`.

    Args:
        id: Made by the client.
        turn_id: The turn to end.
        input_id: The input whose turn to end, when the turn's id is not known yet. An input that
            the server has not seen yet is remembered: its turn ends before it starts.
        played: What the user has received of the turn.
        reason: Appears in `turn.ended.reason`; `client` when absent.
        force: Also ends a section that the agent marked as uninterruptible.

    With neither `turn_id` nor `input_id` it ends whatever runs. That form is for people at a
    terminal: a program cannot know which turn it will hit.
    """

    id: InterruptIdField
    turn_id: TurnIdField | None = None
    input_id: InputIdField | None = None
    played: Played | None = None
    reason: Annotated[Reason, Meta(min_length=1)] | None = None
    force: bool = False


class TurnHold(Event, frozen=True, kw_only=True, tag="turn.hold"):
    """Stops a turn's output at once without ending it; undecided, it resumes after a while."""

    turn_id: TurnIdField


class TurnResume(Event, frozen=True, kw_only=True, tag="turn.resume"):
    """Lets a held turn go on from the exact place."""

    turn_id: TurnIdField


class Playback(Event, frozen=True, kw_only=True, tag="playback"):
    """Reports what has been heard of a turn so far; also welcome after the turn's end."""

    turn_id: TurnIdField
    seq: SeqField | None = None
    audio_ms: Milliseconds | None = None
    chars: Count | None = None


class ToolOutput(Event, frozen=True, kw_only=True, tag="tool.output"):
    """The result of a tool that runs in the client; `error` instead of `output` when it failed."""

    call_id: CallIdField
    output: Any = None
    error: Message | None = None


class ToolDecision(Event, frozen=True, kw_only=True, tag="tool.decision"):
    """Answers `tool.confirm`."""

    call_id: CallIdField
    allow: bool


class SessionUpdate(Event, frozen=True, kw_only=True, tag="session.update"):
    """Merges application parameters into the session's metadata; a null removes its key."""

    metadata: JsonObject


class SessionClose(Event, frozen=True, kw_only=True, tag="session.close"):
    """Ends the session for good: its turn is interrupted, nothing can be resumed."""


class Ping(Event, frozen=True, kw_only=True, tag="ping"):
    """Answered by `pong` with the same id."""

    id: AnyId


class SessionOpen(Event, frozen=True, kw_only=True, tag="session.open"):
    """The first frame. A client that begins with another event gets a fresh session.

    Args:
        resume: The session to go on with; None for a fresh one.
        pending: Inputs and interrupts that got no answer on an earlier connection, in order.
        auth: A credential, when none was given in the handshake.
        client: What the client calls itself.
    """

    resume: Resume | None = None
    pending: Annotated[list[InputText | Interrupt], Meta(max_length=MAX_PENDING)] | None = None
    auth: Annotated[str, Meta(max_length=8192)] | None = None
    client: ClientInfo | None = None


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
    | SessionUpdate
    | SessionClose
    | Ping
)
PendingEvent = InputText | Interrupt
