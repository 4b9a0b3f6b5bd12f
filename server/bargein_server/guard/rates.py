"""How much a client may send in a time.

Reading is never paused, so that an interrupt is read whatever else is going on (contract 12); a limit
on messages and bytes takes the place of that pause.
"""

from __future__ import annotations

from collections import OrderedDict

BURST_S = 2.0
"""A client that was quiet may send what this many seconds allow at once."""


MAX_ADDRESSES = 10_000
"""Of so many addresses what they sent is remembered; who is forgotten begins anew."""


class TokenBucket:
    """A rate with a burst (the token bucket of RFC 2697, with one rate).

    Args:
        rate: Units a second.
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
        """Let so much be taken beside what the rate allows."""
        self._extra += amount

    def take(self, amount: float, now: float) -> bool:
        """Take some; False when that is more than is there, and then nothing is taken."""
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
    """Limits requests and their bytes for each address: a request has no connection to count on.

    Args:
        messages_per_s: Requests a second.
        bytes_per_s: And their size.
    """

    def __init__(self, messages_per_s: float, bytes_per_s: float) -> None:
        self._messages_per_s = messages_per_s
        self._bytes_per_s = bytes_per_s
        self._buckets: OrderedDict[str, tuple[TokenBucket, TokenBucket]] = OrderedDict()

    def take(self, address: str, size: int, now: float) -> bool:
        """Count a request in; False when it is one too many.

        Args:
            address: Where it comes from.
            size: The bytes of its body.
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
