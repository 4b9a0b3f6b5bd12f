"""Warnings about what peers do, at most one of each kind in a minute."""

from __future__ import annotations

import logging
from time import monotonic

INTERVAL_S = 60.0


class RareLog:
    """Logger of warnings that peers can cause as often as they like.

    Args:
        log: The logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next: dict[str, float] = {}

    def warning(self, message: str, *args: object) -> None:
        """Log a warning unless the same message was logged in the last minute.

        Args:
            message: The format, which is the kind; never text of a peer.
            args: Its arguments.
        """
        now = monotonic()
        if now >= self._next.get(message, 0.0):
            self._next[message] = now + INTERVAL_S
            self._log.warning(message, *args)
