"""Histogram of durations in constant memory, exact to one per cent."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

SMALLEST_S = 1e-6
_GROWTH = math.log(1.01)
_BUCKETS = int(math.log(3600 / SMALLEST_S) / _GROWTH) + 2


class Histogram:
    """Counts of durations in buckets, each one per cent wider than the last.

    Attributes:
        count: Number of durations.
        max: The exact longest duration in seconds; 0 without any.
    """

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self._buckets = array("Q", bytes(8 * _BUCKETS))

    def record(self, seconds: float) -> None:
        """Count a duration, clamped to the range from a microsecond to an hour."""
        self.count += 1
        if seconds > self.max:
            self.max = seconds
        if seconds <= SMALLEST_S:
            self._buckets[0] += 1
            return
        # From 1 on, so that no rounded bucket is shorter than what it holds.
        bucket = int(math.log(seconds / SMALLEST_S) / _GROWTH) + 1
        self._buckets[min(bucket, _BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float:
        """Return the quantile of the durations in seconds; 0 without any."""
        wanted = max(1, math.ceil(self.count * share))
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= wanted:
                return min(self.max, SMALLEST_S * math.exp(bucket * _GROWTH))
        return self.max

    def steps(self) -> Iterator[tuple[float, float]]:
        """Yield cumulative share and upper bound of each bucket in use."""
        seen = 0
        for bucket, count in enumerate(self._buckets):
            if count:
                seen += count
                yield seen / self.count, min(self.max, SMALLEST_S * math.exp(bucket * _GROWTH))
