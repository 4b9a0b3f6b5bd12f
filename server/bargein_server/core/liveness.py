"""Liveness of a session's client: heartbeats and timeouts.

A client that is attached gets a heartbeat in every interval without another frame. A session without a
client, or without use, expires.
"""

from __future__ import annotations

from bargein_protocol import Heartbeat

from ..settings import Settings
from .sequencer import Sequencer
from .turn_scheduler import TurnScheduler

# Interval in which a client whose turn waits for a permit gets its position.
POSITION_S = 2.0


class Liveness:
    """Timer of one session's client, attached or away.

    Attributes:
        heard_at: Time of the client's last frame, in seconds.
        resumes_late: Whether the session waits for its client for `idle_s` and not for `resume_s`.
    """

    __slots__ = (
        "_away_since",
        "_handed",
        "_position",
        "_sequencer",
        "_settings",
        "_silent_since",
        "_turns",
        "heard_at",
        "resumes_late",
    )  # fmt: skip

    def __init__(self, sequencer: Sequencer, turns: TurnScheduler, settings: Settings, now: float) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self._settings = settings
        self._away_since: float | None = now
        self._silent_since = now
        self.heard_at = now
        self._handed = 0
        self._position = 0
        self.resumes_late = False

    def attached(self, now: float) -> None:
        """Record that a client is attached."""
        self._away_since = None
        self._silent_since = self.heard_at = now

    def detached(self, now: float) -> None:
        """Record that the client is gone."""
        self._away_since = now

    def deadline(self) -> float:
        """Return the time at which `tick` is due at the latest."""
        settings = self._settings
        if self._away_since is None:
            interval = self._interval() if self._turns.permit.waits else settings.heartbeat_s / 2
            return min(self._silent_since + interval, self.heard_at + settings.idle_s)
        return self._away_since + self._away_limit()

    def tick(self, now: float) -> bool:
        """Carry out all due actions; return whether the session has expired.

        It has when its client did not return in time, or sent nothing for too long.
        """
        settings = self._settings
        if self._away_since is None:
            if self._turns.current is not None:
                self.heard_at = now
            if now >= self._silent_since + self._interval():
                self._check_silence(now)
            return now >= self.heard_at + settings.idle_s
        if self._turns.current is None:
            return now >= self._away_since + self._away_limit()
        if now >= self._away_since + self._away_limit():
            self._turns.client_gone()
            self._away_since = now
        return False

    def _away_limit(self) -> float:
        settings, current = self._settings, self._turns.current
        if current is None:
            return max(settings.resume_s, settings.idle_s) if self.resumes_late else settings.resume_s
        if current.calls is not None and current.calls.awaits_client:
            # A client whose protocol ends its stream with the question is away while its user decides.
            return max(settings.away_s, settings.confirm_s)
        return settings.away_s

    def _interval(self) -> float:
        # Checked twice per interval, so that no gap is longer than one.
        interval = self._settings.heartbeat_s / 2
        return min(interval, POSITION_S) if self._turns.permit.waits else interval

    def _check_silence(self, now: float) -> None:
        current, position = self._turns.current, self._turns.permit.position
        if self._handed == self._sequencer.handed or position != self._position:
            self._sequencer.answer(
                Heartbeat(
                    message=current.fold.main_lane.status if current is not None else None,
                    position=position or None,
                )
            )
        self._position = position
        self._handed = self._sequencer.handed
        self._silent_since = now
