"""Ids, bounds and the small values that events are made of.

Every integer and string on the wire has a bound. Integers stay within 2**53 - 1, which is what a
JavaScript number holds exactly; strings are counted in characters. A bound is a promise in both
directions: a peer never sends more, and may refuse whoever does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NewType

from msgspec import Meta, Struct

MAX_INT = 2**53 - 1
MAX_ID_CHARS = 64
MAX_NAME_CHARS = 128
MAX_INPUT_CHARS = 65_536
MAX_TEXT_CHARS = 1_048_576
MAX_AUDIO_BYTES = 1_048_576
MAX_KEYS = 1024
MAX_LANES = 256
MAX_TOOLS = 4096
MAX_SPANS = 65_536
MAX_DEPTH = 64
"""How deep arrays and objects may nest in a value that the protocol does not describe."""
MAX_PENDING = 64
"""How many inputs and interrupts of one client may be unanswered at a time."""

SessionId = NewType("SessionId", str)
Token = NewType("Token", str)
TurnId = NewType("TurnId", str)
InputId = NewType("InputId", str)
InterruptId = NewType("InterruptId", str)
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
"""A turn's id, or the empty string for an event that no server has numbered yet."""
InputIdField = Annotated[InputId, _id]
InterruptIdField = Annotated[InterruptId, _id]
CallIdField = Annotated[CallId, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
EpochField = Annotated[Epoch, _id]
SeqField = Annotated[Seq, _count]

AnyId = Annotated[str, _id]
RefIdField = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
"""The `id` or the `call_id` of an event, so as long as the longer of the two."""
Count = Annotated[int, _count]
Milliseconds = Annotated[int, _count]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
Label = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Source = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
"""Which of several agents speaks in a turn; empty for the turn's own voice."""
Reason = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Message = Annotated[str, Meta(max_length=4096)]
UserText = Annotated[str, Meta(max_length=MAX_INPUT_CHARS)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Audio = Annotated[bytes, Meta(max_length=MAX_AUDIO_BYTES)]
"""PCM16, little-endian, mono, at the session's rate; base64 in JSON, raw in MessagePack."""
JsonObject = Annotated[dict[str, Any], Meta(max_length=MAX_KEYS)]

OnBusy = Literal["interrupt", "queue", "reject"]
TurnStatus = Literal["completed", "interrupted", "failed"]
Outcome = Literal["interrupted", "already_ended", "deferred", "unknown_turn"]
ToolStatus = Literal["completed", "failed", "cancelled", "running"]
RunsIn = Literal["server", "client"]


class Cursor(Struct, frozen=True, kw_only=True):
    """A position in a session's stream of numbered events.

    Args:
        epoch: Names one unbroken numbering; another epoch means another log.
        seq: The last number that was received; 0 before the first.
    """

    epoch: EpochField
    seq: SeqField


class Resume(Struct, frozen=True, kw_only=True):
    """Asks for a session that exists: which, the secret that proves it, and what was seen of it."""

    session_id: SessionIdField
    token: TokenField
    cursor: Cursor


class ClientInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the client calls itself; for logs only."""

    name: Name
    version: Label = ""


class Played(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much of a turn's output the user has received. Any one field is enough.

    Args:
        seq: The last numbered event of the turn that was wholly rendered or played.
        audio_ms: Milliseconds of the turn's audio that left the loudspeaker, from the turn's start.
        chars: Characters (code points) of the turn's own text that were shown or spoken.
    """

    seq: SeqField | None = None
    audio_ms: Milliseconds | None = None
    chars: Count | None = None


class Heard(Struct, frozen=True, kw_only=True):
    """The part of a turn that the user really received, as far as is known.

    Args:
        seq: The last numbered event of the turn that counts as received; 0 for none.
        text: The heard text.
        audio_ms: Milliseconds of audio that were heard.
    """

    seq: SeqField = NO_SEQ
    text: Text = ""
    audio_ms: Milliseconds = 0


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens that the turn's model calls used, summed."""

    input_tokens: Count = 0
    output_tokens: Count = 0


class Limits(Struct, frozen=True, kw_only=True):
    """What the server will not exceed or accept beyond.

    Args:
        frame_bytes: The largest frame that the server reads.
        pending: Inputs and interrupts that may be unanswered at a time.
        queued: Inputs that may wait behind a running turn.
    """

    frame_bytes: Count
    pending: Count
    queued: Count
