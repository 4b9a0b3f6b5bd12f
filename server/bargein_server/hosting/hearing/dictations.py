"""Dictations of a streaming recogniser: one for each utterance."""

from __future__ import annotations

from collections.abc import Callable

from ...voice.interfaces import Dictation, Recogniser
from .detector_thread import Owner

KEPT = 2
"""Utterances of a session whose dictations are open: a newer one may begin before the last has its words."""


class Dictations:
    """Dictations of all sessions.

    Args:
        recogniser: The recogniser; one without `open` has none.

    Attributes:
        partial: Whether the recogniser gives words while the user speaks.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._open: Callable[[], Dictation] | None = getattr(recogniser, "open", None)
        self.partial = self._open is not None and bool(getattr(recogniser, "partials", False))
        self._by_ear: dict[Owner, dict[int, Dictation]] = {}

    def of(self, ear: Owner, utterance: int) -> Dictation | None:
        """Return the dictation of an utterance, a new one if need be, or None."""
        if self._open is None:
            return None
        own = self._by_ear.setdefault(ear, {})
        if utterance not in own:
            own[utterance] = self._open()
            while len(own) > KEPT:
                own.pop(min(own)).close()
        return own[utterance]

    def forget(self, ear: Owner) -> None:
        """Close the dictations of a session."""
        for dictation in self._by_ear.pop(ear, {}).values():
            dictation.close()

    def close(self) -> None:
        """Close all dictations."""
        for ear in list(self._by_ear):
            self.forget(ear)
