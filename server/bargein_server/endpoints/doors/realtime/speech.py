"""Sound of a Realtime session: configuration, buffer and transcripts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Protocol

from bargein_protocol import (
    AudioFormat,
    ClientEvent,
    InputAudio,
    InputClear,
    ServerEvent,
    SessionAudio,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TranscriptDone,
    TurnDetection,
)
from bargein_protocol.audio import MAX_AUDIO_MS
from bargein_protocol.types import MAX_NAME_CHARS

from .asking import Asking
from .items import Items
from .requests import BadRequest
from .shapes import COMPLETED, JsonMap, new_id

_FORMATS = {
    "audio/pcm": AudioFormat(encoding="pcm16", rate=24_000),
    "audio/pcmu": AudioFormat(encoding="mulaw", rate=8_000),
    "audio/pcma": AudioFormat(encoding="alaw", rate=8_000),
}
_EAGERNESS_MS = {"low": 1000, "medium": 500, "auto": 500, "high": 300}
"""Silence that ends the speech, by the eagerness of `semantic_vad`."""


class Ears(Protocol):
    """The part of the connection for the user's sound."""

    @property
    def hears(self) -> bool:
        """Whether the server takes and sends sound."""
        ...

    def act(self, event: ClientEvent) -> None:
        """Give an event to the session."""
        ...

    def negotiate(self, asked: SessionAudio) -> SessionAudio | None:
        """Set the audio of the session; return the granted one."""
        ...


class Speech:
    """Sound of one session.

    Args:
        ears: The connection.
        items: The items of the conversation.
        emit: Sends an event: its type, and its fields by name.
        asking: Makes turns of the user's words.
    """

    def __init__(
        self,
        ears: Ears,
        items: Items,
        emit: Callable[..., None],
        asking: Asking,
    ) -> None:
        self._ears = ears
        self._items = items
        self._emit = emit
        self._asking = asking
        self._item_id = new_id("item")
        self._buffered = 0
        self._transcribes = False
        self._asked: SessionAudio | None = None
        self._granted: SessionAudio | None = None
        self._piece_bytes = _FORMATS["audio/pcm"].bytes_of(MAX_AUDIO_MS)
        self._committed: str | None = None  # the item of a commit whose words are not known yet

    # --- configuration ---------------------------------------------------------------------------

    def configure(self, session: JsonMap) -> None:
        """Negotiate the sound of a configuration, and write the grant into it.

        Raises:
            BadRequest: Its format is not supported.
        """
        given, taken = session["audio"]["input"], session["audio"]["output"]
        if not self._ears.hears:
            given["turn_detection"] = None
            session["output_modalities"] = ["text"]
            return
        speaks = session["output_modalities"] != ["text"]
        session["output_modalities"] = ["audio"] if speaks else ["text"]
        form = _FORMATS[given["format"]["type"]]
        self._piece_bytes = form.bytes_of(MAX_AUDIO_MS)
        asked = SessionAudio(
            input=form,
            output=_FORMATS[taken["format"]["type"]] if speaks else None,
            turn_detection=_detection(given["turn_detection"]),
            language=_language(given.get("transcription")),
        )
        if asked != self._asked:
            self._asked, self._granted = asked, self._ears.negotiate(asked)
        if self._granted is None or self._granted.input is None:
            given["turn_detection"] = None
        self._transcribes = bool(given.get("transcription"))

    # --- from the client -------------------------------------------------------------------------

    def append(self, event: JsonMap) -> None:
        """Take sound of the client."""
        try:
            audio = base64.b64decode(str(event.get("audio") or ""), validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("invalid_value", "expected audio in base64", "audio") from None
        if not self._ears.hears:
            return
        self._buffered += len(audio)
        for at in range(0, len(audio), self._piece_bytes):
            self._ears.act(InputAudio(audio=audio[at : at + self._piece_bytes]))

    def commit(self) -> None:
        """Make an item of the sound since the last one; a response answers it.

        Raises:
            BadRequest: There is no sound.
        """
        if not self._buffered or not self._ears.hears:
            text = "the buffer is empty" if self._ears.hears else "this server does not listen: send text"
            raise BadRequest("input_audio_buffer_commit_empty", text)
        self._buffered = 0
        self._asking.committed = True
        self._add_item(None)

    def clear(self) -> None:
        """Forget the sound since the last item."""
        self._buffered = 0
        if self._ears.hears:
            self._ears.act(InputClear())
        self._emit("input_audio_buffer.cleared")

    # --- from the session ------------------------------------------------------------------------

    def take(self, event: ServerEvent) -> bool:
        """Take an event of the session; return whether it was one about speech."""
        if isinstance(event, SpeechStarted):
            self._emit("input_audio_buffer.speech_started", item_id=self._item_id, audio_start_ms=event.at_ms)
        elif isinstance(event, SpeechStopped):
            self._emit("input_audio_buffer.speech_stopped", item_id=self._item_id, audio_end_ms=event.at_ms)
        elif isinstance(event, TranscriptDelta):
            if self._transcribes:
                kind = "conversation.item.input_audio_transcription.delta"
                self._emit(kind, item_id=self._item_id, content_index=0, delta=event.text)
        elif isinstance(event, TranscriptDone):
            self._transcribed(event)
        else:
            return False
        return True

    def _transcribed(self, event: TranscriptDone) -> None:
        committed = self._committed
        if committed is None:
            if not event.text:
                return  # a cough, or a word of agreement
            self._buffered = 0
            item_id = self._add_item(event.text)
        else:
            item_id, self._committed = committed, None
            self._items.update(item_id, content=[{"type": "input_audio", "transcript": event.text}])
        if self._transcribes:
            self._emit(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=event.text,
                usage={"type": "duration", "seconds": 0},
            )
        if committed is None:
            self._asking.said(item_id, event.input_id)

    def _add_item(self, transcript: str | None) -> str:
        """Add the item of the user's words; return its id."""
        item_id, self._item_id = self._item_id, new_id("item")
        if transcript is None:
            self._committed = item_id
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": COMPLETED,
            "role": "user",
            "content": [{"type": "input_audio", "transcript": transcript}],
        }
        previous = self._items.add(item)
        self._emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
        self._emit("conversation.item.added", previous_item_id=previous, item=item)
        self._emit("conversation.item.done", previous_item_id=previous, item=item)
        return item_id


def _detection(given: JsonMap | None) -> TurnDetection:
    """Return the detection of a configuration; without one, commits decide."""
    if given is None:
        return TurnDetection(type="none")
    semantic = given["type"] == "semantic_vad"
    return TurnDetection(
        silence_ms=_EAGERNESS_MS[given["eagerness"]] if semantic else given["silence_duration_ms"],
        prefix_ms=None if semantic else given["prefix_padding_ms"],
        threshold=None if semantic else given["threshold"],
        create_turn=given["create_response"],
        interrupt=given["interrupt_response"],
    )


def _language(transcription: JsonMap | None) -> str | None:
    """Return the language that a client names for its transcripts, or None."""
    language = (transcription or {}).get("language")
    return language[:MAX_NAME_CHARS] if language else None
