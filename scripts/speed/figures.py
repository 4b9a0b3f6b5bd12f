"""Results of all rounds, and their statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from math import ceil
from random import Random
from statistics import median
from typing import Any, NamedTuple

Key = tuple[str, str]
"""What was measured, and of which server."""
RESAMPLED = 400
SURE = 0.95


class Ratio(NamedTuple):
    """Ratio of two servers.

    Args:
        value: The ratio.
        low, high: Bootstrap confidence interval at level `SURE`, from resampled rounds (percentiles). None
            for a single round.
    """

    value: float
    low: float | None
    high: float | None


class Figures:
    """Results of all rounds.

    Attributes:
        values: One number per round.
        times: The sorted durations of each round, in seconds.
    """

    def __init__(self) -> None:
        self.values: dict[Key, list[float]] = {}
        self.times: dict[Key, list[list[float]]] = {}

    def note(self, what: str, name: str, value: float) -> None:
        """Add the number of a round."""
        self.values.setdefault((what, name), []).append(value)

    def keep(self, what: str, name: str, times: Iterable[float]) -> None:
        """Add the durations of a round."""
        self.times.setdefault((what, name), []).append(sorted(times))

    def get(self, what: str, name: str, share: float | None = None) -> float:
        """Return the figure of all rounds.

        Args:
            what: Name of a value or of durations.
            name: The server.
            share: The quantile of durations. Up to the median it is the median of the rounds', as for
                values. Beyond, it is that of all rounds together: the tail of one round is a handful
                of durations, and a median of tails would leave out the worst round, which is the tail.
        """
        if share is None or share <= 0.5:
            return median(self.rounds(what, name, share))
        return _together(self.times[what, name], share)

    def rounds(self, what: str, name: str, share: float | None = None) -> list[float]:
        """Return the figure of each round."""
        if share is None:
            return self.values[what, name]
        return [quantile(times, share) for times in self.times[what, name]]

    def count(self, what: str, name: str) -> int:
        """Return the number of durations of all rounds."""
        return sum(map(len, self.times[what, name]))

    def ratio(self, of: Key, to: Key, share: float | None = None, to_share: float | None = None) -> Ratio:
        """Compare two servers, round by round.

        Args:
            of: Figure and server of the numerator.
            to: Figure and server of the denominator.
            share: As for `get`: the median of the rounds' ratios, or one ratio of all rounds together.
            to_share: Quantile of the denominator, where it differs.
        """
        if share is None or share <= 0.5:
            pairs = zip(self.rounds(*of, share), self.rounds(*to, to_share or share), strict=True)
            ratios = [_divided(a, b) for a, b in pairs]
            return _ratio(len(ratios), lambda chosen: median(ratios[n] for n in chosen))
        ours, theirs = self.times[of], self.times[to]

        def tails(chosen: Sequence[int]) -> float:
            below = _together((theirs[n] for n in chosen), to_share or share)
            return _divided(_together((ours[n] for n in chosen), share), below)

        return _ratio(len(ours), tails)

    def raw(self) -> dict[str, Any]:
        """Return all results, ready for JSON; durations are in milliseconds."""
        found: dict[str, Any] = {"values": {}, "times_ms": {}}
        for (what, name), values in self.values.items():
            found["values"].setdefault(what, {})[name] = values
        for (what, name), rounds in self.times.items():
            in_ms = [[round(time * 1e3, 4) for time in times] for times in rounds]
            found["times_ms"].setdefault(what, {})[name] = in_ms
        return found


def _together(rounds: Iterable[list[float]], share: float) -> float:
    return quantile(sorted(chain.from_iterable(rounds)), share)


def _divided(value: float, by: float) -> float:
    return value / by if by > 0 else 0.0


def _ratio(rounds: int, of: Callable[[Sequence[int]], float]) -> Ratio:
    """Return the ratio that a function computes, with its interval."""
    value = of(range(rounds))
    if rounds < 2:
        return Ratio(value, None, None)
    random = Random(1)
    drawn = sorted(of(random.choices(range(rounds), k=rounds)) for _ in range(RESAMPLED))
    return Ratio(value, quantile(drawn, (1 - SURE) / 2), quantile(drawn, (1 + SURE) / 2))


def quantile(ordered: list[float], share: float) -> float:
    """Return the quantile of sorted values."""
    return ordered[max(0, ceil(len(ordered) * share) - 1)]


def spread(values: list[float]) -> float:
    """Return the spread of rounds as a share of their median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0
