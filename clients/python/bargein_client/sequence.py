"""Numbers of a session's durable events: duplicates and gaps."""

from __future__ import annotations

import bargein_protocol as bp

from .errors import ServerViolation
from .phases import gap_before


class SequenceTracker:
    """Position of the client in the session's stream of numbered events.

    Attributes:
        last_seq: The last number that was taken.
        duplicates: Number of events that came twice and were dropped.
    """

    def __init__(self) -> None:
        self.last_seq = bp.NO_SEQ
        self.duplicates = 0
        self._gap_after: bp.Seq | None = None
        self._gap_at_resume: bp.Seq | None = None

    def begin_channel(self) -> None:
        """Note that a new channel is open; its resume may fill the gap."""
        self._gap_at_resume = self._gap_after

    def count_missing(self, event: bp.ServerEvent | bp.UnknownEvent) -> int:
        """Return the number of events that are missing before this one for good.

        Raises:
            ServerViolation: Events are missing, and no resume has asked for them yet.
        """
        missing = gap_before(event, self.last_seq)
        if not missing:
            return 0
        if self._gap_at_resume != self.last_seq:
            self._gap_after = self.last_seq
            raise ServerViolation(f"expected number {self.last_seq + 1}, {missing} are missing")
        self._gap_after = self._gap_at_resume = None
        return missing

    def is_duplicate(self, seq: bp.Seq) -> bool:
        """Return whether a number was taken before, and count it if so."""
        if seq > self.last_seq:
            return False
        self.duplicates += 1
        return True
