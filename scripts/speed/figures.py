"""What was measured, of every round, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from statistics import median
from typing import Any

Key = tuple[str, str]
"""What was measured, and of which server."""


class Figures:
    """What all rounds gave.

    Attributes:
        values: One number a round.
        times: The durations of each round, sorted, in seconds.
    """

    def __init__(self) -> None:
        self.values: dict[Key, list[float]] = {}
        self.times: dict[Key, list[list[float]]] = {}

    def note(self, what: str, name: str, value: float) -> None:
        """Keep a round's number."""
        self.values.setdefault((what, name), []).append(value)

    def keep(self, what: str, name: str, times: Iterable[float]) -> None:
        """Keep a round's durations."""
        self.times.setdefault((what, name), []).append(sorted(times))

    def get(self, what: str, name: str, share: float | None = None) -> float:
        """Return the figure of all rounds.

        Args:
            what: A value, or durations.
            name: The server.
            share: The quantile of durations. Up to the median it is the median of the rounds', as for
                values. Beyond, it is that of all rounds together: the tail of one round is a handful
                of durations, and a median of tails would leave out the worst round, which is the tail.
        """
        if share is None or share <= 0.5:
            return median(self.rounds(what, name, share))
        return quantile(sorted(time for times in self.times[what, name] for time in times), share)

    def rounds(self, what: str, name: str, share: float | None = None) -> list[float]:
        """Return the figure of each round."""
        if share is None:
            return self.values[what, name]
        return [quantile(times, share) for times in self.times[what, name]]

    def count(self, what: str, name: str) -> int:
        """Return how many durations there are, of all rounds."""
        return sum(map(len, self.times[what, name]))

    def raw(self) -> dict[str, Any]:
        """Return everything, ready for JSON; durations in milliseconds."""
        found: dict[str, Any] = {"values": {}, "times_ms": {}}
        for (what, name), values in self.values.items():
            found["values"].setdefault(what, {})[name] = values
        for (what, name), rounds in self.times.items():
            in_ms = [[round(time * 1e3, 4) for time in times] for times in rounds]
            found["times_ms"].setdefault(what, {})[name] = in_ms
        return found


def quantile(ordered: list[float], share: float) -> float:
    """Return the smallest of sorted values that this share of them does not exceed."""
    return ordered[max(0, ceil(len(ordered) * share) - 1)]


def spread(values: list[float]) -> float:
    """Return how far rounds are apart, as a share of their median; what changes by less is noise."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0
