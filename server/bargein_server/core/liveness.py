"""Whether the client is there, and what silence or absence for too long brings about."""

from __future__ import annotations

from bargein_protocol import Heartbeat

from ..settings import Settings
from .sequencer import Sequencer
from .turn_scheduler import TurnScheduler

# How often a client that waits for a slot is told its place.
POSITION_S = 2.0


class Liveness:
    """The client of a session: attached and fed with heartbeats, or away and waited for."""

    __slots__ = (
        "_away_since", "_handed", "_heard_at", "_position", "_settings", "_silent_since", "_stream", "_table",
    )  # fmt: skip

    def __init__(self, stream: Sequencer, table: TurnScheduler, settings: Settings, now: float) -> None:
        self._stream = stream
        self._table = table
        self._settings = settings
        self._away_since: float | None = now
        self._silent_since = now
        self._heard_at = now
        self._handed = 0
        self._position = 0

    def attached(self, now: float) -> None:
        """Take note that a client is there."""
        self._away_since = None
        self._silent_since = self._heard_at = now

    def detached(self, now: float) -> None:
        """Take note that it is gone."""
        self._away_since = now

    def heard(self, now: float) -> None:
        """Take note of a frame from the client."""
        self._heard_at = now

    def deadline(self) -> float:
        """Return when `tick` is due at the latest."""
        settings = self._settings
        if self._away_since is None:
            return min(self._silent_since + self._interval(), self._heard_at + settings.idle_s)
        return self._away_since + (settings.resume_s if self._table.current is None else settings.away_s)

    def tick(self, now: float) -> bool:
        """Do what is due; return whether the session is over: nobody came back, or nobody uses it."""
        settings = self._settings
        if self._away_since is None:
            if self._table.current is not None:
                self._heard_at = now
            if now - self._silent_since >= self._interval():
                self._check_silence(now)
            return now - self._heard_at >= settings.idle_s
        away = now - self._away_since
        if self._table.current is None:
            return away >= settings.resume_s
        if away >= settings.away_s:
            self._table.client_gone()
            self._away_since = now
        return False

    def _interval(self) -> float:
        # Looked at twice per interval, so that no gap is longer than one.
        interval = self._settings.heartbeat_s / 2
        return min(interval, POSITION_S) if self._table.claim.waits else interval

    def _check_silence(self, now: float) -> None:
        current, position = self._table.current, self._table.claim.position
        if self._handed == self._stream.handed or position != self._position:
            self._stream.answer(
                Heartbeat(
                    message=current.fold.main_lane.status if current is not None else None,
                    position=position or None,
                )
            )
        self._position = position
        self._handed = self._stream.handed
        self._silent_since = now
