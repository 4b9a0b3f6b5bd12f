"""Checks of a session's events: lost sound, ends, holds, audio clock."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

from bargein_server.core.speech.floor import CLOCK_RATE, FRAME_SAMPLES, SAMPLES_PER_MS

from .caller import Caller

HEARD_MS = 20
"""Error of the heard sound from which it is wrong."""


class _Answer:
    """Sound of one turn."""

    def __init__(self) -> None:
        self.samples = 0
        self.end_ms = 0
        self.is_held = False


class Checks:
    """Checks of one caller.

    Args:
        caller: The caller; its events are taken over.
        counts: Where faults are counted, by kind, in milliseconds for sound.

    Attributes:
        open: Turns that were accepted and have not ended.
    """

    def __init__(self, caller: Caller, counts: Counter[str]) -> None:
        self._caller = caller
        self._counts = counts
        self._seq = 0
        self._answers: dict[str, _Answer] = {}
        self._ended: set[str] = set()
        self._speech = False
        # The audio clock at the starts of connections, the last one first, and the samples sent before it.
        self._bases = [0]
        self._base_sent = 0
        caller.on_event = self.take

    @property
    def open(self) -> set[str]:
        """Turns that were accepted and have not ended."""
        return set(self._answers)

    def position(self) -> int:
        """Return the position of the audio clock for all sound that was sent."""
        rate = self._caller.format.rate
        return self._bases[0] + (self._caller.sent - self._base_sent) * CLOCK_RATE // rate

    def line_cut(self) -> None:
        """Note the audio clock at a connection's end, before the next one's sound."""
        self._bases = [self.position(), self._bases[0]]
        self._base_sent = self._caller.sent

    def take(self, event: dict[str, Any]) -> None:
        """Check an event."""
        kind = event["type"]
        if (seq := event.get("seq")) is not None:
            if seq != self._seq + 1:
                self._counts["events lost" if seq > self._seq else "events doubled"] += 1
            self._seq = seq
        match kind:
            case "input.accepted":
                self._answers[event["turn_id"]] = _Answer()
                self._counts["turns"] += 1
            case "audio.delta":
                self._audio(event)
            case "turn.held" | "turn.resumed":
                self._hold(event["turn_id"], kind == "turn.held")
            case "turn.ended":
                self._end(event)
            case "speech.started" | "speech.stopped":
                self._spoke(event, kind == "speech.started")
            case "snapshot":
                self._counts["snapshots"] += 1
            case "error" | "input.rejected" | "goaway":
                self._counts[f"{kind} {event.get('code', event.get('reason'))}"] += 1
            case _:
                pass

    def _audio(self, event: dict[str, Any]) -> None:
        answer = self._answers.get(event["turn_id"])
        if answer is None:
            self._counts["sound after the end"] += event["duration_ms"]
            return
        if answer.is_held:
            self._counts["sound while held"] += event["duration_ms"]
        # The times are those of the samples before, so a lost sample shows even if the times fit each other.
        audio = self._caller.format
        missing = event["start_ms"] - answer.samples * 1000 // audio.rate
        self._counts["sound lost, ms"] += max(0, missing)
        self._counts["sound doubled, ms"] += max(0, -missing)
        answer.samples += len(base64.b64decode(event["audio"])) // audio.sample_bytes
        answer.end_ms = event["start_ms"] + event["duration_ms"]
        self._counts["sound, ms"] += event["duration_ms"]

    def _hold(self, turn_id: str, is_held: bool) -> None:
        answer = self._answers.get(turn_id)
        if answer is None or answer.is_held is is_held:
            self._counts["holds that do not fit"] += 1
        else:
            answer.is_held = is_held

    def _end(self, event: dict[str, Any]) -> None:
        turn_id = event["turn_id"]
        answer = self._answers.pop(turn_id, None)
        if answer is None:
            self._counts["ends doubled" if turn_id in self._ended else "ends of no turn"] += 1
            return
        self._ended.add(turn_id)
        self._counts[f"{event['status']} {event['reason']}"] += 1
        if event["heard"]["audio_ms"] > answer.end_ms:
            self._counts["heard more than was sent"] += 1

    def _spoke(self, event: dict[str, Any], started: bool) -> None:
        if started is self._speech:
            self._counts["speech that does not fit"] += 1
        self._speech = started
        # Speech begins and ends with a frame of the detector, and the first one begins with the connection.
        # So its time proves the audio clock to the millisecond. At a lost line speech stops by the old clock.
        at = event["at_ms"]
        if not any(_is_frame(at, base) for base in self._bases):
            self._counts["audio clock wrong"] += 1
        if at * SAMPLES_PER_MS > self.position():
            self._counts["audio clock ahead"] += 1


def _is_frame(at_ms: int, base: int) -> bool:
    """Return whether a frame after `base` begins or ends at a time."""
    frames = round((at_ms * SAMPLES_PER_MS - base) / FRAME_SAMPLES)
    return (base + frames * FRAME_SAMPLES) // SAMPLES_PER_MS == at_ms
