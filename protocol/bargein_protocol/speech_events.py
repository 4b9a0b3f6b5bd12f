"""Numbered events from the server about the user's speech, of no turn."""

from __future__ import annotations

from .event import Numbered
from .types import InputIdField, Milliseconds, Text


class SpeechStarted(Numbered, frozen=True, kw_only=True, tag="speech.started"):
    """Start of the user's speech, `at_ms` into the input audio."""

    at_ms: Milliseconds


class SpeechStopped(Numbered, frozen=True, kw_only=True, tag="speech.stopped"):
    """End of the user's speech, `at_ms` into the input audio."""

    at_ms: Milliseconds


class TranscriptDelta(Numbered, frozen=True, kw_only=True, tag="transcript.delta"):
    """A piece of the transcript of the user's speech."""

    text: Text


class TranscriptDone(Numbered, frozen=True, kw_only=True, tag="transcript.done"):
    """The complete transcript of the user's speech.

    Args:
        text: The words.
        input_id: The input that they become; None when they ask for no turn.
    """

    text: Text
    input_id: InputIdField | None = None
