"""Counts and durations of all sessions together."""

from __future__ import annotations

from collections import Counter

from .histogram import Histogram

TIMES = {
    "connect": "connect → session.opened",
    "first-token": "input → first token",
    "gap": "gap between tokens",
    "interrupt": "interrupt → turn.ended",
    "last-output": "interrupt → last output on its way",
    "stale": "interrupt → last stale event",
    "resume": "reconnect → replay.done",
    "lag": "generator's own lag",
}
"""What is timed, by the name that flags and JSON use. Of `stale` there must be none."""

TIMER_S = 0.002
"""What a timer of an event loop may be late without anything being wrong: they count whole milliseconds."""


class Figures:
    """The figures of one run.

    Attributes:
        times: The durations, by the names of `TIMES`.
        turns: Ends of turns, by status and reason.
        outcomes: Answers to interrupts.
        errors: Errors, by kind.
        tokens: Received pieces of text and audio.
        stale: Events of a turn that came after its end, or after its interrupt was accepted.
        asked: Inputs.
        cut_early: Turns interrupted before their first token, which have no time to it.
        opened: Sessions that are open now.
        reached: Maximum number of open sessions.
        dropped: Lines that were cut on purpose.
    """

    def __init__(self) -> None:
        self.times = {name: Histogram() for name in TIMES}
        self.turns: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.tokens = 0
        self.stale = 0
        self.asked = 0
        self.cut_early = 0
        self.opened = 0
        self.reached = 0
        self.dropped = 0

    def begun(self, intended: float, now: float) -> float:
        """Return the start of a duration, and record the generator's lag.

        A request is timed from when it was due, not from when it was sent: otherwise a stall delays
        the requests that would have shown it ("coordinated omission"). Only what a timer may be late
        is forgiven.
        """
        self.times["lag"].record(max(0.0, now - intended))
        return now if now - intended <= TIMER_S else intended
