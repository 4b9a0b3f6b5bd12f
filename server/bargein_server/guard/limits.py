"""Limits on open connections, and on the rates of messages and bytes.

Reading is never paused, so that an interrupt is always read (contract 12). Limits on messages and bytes
take the place of that pause.
"""

from __future__ import annotations

from collections import Counter, OrderedDict


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


BURST_S = 2.0
"""Seconds of the rate that a client may use at once after a pause."""

MAX_ADDRESSES = 10_000
"""Maximum number of addresses with a bucket; the one unused for longest is dropped."""


class TokenBucket:
    """A rate with a burst (the token bucket of RFC 2697, with one rate).

    Args:
        rate: Units per second.
        now: The time in seconds.
    """

    __slots__ = ("_at", "_burst", "_extra", "_level", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._burst = rate * BURST_S
        self._level = self._burst
        self._extra = 0.0
        self._at = now

    def add_once(self, amount: float) -> None:
        """Allow an amount once, in addition to the rate."""
        self._extra += amount

    def take(self, amount: float, now: float) -> bool:
        """Take an amount if the level allows it; return whether it does."""
        if amount <= self._extra:
            self._extra -= amount
            return True
        level = self._level + (now - self._at) * self._rate
        if level > self._burst:
            level = self._burst
        self._at = now
        if amount > level:
            self._level = level
            return False
        self._level = level - amount
        return True


class AddressRates:
    """Limits on requests and their bytes, by address.

    A request has no connection of its own that could be counted.

    Args:
        messages_per_s: Requests per second.
        bytes_per_s: Bytes per second.
    """

    def __init__(self, messages_per_s: float, bytes_per_s: float) -> None:
        self._messages_per_s = messages_per_s
        self._bytes_per_s = bytes_per_s
        self._buckets: OrderedDict[str, tuple[TokenBucket, TokenBucket]] = OrderedDict()

    def take(self, address: str, size: int, now: float) -> bool:
        """Count a request; return False when it exceeds a limit.

        Args:
            address: The client's address.
            size: Bytes of the body.
            now: The time in seconds.
        """
        buckets = self._buckets.get(address)
        if buckets is None:
            buckets = self._buckets[address] = (
                TokenBucket(self._messages_per_s, now),
                TokenBucket(self._bytes_per_s, now),
            )
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(address)
        messages, bytes_ = buckets
        return messages.take(1, now) and bytes_.take(size, now)
