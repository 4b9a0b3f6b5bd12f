"""Counts of peers over all workers of a machine, in a mapped file.

A worker writes its own column alone and reads all of them, so there is no lock. A sum may miss a change of
this microsecond: limits are exact for each worker and almost exact over all.

Addresses are hashed with a secret of the file into a few rows of counters (a count-min sketch), so the file
has a fixed size, and an attacker cannot choose addresses that share a counter with a victim.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Callable
from hashlib import blake2s
from pathlib import Path
from time import monotonic

SLOTS = 4096
ROWS = 2
KEY_BYTES = 32

SOCKETS, CONNECTIONS = 0, 1
"""Tables: accepted sockets, and admitted connections and requests."""

_TABLES = 2
_WORDS_OF_TABLES = _TABLES * ROWS * SLOTS
_WORDS_OF_RATES = 2 * ROWS * SLOTS
_WORDS = _WORDS_OF_TABLES + _WORDS_OF_RATES

WINDOW_S = 2.0
"""Seconds over which requests are counted."""


class SharedCounts:
    """Counts of one worker beside those of the others.

    Args:
        path: The file (`create`).
        column: The worker's own column.
        clock: Returns the time in seconds, on a clock that all workers share.

    Raises:
        OSError: There is no such file.
    """

    def __init__(
        self, path: str | os.PathLike[str], column: int, clock: Callable[[], float] = monotonic
    ) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._key = self._map[:KEY_BYTES]
        self._words = memoryview(self._map)[KEY_BYTES:].cast("I")
        self._columns = range(0, len(self._words), _WORDS)
        self._own = column * _WORDS
        self._clock = clock

    @staticmethod
    def create(path: str | os.PathLike[str], columns: int) -> None:
        """Make the file, with all counts 0."""
        Path(path).write_bytes(secrets.token_bytes(KEY_BYTES) + bytes(4 * _WORDS * columns))

    def clear(self) -> None:
        """Set the own column to 0: its worker is dead, or begins."""
        self._words[self._own : self._own + _WORDS] = memoryview(bytes(4 * _WORDS)).cast("I")

    def add(self, table: int, address: str, amount: int) -> None:
        """Add to the own count of an address; it is never below 0."""
        words, own = self._words, self._own
        for cell in self._cells(address):
            at = own + table * ROWS * SLOTS + cell
            words[at] = max(words[at] + amount, 0)

    def total(self, table: int, address: str) -> int:
        """Return the count of an address over all workers."""
        words, offset = self._words, table * ROWS * SLOTS
        return min(
            sum(words[column + offset + cell] for column in self._columns) for cell in self._cells(address)
        )

    def count_request(self, address: str) -> int:
        """Count a request; return the window's number over all workers."""
        words, window = self._words, int(self._clock() / WINDOW_S) & 0xFFFFFFFF
        totals = []
        for cell in self._cells(address):
            offset = _WORDS_OF_TABLES + 2 * cell
            at = self._own + offset
            words[at + 1] = words[at + 1] + 1 if words[at] == window else 1
            words[at] = window
            totals.append(
                sum(
                    words[column + offset + 1] for column in self._columns if words[column + offset] == window
                )
            )
        return min(totals)

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._map.close()

    def _cells(self, address: str) -> tuple[int, ...]:
        digest = blake2s(address.encode(), digest_size=2 * ROWS, key=self._key).digest()
        return tuple(
            row * SLOTS + int.from_bytes(digest[2 * row : 2 * row + 2]) % SLOTS for row in range(ROWS)
        )
