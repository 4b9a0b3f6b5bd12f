"""The table of error and close codes, and the tree of exceptions.

    ProtocolError
    └── DecodeError     a frame that is not an event; has the code of the answer

The codes are in `CODES`. Those below 4400 are close codes of RFC 6455 section 7.4.1 and only end
connections. The others belong to this protocol; `closes` decides whether one ends the connection or is
sent in an `error` or `input.rejected` event, after which the session goes on.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Action(Enum):
    """Reaction of a client to a code.

    Attributes:
        RETRY: The same request may succeed later; after a close, connect again for a fresh session.
        RESUME: Connect again and resume the session from the cursor.
        STOP: The same request will fail again; after a close, do not connect automatically.
    """

    RETRY = "retry"
    RESUME = "resume"
    STOP = "stop"


class Code(Struct, frozen=True):
    """One row of the table.

    Args:
        number: The number; also the WebSocket close code when `closes` is true.
        name: The value of `error.code`.
        reason: A short text for people, at most 123 bytes, so that it fits a close frame.
        action: The reaction of the client.
        closes: Whether the code ends the connection.
    """

    number: int
    name: str
    reason: str
    action: Action
    closes: bool = False


_retry, _resume, _stop = Action.RETRY, Action.RESUME, Action.STOP

CLOSED = Code(1000, "closed", "the session was closed", _stop, True)
GOING_AWAY = Code(1001, "going_away", "the server or the page is leaving", _resume, True)
NO_STATUS = Code(1005, "no_status", "the connection ended without a code", _resume, True)
ABNORMAL = Code(1006, "abnormal", "the connection was lost", _resume, True)
INVALID_DATA = Code(1007, "invalid_data", "a text frame is not UTF-8", _resume, True)
TOO_BIG = Code(1009, "too_big", "a frame is larger than the limit", _resume, True)
INTERNAL = Code(1011, "internal", "the server failed", _resume, True)
RESTART = Code(1012, "restart", "the server restarts", _resume, True)
OVERLOADED = Code(1013, "overloaded", "the server is full", _retry, True)

UNAUTHORIZED = Code(4401, "unauthorized", "authentication is missing or wrong", _stop, True)
FORBIDDEN = Code(4403, "forbidden", "this origin or principal may not connect", _stop, True)
OPEN_TIMEOUT = Code(4408, "open_timeout", "no first frame in time", _retry, True)
REPLACED = Code(4409, "replaced", "a newer connection drives the session", _stop, True)
EXPIRED = Code(4410, "expired", "the session was idle for too long", _retry, True)
SLOW_CONSUMER = Code(4413, "slow_consumer", "the client reads too slowly", _resume, True)
FLOODED = Code(4429, "flooded", "too many frames or bytes", _resume, True)
SHARE_USED = Code(4431, "share_used", "this client uses its share of the server", _retry, True)

BAD_FRAME = Code(4400, "bad_frame", "the frame cannot be decoded", _stop)
UNKNOWN_TYPE = Code(4404, "unknown_type", "the event type is unknown", _stop)
BAD_EVENT = Code(4422, "bad_event", "a field is missing, of the wrong type, or out of bounds", _stop)
WRONG_CODEC = Code(4415, "wrong_codec", "text and binary frames do not match the subprotocol", _stop)
ALREADY_OPEN = Code(4423, "already_open", "session.open must be the first frame", _stop)
UNSUPPORTED = Code(4424, "unsupported", "this session cannot do that", _stop)
UNKNOWN_TURN = Code(4425, "unknown_turn", "no such turn", _stop)
NOT_RUNNING = Code(4426, "not_running", "the turn does not run any more", _stop)
UNKNOWN_CALL = Code(4427, "unknown_call", "no tool call waits under this id", _stop)
SESSION_LOST = Code(4428, "session_lost", "the session was lost, nothing was applied", _retry)
ID_REUSED = Code(4430, "id_reused", "the id was used for something else", _stop)

BUSY = Code(4450, "busy", "a turn is running", _retry)
QUEUE_FULL = Code(4451, "queue_full", "too many inputs wait", _retry)
SHUTTING_DOWN = Code(4453, "shutting_down", "the server is shutting down", _retry)
AT_CAPACITY = Code(4454, "at_capacity", "the server has no room for this now", _retry)
NO_SPEECH = Code(4455, "no_speech", "nothing was said", _stop)
UPSTREAM = Code(4456, "upstream", "a service behind the server failed", _retry)
UNSUPPORTED_ATTACHMENT = Code(4457, "unsupported_attachment", "the agent takes no such file", _stop)

CODES: tuple[Code, ...] = (
    CLOSED, GOING_AWAY, NO_STATUS, ABNORMAL, INVALID_DATA, TOO_BIG, INTERNAL, RESTART, OVERLOADED,
    BAD_FRAME, UNAUTHORIZED, FORBIDDEN, UNKNOWN_TYPE, OPEN_TIMEOUT, REPLACED, EXPIRED, SLOW_CONSUMER,
    WRONG_CODEC, BAD_EVENT, ALREADY_OPEN, UNSUPPORTED, UNKNOWN_TURN, NOT_RUNNING, UNKNOWN_CALL,
    SESSION_LOST, FLOODED, ID_REUSED, SHARE_USED, BUSY, QUEUE_FULL, SHUTTING_DOWN,
    AT_CAPACITY, NO_SPEECH, UPSTREAM, UNSUPPORTED_ATTACHMENT,
)  # fmt: skip

_by_number = {code.number: code for code in CODES}
_by_name = {code.name: code for code in CODES}


def code_of_close(number: int) -> Code:
    """Return the row of a close code, that of a lost connection if unlisted."""
    code = _by_number.get(number)
    return code if code is not None and code.closes else ABNORMAL


def code_named(name: str) -> Code | None:
    """Return the row called `name`, None for a name of a newer version."""
    return _by_name.get(name)


class ProtocolError(Exception):
    """Root of all errors of this package."""


class DecodeError(ProtocolError):
    """A frame is not an event.

    Attributes:
        code: The code of the answer.
        detail: A short description with the place of the fault, safe to return to the peer.
        ref_id: The `id` or `call_id` of the offending event where it could be read, else None.
    """

    def __init__(self, code: Code, detail: str, ref_id: str | None = None) -> None:
        super().__init__(f"{code.name}: {detail}")
        self.code = code
        self.detail = detail
        self.ref_id = ref_id
