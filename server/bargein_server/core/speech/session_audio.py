"""Audio of a session: its negotiated formats, and its ear."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from bargein_protocol import AgentOutput, AudioDelta, AudioFormat, SessionAudio
from bargein_protocol.errors import AT_CAPACITY

from ...settings import Settings
from ..liveness import Liveness
from ..output_pump import OutputPump
from ..requests import Requests
from ..sequencer import Sequencer
from ..turn_scheduler import TurnScheduler
from .floor import SAMPLES_PER_MS
from .listening import Listening
from .negotiation import NO_AUDIO, AudioSupport, Granted, negotiate_audio


class AudioParts(NamedTuple):
    """Parts of a session that its ear uses."""

    sequencer: Sequencer
    turns: TurnScheduler
    requests: Requests
    liveness: Liveness
    output: OutputPump


class AudioOfSession:
    """Audio of one session.

    Args:
        support: Audio that the server can take and make.
        settings: The limits.
        parts: Parts of the session.

    Attributes:
        granted: Audio of the newest connection.
        listening: The session's ear; None before a client has negotiated input audio.
    """

    __slots__ = ("_is_full", "_parts", "_settings", "_support", "granted", "listening")

    def __init__(self, support: AudioSupport, settings: Settings, parts: AudioParts) -> None:
        self._parts = parts
        self._support = support
        self._settings = settings
        self.granted: Granted = NO_AUDIO
        self.listening: Listening | None = None
        self._is_full = False

    @property
    def output(self) -> AudioFormat | None:
        """Format of the audio that the client takes; None when it takes none."""
        return None if self.granted.answer is None else self.granted.answer.output

    def open(self, asked: SessionAudio | None, now: float) -> SessionAudio | None:
        """Negotiate the audio of a connection and begin to listen; the answer."""
        self.close(now)
        granted = negotiate_audio(asked, self._support, self._settings)
        answer = granted.answer
        self._is_full = granted.rules is not None and not self._support.admit(self.listening is not None)
        if self._is_full:
            output = None if answer is None else answer.output
            answer = None if output is None else SessionAudio(output=output)
            granted = Granted(answer)
        self.granted = granted
        if granted.rules is not None and answer is not None and answer.input is not None:
            if self.listening is None:
                parts, judges = self._parts, self._support.judges
                self.listening = parts.requests.ear = Listening(
                    parts.sequencer, parts.turns, parts.requests, parts.liveness, parts.output, judges
                )
            self.listening.start(answer.input, granted.rules, now)
            answer = replace(answer, at_ms=self.listening.clock.position // SAMPLES_PER_MS or None)
        return answer

    def report_full(self) -> None:
        """Send an error when the connection got no place among the ears."""
        if self._is_full:
            self._parts.requests.error(AT_CAPACITY, "the server listens to no more sessions", None)

    def close(self, now: float) -> None:
        """Stop listening, because the client is gone."""
        if self.listening is not None:
            self.listening.stop(now)

    def wants(self, output: AgentOutput) -> bool:
        """Return whether the client takes an output, such as `audio.delta`."""
        return type(output) is not AudioDelta or self.output is not None
