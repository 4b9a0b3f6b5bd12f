"""Position of the loudspeaker in a turn's sound, as a server estimates it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_REPORT_S = 0.25
"""Time that a report of the client is extended by the clock: a player that is held sends no other."""
_AWAY_S = 2.5
"""Time without a report after which the clock counts: no hold lasts as long, so the client is away."""
_POLL_S = 0.1
_SHORTEST_S = 0.005
_PATIENCE_S = 2.0
_REST_MS = 30.0


class Playout:
    """Sound that was sent, and an estimate of the played part.

    With reports of the client the position is the last report, extended by the clock for a quarter of a
    second. So a client that pauses its player stops the sound that is sent, too; after 2.5 s it counts as
    away, and the turn goes on by the clock. Without any report, a player is assumed that begins with the
    first sound and stands still while it has none.

    Args:
        reported_ms: Returns the reported position in milliseconds; None before the first report.

    Attributes:
        given_ms: Duration of the sound that was sent, in milliseconds.
    """

    def __init__(self, reported_ms: Callable[[], int | None]) -> None:
        self.given_ms = 0.0
        self._reported_ms = reported_ms
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock()
        self._report: int | None = None
        self._report_at = 0.0

    def gave(self, duration_ms: float) -> None:
        """Count sound that was sent."""
        self.given_ms += duration_ms
        self._until = max(self._until, self._clock()) + duration_ms / 1000

    def ahead_s(self) -> float:
        """Return the duration of sound that was sent and not played, in seconds."""
        report, now = self._reported_ms(), self._clock()
        if report is None:
            return max(0.0, self._until - now)
        if report != self._report:
            self._report, self._report_at = report, now
        silent_s = now - self._report_at
        extended = report + 1000 * (min(silent_s, _REPORT_S) + max(0.0, silent_s - _AWAY_S))
        return max(0.0, (self.given_ms - extended) / 1000)

    async def room(self, ahead_s: float) -> None:
        """Wait until at most `ahead_s` seconds of sound were not played."""
        while (too_far := self.ahead_s() - ahead_s) > 1e-6:
            await asyncio.sleep(min(max(too_far, _SHORTEST_S), _POLL_S))

    async def played(self) -> None:
        """Wait until all sound was played, at most for its rest and two seconds.

        With reports, the last one counts, not the clock.
        """
        deadline = self._clock() + self.ahead_s() + _PATIENCE_S
        while (now := self._clock()) < deadline:
            report = self._reported_ms()
            left = self.ahead_s() if report is None else (self.given_ms - report - _REST_MS) / 1000
            if left <= 0:
                return
            await asyncio.sleep(min(max(left, _SHORTEST_S), _POLL_S, deadline - now))
