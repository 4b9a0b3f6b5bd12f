"""Whether the client is there, and what silence or absence for too long brings about."""

from __future__ import annotations

from bargein_protocol import Heartbeat

from ..settings import Settings
from .stream import Stream
from .table import TurnTable


class Presence:
    """The client of a session: attached and fed with heartbeats, or away and waited for."""

    __slots__ = ("_away_since", "_handed", "_settings", "_silent_since", "_stream", "_table")

    def __init__(self, stream: Stream, table: TurnTable, settings: Settings, now: float) -> None:
        self._stream = stream
        self._table = table
        self._settings = settings
        self._away_since: float | None = now
        self._silent_since = now
        self._handed = 0

    def attached(self, now: float) -> None:
        """Take note that a client is there."""
        self._away_since = None
        self._silent_since = now

    def detached(self, now: float) -> None:
        """Take note that it is gone."""
        self._away_since = now

    def deadline(self) -> float:
        """Return when `tick` is due at the latest."""
        settings = self._settings
        if self._away_since is None:
            return self._silent_since + settings.heartbeat_s / 2
        return self._away_since + (settings.resume_s if self._table.current is None else settings.away_s)

    def tick(self, now: float) -> bool:
        """Do what is due; return whether nobody came back for the session in time (contract 11)."""
        if self._away_since is None:
            if now - self._silent_since >= self._settings.heartbeat_s / 2:
                self._check_silence(now)
            return False
        away = now - self._away_since
        if self._table.current is None:
            return away >= self._settings.resume_s
        if away >= self._settings.away_s:
            self._table.client_gone()
            self._away_since = now
        return False

    def _check_silence(self, now: float) -> None:
        # Looked at twice per interval, so that no gap is longer than one.
        if self._handed == self._stream.handed:
            current = self._table.current
            self._stream.answer(Heartbeat(message=current.fold.voice.status if current else None))
        self._handed = self._stream.handed
        self._silent_since = now
