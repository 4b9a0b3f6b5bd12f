"""Negotiation of a session's audio: the client asks, the server grants."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from bargein_protocol import AudioFormat, SessionAudio, TurnDetection
from bargein_protocol.audio import ENCODINGS, RATES

from ...settings import Settings
from .floor import SAMPLES_PER_MS, Rules, rules_of

OUTPUT_RATE = 24_000
MIN_RATE, MAX_RATE = RATES[0], RATES[-1]


def always(again: bool) -> bool:
    """Return True."""
    return True


class AudioSupport(Struct, frozen=True):
    """Audio that a server can take and make.

    Args:
        hears: Whether it takes input audio.
        judges: Whether it has a judge of complete utterances.
        output_rate: Rate of the output for a client that asks for one that does not exist.
        language: Language of the speech of a client that names none, as a BCP 47 tag.
        partials: Whether it has a recogniser for speech that goes on.
        admit: Takes a place among the sessions that are heard; returns False when there is none. It is
            called with True for a session that had one before. A place is released by `StopListening`.
    """

    hears: bool = False
    judges: bool = False
    output_rate: int = OUTPUT_RATE
    language: str = "en"
    partials: bool = False
    admit: Callable[[bool], bool] = always


NO_EARS = AudioSupport()


class Granted(Struct, frozen=True):
    """Audio of a session after the negotiation.

    Args:
        answer: For `session.opened`; None without audio.
        rules: Rules of the floor; None when no input audio is taken on this connection.
    """

    answer: SessionAudio | None = None
    rules: Rules | None = None


NO_AUDIO = Granted()


def negotiate_audio(asked: SessionAudio | None, support: AudioSupport, settings: Settings) -> Granted:
    """Return the audio of a session.

    Input in a format that the server does not take is answered with one that it takes. The connection then
    takes none, because sound in another format cannot be told from it.
    """
    if asked is None:
        return NO_AUDIO
    output = asked.output
    if output is not None and (output.encoding not in ENCODINGS or not MIN_RATE <= output.rate <= MAX_RATE):
        output = AudioFormat(rate=support.output_rate)
    if asked.input is None or not support.hears:
        return Granted(None if output is None else SessionAudio(output=output))
    taken = _taken(asked.input)
    rules = rules_of(settings, asked.turn_detection or TurnDetection(), asked.language or support.language)
    detection = TurnDetection(
        type="server" if rules.detect else "none",
        silence_ms=rules.silence // SAMPLES_PER_MS,
        threshold=rules.threshold,
        prefix_ms=rules.prefix // SAMPLES_PER_MS,
        create_turn=rules.create_turn,
        interrupt=rules.interrupt,
    )
    rules = rules if support.partials else replace(rules, partial=0)
    answer = SessionAudio(input=taken, output=output, turn_detection=detection, language=asked.language)
    return Granted(answer, rules if taken == asked.input else None)


def _taken(asked: AudioFormat) -> AudioFormat:
    """Return the format that is nearest to the one that a client asks for."""
    encoding = asked.encoding if asked.encoding in ENCODINGS else "pcm16"
    return replace(asked, encoding=encoding, rate=min(RATES, key=lambda rate: abs(rate - asked.rate)))
