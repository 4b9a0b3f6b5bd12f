"""Options of `bargein-server` for voice."""

from __future__ import annotations

import argparse

from .interfaces import NotInstalled, VoiceParts


class VoiceOptionError(ValueError):
    """An option of voice cannot be used as it is; the message has the remedy."""


def add_voice_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("Voice")
    group.add_argument(
        "--voice",
        nargs="?",
        const="espeak",
        choices=("espeak", "piper", "none"),
        help="hear the user, and speak the agent's text with this voice (default: espeak; none hears only)",
    )
    group.add_argument(
        "--turn-judge",
        action="store_true",
        help="judge by the sound whether the user has finished, so that answers begin earlier",
    )


def voice_of(options: argparse.Namespace) -> VoiceParts | None:
    """Return the parts that the options name; None without voice.

    Raises:
        VoiceOptionError: A part is missing, or a judge or phone calls have nothing to hear.
    """
    if options.voice is None:
        if options.turn_judge:
            raise VoiceOptionError("--turn-judge judges what users say: give --voice as well")
        if "twilio" in options.door:
            raise VoiceOptionError("--door twilio takes phone calls: give --voice as well")
        return None
    from .local import local_parts

    try:
        return local_parts(options.voice, judge=options.turn_judge)
    except NotInstalled as error:
        raise VoiceOptionError(str(error)) from error
