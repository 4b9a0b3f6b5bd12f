"""A phone call over Twilio Media Streams, to and from a session. No I/O.

Twilio cannot pause its player. The call keeps the sound that no `mark` has confirmed as played: a hold is a
`clear`, and a resume sends that sound again from the last mark. Marks come back after a `clear` too, so their
names have the number of the last `clear`, and those of an earlier one do not count.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from msgspec import Struct

from bargein_protocol import (
    AudioDelta,
    AudioFormat,
    ClientEvent,
    Data,
    InputAudio,
    InputId,
    InputText,
    Playback,
    ServerEvent,
    SessionAudio,
    SessionOpened,
    SpeechStarted,
    TurnEnded,
    TurnHeld,
    TurnId,
    TurnResumed,
)
from bargein_protocol.types import MAX_INPUT_CHARS

PHONE = AudioFormat(encoding="mulaw", rate=8000)
"""Format of a phone line, the only one of Media Streams."""
AUDIO = SessionAudio(input=PHONE, output=PHONE)

PIECE_MS = 100
"""Longest sound between two marks, and so the longest that a resume repeats."""
MAX_UNPLAYED_MS = 10_000
"""Sound that may wait in Twilio's buffer; an agent that makes more waits."""
DIGITS_S = 1.5
"""Pause after which the keys that were pressed become an input."""
MAX_DIGITS = 32
MAX_PARAMETERS, MAX_PARAMETER_CHARS = 32, 1000
MAX_MEDIA_CHARS = 16_000
HANG_UP = "hang_up"
"""Name of the application event with which an agent ends the call."""

JsonMap = dict[str, Any]


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Forget the callback."""
        ...


class Line(Protocol):
    """The connection of a call, and the session behind it."""

    def send(self, message: JsonMap) -> None:
        """Send a message to Twilio."""
        ...

    def act(self, event: ClientEvent) -> None:
        """Give an event to the session."""
        ...

    def begin(self, start: Start) -> None:
        """Open the session, then call `PhoneCall.answer`."""
        ...

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call a function later."""
        ...

    def room(self) -> None:
        """Go on with output, because sound was played."""
        ...

    def hang_up(self, *, is_full: bool = False) -> None:
        """End the call."""
        ...


class Start(Struct, frozen=True):
    """Start of a call.

    Args:
        stream_sid: Twilio's id of the stream.
        call_sid: Twilio's id of the call.
        account_sid: Twilio's id of the account.
        parameters: The `<Parameter>` elements of the TwiML.
    """

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: dict[str, str]


class Piece(Struct):
    """Sound that was sent and not confirmed as played.

    Attributes:
        turn_id: Its turn.
        end_ms: Position of its end in the turn's sound.
        duration_ms: Its duration.
        payload: The sound in base64.
        number: Number of its mark.
    """

    turn_id: TurnId
    end_ms: int
    duration_ms: int
    payload: str
    number: int


class PhoneCall:
    """State of one call.

    Args:
        line: The connection.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._stream_sid: str | None = None
        self._pieces: deque[Piece] = deque()
        self._unplayed_ms = 0
        self._numbers = count(1)
        self._clears = 0
        self._held: TurnId | None = None
        self._running: TurnId | None = None  # of the newest sound; None once that turn has ended
        self._ends = False
        self._digits = ""
        self._digits_timer: Timer | None = None
        self._inputs = count(1)

    # --- from Twilio -----------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether more sound may be sent."""
        return self._unplayed_ms < MAX_UNPLAYED_MS

    def receive(self, message: JsonMap) -> None:
        """Take a message; unknown and malformed ones are ignored."""
        kind, body = message.get("event"), message.get(str(message.get("event")))
        body = body if isinstance(body, dict) else {}
        if kind == "start":
            if self._stream_sid is None:
                start = _start_of(message, body)
                self._stream_sid = start.stream_sid
                self._line.begin(start)
        elif self._stream_sid is None:
            return
        elif kind == "media":
            if body.get("track", "inbound") == "inbound" and (audio := _audio(body)):
                self._line.act(InputAudio(audio=audio))
        elif kind == "mark":
            self._played(str(body.get("name")))
        elif kind == "dtmf":
            self._press(str(body.get("digit"))[:1])
        elif kind == "stop":
            self.end()
            self._line.hang_up()

    def answer(self, start: Start) -> None:
        """Begin the conversation, once its session is open."""
        if text := start.parameters.get("input"):
            self._ask(text[:MAX_INPUT_CHARS], {})

    def end(self) -> None:
        """Record that the call is over."""
        self._ends = True
        if self._digits_timer is not None:
            self._digits_timer.cancel()
            self._digits_timer = None

    def _played(self, name: str) -> None:
        """Count the sound before a mark as played."""
        clears, _, number = name.partition(".")
        if clears != str(self._clears) or not number.isdecimal():
            return
        played: dict[TurnId, int] = {}
        had_room = self.has_room
        while self._pieces and self._pieces[0].number <= int(number[:18]):
            piece = self._pieces.popleft()
            self._unplayed_ms -= piece.duration_ms
            played[piece.turn_id] = piece.end_ms
        for turn_id, audio_ms in played.items():
            self._line.act(Playback(turn_id=turn_id, audio_ms=audio_ms))
        if self._ends and not self._pieces:
            self._line.hang_up()
        elif self.has_room and not had_room:
            self._line.room()

    def _press(self, digit: str) -> None:
        """Take a key: `#` ends an entry, and so does a pause."""
        if digit not in "0123456789*#ABCD":
            return
        if self._digits_timer is not None:
            self._digits_timer.cancel()
            self._digits_timer = None
        if digit != "#":
            self._digits += digit
        if digit == "#" or len(self._digits) >= MAX_DIGITS:
            self._enter()
        else:
            self._digits_timer = self._line.after(DIGITS_S, self._enter)

    def _enter(self) -> None:
        digits, self._digits, self._digits_timer = self._digits, "", None
        if digits:
            self._ask(digits, {"dtmf": digits})

    def _ask(self, text: str, metadata: JsonMap) -> None:
        input_id = InputId(f"call_{next(self._inputs)}")
        self._line.act(InputText(id=input_id, text=text, metadata=metadata))

    # --- from the session ------------------------------------------------------------------------

    def take(self, event: ServerEvent) -> None:
        """Take an event of the session."""
        if isinstance(event, AudioDelta):
            if not event.source and event.turn_id is not None:
                self._running = event.turn_id
                self._say(event, event.turn_id)
        elif isinstance(event, TurnHeld):
            self._held = event.turn_id
            self._send({"event": "clear"})
            self._clears += 1
        elif isinstance(event, TurnResumed):
            self._held = None
            self._send_all()
        elif isinstance(event, TurnEnded):
            self._ended(event)
        elif isinstance(event, SpeechStarted):
            if self._pieces and self._running is None:  # the floor holds only turns that have not ended
                self._forget()
        elif isinstance(event, Data):
            if event.name == HANG_UP and not event.source:
                self._ends = True
        elif isinstance(event, SessionOpened) and (event.audio is None or event.audio.input is None):
            self._line.hang_up(is_full=True)

    def _say(self, event: AudioDelta, turn_id: TurnId) -> None:
        step = PHONE.bytes_of(PIECE_MS)
        for at in range(0, len(event.audio), step):
            audio = event.audio[at : at + step]
            before, end = (size * 1000 // PHONE.rate for size in (at, at + len(audio)))
            piece = Piece(
                turn_id,
                event.start_ms + end,
                end - before,
                base64.b64encode(audio).decode(),
                next(self._numbers),
            )
            self._pieces.append(piece)
            self._unplayed_ms += piece.duration_ms
            if self._held is None:
                self._send_piece(piece)

    def _ended(self, ended: TurnEnded) -> None:
        if ended.turn_id == self._running:
            self._running = None
        if ended.turn_id == self._held:
            self._held = None
        if ended.status != "completed":
            self._forget(ended.turn_id)
        if self._ends and not self._pieces:
            self._line.hang_up()

    def _forget(self, turn_id: TurnId | None = None) -> None:
        """Drop the sound of a turn, or all, that was not played."""
        kept = deque(piece for piece in self._pieces if turn_id is not None and piece.turn_id != turn_id)
        if len(kept) < len(self._pieces):
            had_room, self._pieces = self.has_room, kept
            self._unplayed_ms = sum(piece.duration_ms for piece in kept)
            self._send({"event": "clear"})
            self._clears += 1
            self._send_all()
            if not had_room and self.has_room:
                self._line.room()

    def _send_all(self) -> None:
        for piece in self._pieces:
            self._send_piece(piece)

    def _send_piece(self, piece: Piece) -> None:
        self._send({"event": "media", "media": {"payload": piece.payload}})
        self._send({"event": "mark", "mark": {"name": f"{self._clears}.{piece.number}"}})

    def _send(self, message: JsonMap) -> None:
        self._line.send({**message, "streamSid": self._stream_sid})


def _start_of(message: JsonMap, body: JsonMap) -> Start:
    given = body.get("customParameters")
    parameters = {
        name[:MAX_PARAMETER_CHARS]: value[:MAX_PARAMETER_CHARS]
        for name, value in (list(given.items())[:MAX_PARAMETERS] if isinstance(given, dict) else ())
        if isinstance(value, str)
    }
    stream_sid = message.get("streamSid") or body.get("streamSid")
    return Start(
        str(stream_sid)[:100], str(body.get("callSid"))[:100], str(body.get("accountSid"))[:100], parameters
    )


def _audio(body: JsonMap) -> bytes:
    """Return the sound of a `media` message; empty for none."""
    payload = body.get("payload")
    if not isinstance(payload, str) or len(payload) > MAX_MEDIA_CHARS:
        return b""
    try:
        return base64.b64decode(payload, validate=True)[: PHONE.bytes_of(1000)]
    except (binascii.Error, ValueError):
        return b""
