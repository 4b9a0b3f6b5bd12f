"""Limits on the number of open connections."""

from __future__ import annotations

from collections import Counter


class Connections:
    """Counts connections, in total and by address.

    Args:
        most: Maximum number of connections.
        per_address: Maximum number of connections from one address.
    """

    def __init__(self, most: int, per_address: int) -> None:
        self._most = most
        self._per_address = per_address
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._by_address.total()

    def is_full(self) -> bool:
        """Return whether the connection limit is reached."""
        return len(self) >= self._most

    def has_enough(self, address: str) -> bool:
        """Return whether the limit of this address is reached."""
        return self._by_address[address] >= self._per_address

    def enter(self, address: str) -> None:
        """Add a connection."""
        self._by_address[address] += 1

    def leave(self, address: str) -> None:
        """Remove a connection."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
