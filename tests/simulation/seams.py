"""Where the server takes chance and time from, and what a seed puts there."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, tzinfo
from unittest.mock import patch

from bargein_server.core.replay_log import ReplayLog
from bargein_server.hosting import registry as sessions

_PACKAGES = (
    "bargein_server.serving",
    "bargein_server.transport",
    "bargein_server.hosting",
    "bargein_server.examples",
    "bargein_server.agents",
    "bargein_server.streams",
    "bargein_server.telemetry",
)


class Secrets:
    """The part of the module `secrets` that the server uses, from a seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_hex(self, size: int) -> str:
        """Return `size` bytes as hexadecimal digits."""
        return self._chance.randbytes(size).hex()

    def token_urlsafe(self, size: int) -> str:
        """Return text for `size` bytes."""
        return self._chance.randbytes(size).hex()


class _OneDay(datetime):
    """A calendar with one moment."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _OneDay:
        """Return it."""
        return cls(2026, 1, 1, tzinfo=tz)


@contextmanager
def seeded(
    chance: random.Random,
    look_at_clock: Callable[[], float],
    new_log: Callable[[int, int], ReplayLog] | None = None,
) -> Iterator[None]:
    """Give the server its secrets, its chance and its clock from a seed.

    Args:
        chance: Where ids, tokens and delays come from.
        look_at_clock: Stands for `time.perf_counter`, with which agents are paced.
        new_log: Makes the sessions' replay logs, from their bounds in events and in bytes.
    """
    drawn = {
        "perf_counter": look_at_clock,
        "secrets": Secrets(chance),
        "random": chance,
        "datetime": _OneDay,
    }
    with ExitStack() as stack:
        for name, module in sorted(sys.modules.items()):
            if name.startswith(_PACKAGES):
                for attribute in drawn.keys() & vars(module).keys():
                    stack.enter_context(patch.object(module, attribute, drawn[attribute]))
        if new_log is not None:
            stack.enter_context(patch.object(sessions, "MemoryLog", new_log))
        yield
