"""Ids, bounds and the values that events consist of.

Every integer and string on the wire has a bound. Integers stay within 2**53 - 1, the largest that a
JavaScript number holds exactly; strings are counted in characters. A bound holds in both directions: a
peer never sends more, and may refuse a peer that does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NewType

from msgspec import Meta, Struct, field

MAX_INT = 2**53 - 1
MAX_ID_CHARS = 64
MAX_NAME_CHARS = 128
MAX_INPUT_CHARS = 65_536
MAX_TEXT_CHARS = 1_048_576
MAX_AUDIO_BYTES = 1_048_576
MAX_ATTACHMENT_BYTES = 4_194_304
MAX_ATTACHMENTS = 8
"""Maximum number of attachments of one input."""
MAX_MEDIA_TYPES = 64
"""Maximum number of media types that a server lists."""
MAX_KEYS = 1024
MAX_LANES = 256
MAX_TOOLS = 4096
MAX_SPANS = 65_536
MAX_DEPTH = 64
"""Maximum nesting of arrays and objects in a value for the application."""
MAX_VALUES = 65_536
"""Maximum number of values in a value for the application, keys included."""
MAX_CLIENT_VALUES = 16_384
"""Maximum number of values in a frame of a client, keys included."""
MAX_PENDING = 64
"""Maximum number of unanswered inputs, interrupts and rewinds of one client."""
MAX_TURNS = 4096
"""Maximum number of turns in one event."""

SessionId = NewType("SessionId", str)
Token = NewType("Token", str)
TurnId = NewType("TurnId", str)
InputId = NewType("InputId", str)
InterruptId = NewType("InterruptId", str)
RewindId = NewType("RewindId", str)
CallId = NewType("CallId", str)
Epoch = NewType("Epoch", str)
Seq = NewType("Seq", int)

NO_TURN = TurnId("")
NO_SEQ = Seq(0)

_id = Meta(min_length=1, max_length=MAX_ID_CHARS)
_maybe_empty_id = Meta(max_length=MAX_ID_CHARS)
_count = Meta(ge=0, le=MAX_INT)

SessionIdField = Annotated[SessionId, _id]
TokenField = Annotated[Token, Meta(min_length=1, max_length=256)]
TurnIdField = Annotated[TurnId, _id]
AnyTurnIdField = Annotated[TurnId, _maybe_empty_id]
"""Id of a turn; empty for an event without a number."""
InputIdField = Annotated[InputId, _id]
InterruptIdField = Annotated[InterruptId, _id]
RewindIdField = Annotated[RewindId, _id]
CallIdField = Annotated[CallId, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
EpochField = Annotated[Epoch, _id]
SeqField = Annotated[Seq, _count]

AnyId = Annotated[str, _id]
RefIdField = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
"""The `id` or the `call_id` of an event."""
Count = Annotated[int, _count]
Milliseconds = Annotated[int, _count]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
Label = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Source = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
"""Name of one of several agents in a turn; empty for the main lane."""
Reason = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Message = Annotated[str, Meta(max_length=4096)]
UserText = Annotated[str, Meta(max_length=MAX_INPUT_CHARS)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Audio = Annotated[bytes, Meta(max_length=MAX_AUDIO_BYTES)]
"""Mono sound in the negotiated format; base64 in JSON, raw in MessagePack."""
MediaType = Name
"""Media type without parameters, in lower case, such as `image/png`."""
FileBytes = Annotated[bytes, Meta(max_length=MAX_ATTACHMENT_BYTES)]
"""Content of a file; base64 in JSON, raw in MessagePack."""
JsonObject = Annotated[dict[str, Any], Meta(max_length=MAX_KEYS)]

OnBusy = Literal["interrupt", "queue", "reject"]
TurnStatus = Literal["completed", "interrupted", "failed"]
Outcome = Literal["interrupted", "already_ended", "deferred", "unknown_turn"]
ToolStatus = Literal["completed", "failed", "cancelled", "running"]
RunsIn = Literal["server", "client"]


class Cursor(Struct, frozen=True, kw_only=True):
    """A position in a session's stream of numbered events.

    Args:
        epoch: Id of one unbroken numbering; another epoch is another log.
        seq: The last number received; 0 before the first.
    """

    epoch: EpochField
    seq: SeqField


class Resume(Struct, frozen=True, kw_only=True):
    """Reference to an existing session, with its token and a cursor."""

    session_id: SessionIdField
    token: TokenField
    cursor: Cursor


class Attachment(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A file that the user adds to an input, such as an image.

    Args:
        media_type: Its media type, such as `image/png`.
        data: Its content.
        name: Its name, for people and models; empty without one.
    """

    media_type: MediaType
    data: FileBytes
    name: Label = ""


class ClientInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Name and version of a client, for logs."""

    name: Name
    version: Label = ""


class Played(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part of a turn that the user received; one field is enough.

    Args:
        seq: The last numbered event of the turn that was rendered or played completely.
        audio_ms: Milliseconds of the turn's audio that left the loudspeaker, from the turn's start.
        chars: Characters (code points) of the main lane that were shown or spoken.
    """

    seq: SeqField | None = None
    audio_ms: Milliseconds | None = None
    chars: Count | None = None


class Heard(Struct, frozen=True, kw_only=True):
    """Part of a turn that the user received, as far as reported.

    Args:
        seq: The last numbered event of the turn that counts as received; 0 for none.
        text: The heard text.
        audio_ms: Milliseconds of heard audio.
    """

    seq: SeqField = NO_SEQ
    text: Text = ""
    audio_ms: Milliseconds = 0


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sum of the tokens of a turn's model calls."""

    input_tokens: Count = 0
    output_tokens: Count = 0


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of the server for a client.

    Args:
        frame_bytes: Maximum size of a frame from the client.
        pending: Maximum number of unanswered inputs and interrupts.
        queued: Maximum number of inputs that wait behind a running turn.
        attachments: Media types of the files that inputs may have, such as `image/png` or `image/*`;
            empty when the agent takes none.
    """

    frame_bytes: Count
    pending: Count
    queued: Count
    attachments: Annotated[list[MediaType], Meta(max_length=MAX_MEDIA_TYPES)] = field(default_factory=list)
