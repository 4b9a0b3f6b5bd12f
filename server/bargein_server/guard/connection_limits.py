"""How many may be in at a time."""

from __future__ import annotations

from collections import Counter


class Connections:
    """Counts connections, all of them and those of each address.

    Args:
        most: How many may be open.
        per_address: How many of one address.
    """

    def __init__(self, most: int, per_address: int) -> None:
        self._most = most
        self._per_address = per_address
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._by_address.total()

    def is_full(self) -> bool:
        """Whether nobody more may come in."""
        return len(self) >= self._most

    def has_enough(self, address: str) -> bool:
        """Whether this address may not open one more."""
        return self._by_address[address] >= self._per_address

    def enter(self, address: str) -> None:
        """Count one in."""
        self._by_address[address] += 1

    def leave(self, address: str) -> None:
        """Count one out."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
