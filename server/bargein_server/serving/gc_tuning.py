"""Tuning of Python's garbage collector for a process that only serves.

By default the collector walks through all objects of all sessions whenever their number has grown by a
quarter. For 500 sessions that takes a tenth of a second, in which no frame is written or read. Turns
and sessions are freed without it, so such a walk may be rare.

The collector also walks through young objects whenever so many more were made than freed. A running turn
needs about 40, its task and the agent's generator among them. A few hundred sessions whose agents start to
write therefore look like garbage: walks of 5 to 20 ms, which free nothing. Only agents make cycles in
practice. So a walk takes place after twice as many objects as a full core has in flight. After a walk that
freed objects the threshold is an eighth of that, and it doubles after each walk that did not.
"""

from __future__ import annotations

import gc
from typing import Literal

MOST_YOUNG = 80_000
"""Young objects that start a walk where there is no garbage: 2000 turns. It takes 50 to 80 ms."""
LEAST_YOUNG = 10_000
"""Young objects that start a walk where there is garbage. It takes up to 10 ms."""
WORTHWHILE = 0.25
"""Share of the threshold that a walk must free; one that frees less was in vain."""
OLD = 60
"""Walks through young objects before one through all."""


def tune_gc() -> None:
    """Collect once, exempt all present objects, and adapt the thresholds."""
    gc.collect()
    gc.freeze()
    # Objects that outlive one walk are walked through once more, and then are old.
    gc.set_threshold(MOST_YOUNG, 0, OLD)
    if _adapt not in gc.callbacks:
        gc.callbacks.append(_adapt)


def _adapt(phase: Literal["start", "stop"], walk: dict[str, int]) -> None:
    if phase == "stop" and walk["generation"] < 2:
        young = gc.get_threshold()[0]
        in_vain = walk["collected"] < WORTHWHILE * young
        gc.set_threshold(min(2 * young, MOST_YOUNG) if in_vain else LEAST_YOUNG, 0, OLD)
