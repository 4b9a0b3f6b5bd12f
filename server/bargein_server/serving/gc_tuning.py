"""Keeps Python's cyclic garbage collector from standing in the way: for a process that only serves.

By default it walks through all objects of all sessions whenever they have grown by a quarter: a tenth of
a second for 500 sessions, in which nothing is written and no interrupt is read. What a turn or a session
leaves behind is freed without it, so that such a walk may be rare.

It walks through what is young, too, whenever so many objects more were made than freed. A running turn needs
about 40, its task and the agent's generator among them, so that a few hundred sessions whose agents begin to
speak look like garbage to it: walks of 5 to 20 ms, which find nothing. Hardly anything but agents makes
cycles. So twice as many objects as a full core has in flight lead to a walk, an eighth of that after one that
found something, and twice as many again after each that did not.
"""

from __future__ import annotations

import gc
from typing import Literal

MOST_YOUNG = 80_000
"""So many objects lead to a walk where there is no garbage: what 2000 turns need. It takes 50 to 80 ms."""
LEAST_YOUNG = 10_000
"""The same where there is. To walk through so many takes up to 10 ms."""
WORTHWHILE = 0.25
"""A share of what led to a walk: one that frees less was in vain."""
OLD = 60
"""So many walks through what is young lead to one through all."""


def tune_gc() -> None:
    """Let the collector run only as often as it finds something. What exists already it never looks at."""
    gc.collect()
    gc.freeze()
    # What a walk leaves is walked through once more, and then is old.
    gc.set_threshold(MOST_YOUNG, 0, OLD)
    if _adapt not in gc.callbacks:
        gc.callbacks.append(_adapt)


def _adapt(phase: Literal["start", "stop"], walk: dict[str, int]) -> None:
    if phase == "stop" and walk["generation"] < 2:
        young = gc.get_threshold()[0]
        in_vain = walk["collected"] < WORTHWHILE * young
        gc.set_threshold(min(2 * young, MOST_YOUNG) if in_vain else LEAST_YOUNG, 0, OLD)
