"""Tuning of Python's garbage collector for a process that only serves.

By default the collector walks through all objects of all sessions whenever their number has grown by a
quarter. For 500 sessions that takes a tenth of a second, in which no frame is written or read. Turns
and sessions are freed without it, so such a walk may be rare.

The collector also walks through young objects whenever so many more were made than freed. A running turn
needs about 40, its task and the agent's generator among them. A few hundred sessions whose agents start to
write therefore look like garbage: walks of 5 to 20 ms, which free nothing. Only agents make cycles in
practice. So a walk takes place after twice as many objects as a full core has in flight. The first threshold,
and the one after a walk that freed objects, is an eighth of that; it doubles after each walk that did not.

The number of objects says nothing about their size: a cycle of ten objects may hold a megabyte. So a walk
also takes place when the memory of the process has grown, and after a minute, because a cycle may hold a
socket (contract 13).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from time import monotonic
from typing import Literal

MOST_YOUNG = 80_000
"""Young objects that start a walk where there is no garbage: 2000 turns. It takes 50 to 80 ms."""
LEAST_YOUNG = 10_000
"""Young objects that start a walk where there is garbage. It takes up to 10 ms."""
WORTHWHILE = 0.25
"""Share of the threshold that a walk must free; one that frees less was in vain."""
OLD = 60
"""Walks through young objects before one through all."""
GROWTH_BYTES = 32 * 1024 * 1024
"""Growth of the memory that starts a walk through young objects."""
GROWTH_SHARE = 0.25
"""Growth of the memory, as a share, that starts a walk through all objects; at least twice `GROWTH_BYTES`."""
PERIOD_S = 60.0
"""Time without a walk of `MemoryWatch` after which it starts one through young objects."""


def tune_gc() -> None:
    """Collect once, exempt all present objects, and adapt the thresholds."""
    gc.collect()
    gc.freeze()
    # Objects that outlive one walk are walked through once more, and then are old.
    gc.set_threshold(LEAST_YOUNG, 0, OLD)
    if _adapt not in gc.callbacks:
        gc.callbacks.append(_adapt)


def _adapt(phase: Literal["start", "stop"], walk: dict[str, int]) -> None:
    if phase == "stop" and walk["generation"] < 2:
        young = gc.get_threshold()[0]
        in_vain = walk["collected"] < WORTHWHILE * young
        gc.set_threshold(min(2 * young, MOST_YOUNG) if in_vain else LEAST_YOUNG, 0, OLD)


def resident_bytes(process: str = "self") -> int:
    """Return the resident memory (Linux), the peak, or 0 (Windows)."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class MemoryWatch:
    """Starts a walk of the collector when memory has grown, or after a time.

    Call `check` every tick.

    Args:
        resident: Returns the memory of the process in bytes.
        clock: Returns a time in seconds.
    """

    def __init__(
        self, resident: Callable[[], int] = resident_bytes, clock: Callable[[], float] = monotonic
    ) -> None:
        self._resident = resident
        self._clock = clock
        self._walked_at = clock()
        self._after_young = self._after_all = resident()

    def check(self) -> None:
        """Walk through young objects if it is time; through all if that fails."""
        grown = self._resident() - self._after_young > GROWTH_BYTES
        if not grown and self._clock() - self._walked_at < PERIOD_S:
            return
        gc.collect(1)
        resident = self._resident()
        if resident - self._after_all > max(2 * GROWTH_BYTES, GROWTH_SHARE * self._after_all):
            gc.collect()
            resident = self._after_all = self._resident()
        self._after_young = resident
        self._after_all = min(self._after_all, resident)
        self._walked_at = self._clock()
