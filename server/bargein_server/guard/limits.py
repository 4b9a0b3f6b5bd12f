"""Limits on connections, held bytes, and rates.

Reading is never paused, so that an interrupt is always read (contract 12). Limits on messages and bytes
take the place of that pause.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address
from time import monotonic

from ..core.side_channel import SharedSnapshot
from ..settings import share_of
from .shared import CONNECTIONS, SharedCounts

UNKNOWN_ADDRESS = "unknown"
"""Key of all clients whose address is not an IP address."""


def address_key(address: str | None) -> str:
    """Return the key under which a client's address is limited.

    The text may come from a header such as `X-Forwarded-For`, so only IP addresses become keys of their own.
    An IPv6 client usually has a whole /64 network, which is one key.

    Args:
        address: The address; None for the peer of a Unix socket, which has none.

    Returns:
        An empty text for a client without an address: it has no limits of its own.
    """
    if not address:
        return ""
    try:
        parsed = ip_address(address[:64])
    except ValueError:
        return UNKNOWN_ADDRESS
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        if mapped is None:
            return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
        parsed = mapped
    return str(parsed)


class ByteBudget:
    """Bytes that are held at a time, in total and by one client.

    Args:
        most: Maximum number of bytes.
        share: Maximum part of it for one client.
    """

    def __init__(self, most: int, share: float) -> None:
        self._most = most
        self._of_one = share_of(most, share)
        self._by_client: Counter[str] = Counter()
        self.held = 0

    def take(self, client: str, size: int) -> bool:
        """Add bytes of a client if the limits allow it; return whether they do.

        Args:
            client: The client (`Caller.owner`); empty for one that cannot be told from others.
            size: Number of bytes.
        """
        of_client = self._by_client[client] + size
        if self.held + size > self._most or (client and of_client > self._of_one):
            return False
        self.add(client, size)
        return True

    def add(self, client: str, size: int) -> None:
        """Add bytes of a client that are held already."""
        self.held += size
        self._by_client[client] += size

    def exceeded(self, client: str) -> bool:
        """Return whether all clients, or this one, hold more than they may."""
        return self.held > self._most or self.share_exceeded(client)

    def share_exceeded(self, client: str) -> bool:
        """Return whether this client holds more than its share."""
        return bool(client) and self._by_client[client] > self._of_one

    def above_average(self, client: str) -> bool:
        """Return whether this client holds more than the others on average."""
        return self._by_client[client] * len(self._by_client) > self.held

    def give_back(self, client: str, size: int) -> None:
        """Remove bytes of a client."""
        self.held -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]


class SnapshotBudget:
    """Bytes of snapshots that followers have not taken; shared ones once.

    Args:
        most: Maximum number of bytes.
    """

    def __init__(self, most: int) -> None:
        self._budget = ByteBudget(most, 1.0)

    @property
    def held(self) -> int:
        """Bytes of all snapshots in use."""
        return self._budget.held

    def use(self, shared: SharedSnapshot) -> bool:
        """Keep a snapshot for one more connection; return whether there is room."""
        if not shared.users and not self._budget.take("", len(shared.frame)):
            return False
        shared.users += 1
        return True

    def release(self, shared: SharedSnapshot) -> None:
        """Record that a connection has sent a snapshot."""
        shared.users -= 1
        if not shared.users:
            self._budget.give_back("", len(shared.frame))


class Connections:
    """Counts connections, in total and by address.

    Args:
        most: Maximum number of connections.
        per_address: Maximum number of connections from one address.

    Attributes:
        shared: Counts of all workers, which then decide about an address; None in a server of one process.
    """

    def __init__(self, most: int, per_address: int) -> None:
        self._most = most
        self._per_address = per_address
        self._by_address: Counter[str] = Counter()
        self.shared: SharedCounts | None = None

    def __len__(self) -> int:
        return self._by_address.total()

    def is_full(self) -> bool:
        """Return whether the connection limit is reached."""
        return len(self) >= self._most

    def has_enough(self, address: str) -> bool:
        """Return whether the limit of this address is reached."""
        if not address:
            return False
        count = self._by_address[address] if self.shared is None else self.shared.total(CONNECTIONS, address)
        return count >= self._per_address

    def enter(self, address: str) -> None:
        """Add a connection."""
        self._by_address[address] += 1
        if self.shared is not None:
            self.shared.add(CONNECTIONS, address, 1)

    def leave(self, address: str) -> None:
        """Remove a connection."""
        self._by_address[address] -= 1
        if self.shared is not None:
            self.shared.add(CONNECTIONS, address, -1)
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

    def level(self, now: float) -> float:
        """Return the amount that may be taken."""
        return self._extra + min(self._burst, self._level + (now - self._at) * self._rate)

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

    def spend(self, amount: float, now: float) -> None:
        """Take an amount in any case; a debt stops everything until refilled."""
        if not self.take(amount, now):
            self._level -= amount


class AddressRates:
    """Limits on requests and their bytes, by address.

    A request has no connection of its own that could be counted.

    Args:
        messages_per_s: Requests per second.
        bytes_per_s: Bytes per second.

    Attributes:
        shared: Counts of all workers, over which the limit on requests holds as well; None in a server of one
            process.
    """

    def __init__(self, messages_per_s: float, bytes_per_s: float) -> None:
        self.shared: SharedCounts | None = None
        self._messages_per_s = messages_per_s
        self._bytes_per_s = bytes_per_s
        self._buckets: OrderedDict[str, tuple[TokenBucket, TokenBucket]] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Count a request; return False when it exceeds the limit."""
        if not address:
            return True
        if self.shared is not None and self.shared.count_request(address) > BURST_S * self._messages_per_s:
            return False
        return self._buckets_of(address, now)[0].take(1, now)

    def take_bytes(self, address: str, size: int, now: float) -> bool:
        """Count bytes of a body; return False when they exceed the limit."""
        return not address or self._buckets_of(address, now)[1].take(size, now)

    def allows(self, address: str, now: float) -> bool:
        """Return whether one more request is within the limits; count nothing."""
        buckets = self._buckets.get(address)
        return buckets is None or buckets[0].level(now) >= 1

    def spend(self, address: str, size: int, now: float) -> None:
        """Count bytes that a request caused; too many delay further requests."""
        if address:
            self._buckets_of(address, now)[1].spend(size, now)

    def _buckets_of(self, address: str, now: float) -> tuple[TokenBucket, TokenBucket]:
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
        return buckets


WARNING_INTERVAL_S = 60.0
"""Seconds between two warnings of the same kind."""


class RareLog:
    """Logger of warnings that peers can cause as often as they like.

    Args:
        log: The logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next: dict[str, float] = {}

    def warning(self, message: str, *args: object) -> None:
        """Log a warning unless the same message was logged in the last minute.

        Args:
            message: The format, which is the kind; never text of a peer.
            args: Its arguments.
        """
        now = monotonic()
        if now >= self._next.get(message, 0.0):
            self._next[message] = now + WARNING_INTERVAL_S
            self._log.warning(message, *args)
