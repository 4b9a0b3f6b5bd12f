"""Interface between a session's requests and its ear."""

from __future__ import annotations

from typing import Protocol

from bargein_protocol import InputAudio, InputClear, InputCommit, TurnId

SpeechEvent = InputAudio | InputCommit | InputClear


class Ear(Protocol):
    """Ear of a session."""

    def receive(self, event: SpeechEvent, now: float) -> None:
        """Take an event of the client."""
        ...

    def client_decided(self, turn_id: TurnId) -> None:
        """Record that the client holds or resumes a turn itself."""
        ...
