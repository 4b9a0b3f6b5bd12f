"""Open sockets: their number, and the time in which they are read.

What a message costs is known only after it was handled, so time is counted, and not bytes. Each address has
a slice of each iteration of the event loop. One whose slice is used waits for the next iteration, in which
all others are read as well: fair queueing, as in a router (RFC 970). Alone, an address may use all time.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections import OrderedDict
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from time import perf_counter
from typing import Protocol

from ..guard.limits import address_key
from ..guard.shared import SOCKETS, SharedCounts

SLICE_S = 1.5e-3
"""Seconds in which one address is read before others are."""

REQUEST_S = 0.5e-3
"""Seconds that count for a request, because its application runs later, in a task."""

MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Received bytes of one address that may wait to be read."""

RECEIVE_S = 2e-9
"""Seconds that count for each byte, because the kernel and the event loop have copied it."""

READ_BYTES = 1024
"""Bytes that are parsed at a time at first: at most 170 frames, whose pongs leave in one write."""

LEAST_BYTES, MOST_BYTES = 128, 32 * 1024
"""Bytes that are parsed at a time where they take much time, and where they take little."""

CHEAP_S, DEAR_S = 0.1e-3, 0.4e-3
"""Seconds for a part below which the next one is twice as long, and above which it is half as long."""


class ReadingShare:
    """Reading time of one address.

    Args:
        address: The address (`address_key`); empty for a socket with a share of its own.

    Attributes:
        address: The address.
        sockets: Number of open sockets.
        spent_s: Seconds that count against the slice.
        unread: Received bytes that wait.
    """

    __slots__ = ("_due", "_waiting", "address", "sockets", "spent_s", "unread")

    def __init__(self, address: str = "") -> None:
        self.address = address
        self.sockets = 0
        self.spent_s = 0.0
        self.unread = 0
        self._waiting: OrderedDict[Readable, None] = OrderedDict()
        self._due = False

    def charge(self, seconds: float) -> None:
        """Count time that was spent for this address."""
        self.spent_s += seconds
        if self.spent_s > SLICE_S / 2:
            self.renew_soon()

    def wait(self, connection: Readable) -> None:
        """Let a connection read on in a later iteration, after waiting ones."""
        self._waiting.setdefault(connection)
        self.renew_soon()

    def leave(self, connection: Readable) -> None:
        """Forget a connection that may wait."""
        self._waiting.pop(connection, None)

    def renew_soon(self) -> None:
        """Start a new slice in the next iteration."""
        if not self._due:
            self._due = True
            get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._due = False
        self.spent_s = 0.0
        try:
            while self._waiting and self.spent_s < SLICE_S:
                self._waiting.popitem(last=False)[0].read_on()
        finally:
            if self._waiting:
                self.renew_soon()


class Readable(Protocol):
    """Connection whose bytes are read in parts."""

    @property
    def may_read(self) -> bool:
        """Whether the next part may be read."""
        ...

    def read(self, data: bytes) -> bool:
        """Parse bytes and act on them.

        Returns:
            Whether a larger part may follow: this one completed nothing that costs more than its bytes.
        """
        ...

    def read_on(self) -> None:
        """Continue after a wait."""
        ...


class Unread:
    """Received bytes of one connection that wait to be read.

    Args:
        share: The share of its address.

    Attributes:
        data: The bytes; None when none wait.
        share: The share.
    """

    __slots__ = ("_size", "data", "share")

    def __init__(self, share: ReadingShare) -> None:
        self.share = share
        self._size = READ_BYTES
        self.data: bytearray | None = None

    def add(self, data: bytes) -> bool:
        """Add received bytes; return whether the address has not too many."""
        if self.data is None:
            self.data = bytearray()
        self.data += data
        self.share.unread += len(data)
        return self.share.unread <= MAX_UNREAD_BYTES

    def read(self, connection: Readable) -> None:
        """Let the connection read until its share is used, then wait."""
        share = self.share
        while (data := self.data) is not None and connection.may_read:
            if share.spent_s >= SLICE_S:
                share.wait(connection)
                return
            part = bytes(data[: self._size])
            del data[: self._size]
            share.unread -= len(part)
            if not data:
                self.data = None
            began = perf_counter()
            may_grow = connection.read(part)
            took_s = perf_counter() - began
            share.charge(took_s + RECEIVE_S * len(part))
            if not may_grow:
                self._size = min(self._size, READ_BYTES)
            elif took_s < CHEAP_S:
                self._size = min(2 * self._size, MOST_BYTES)
            if took_s > DEAR_S:
                self._size = max(self._size // 2, LEAST_BYTES)

    def drop(self, connection: Readable) -> None:
        """Forget the bytes: the socket is closed, or of another protocol."""
        if self.data is not None:
            self.share.unread -= len(self.data)
            self.data = None
        self.share.leave(connection)


class Sockets:
    """Counts open sockets, from accept to close, in total and by address.

    A few more than the limit are accepted, so that probes and refusals get their answers.

    Args:
        most: Maximum number of connections.
        per_address: Maximum number of connections from one address.
        proxies: Addresses and networks of trusted proxies (`*` for all), which connect for many clients.

    Attributes:
        shared: Counts of all workers, which then decide about an address; None in a server of one process.
    """

    def __init__(self, most: int, per_address: int, proxies: Collection[str]) -> None:
        self._most = most + _reserve(most)
        self._per_address = per_address + _reserve(per_address)
        self._every = "*" in proxies
        self._proxies = [network for text in proxies if (network := _network(text)) is not None]
        self.shared: SharedCounts | None = None
        self._open: dict[object, ReadingShare] = {}
        self._shares: dict[str, ReadingShare] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, socket: object, address: str | None) -> bool:
        """Add an accepted socket; return whether it is within the limits.

        It is added in any case, until `leave`.
        """
        key = "" if self._is_proxy(address) else address_key(address)
        share = self._shares.get(key)
        if share is None:
            share = ReadingShare(key)
            if key:
                self._shares[key] = share
        self._open[socket] = share
        share.sockets += 1
        of_address = share.sockets
        if key and self.shared is not None:
            self.shared.add(SOCKETS, key, 1)
            of_address = self.shared.total(SOCKETS, key)
        return len(self._open) <= self._most and (not key or of_address <= self._per_address)

    def leave(self, socket: object) -> None:
        """Remove a closed socket."""
        share = self._open.pop(socket, None)
        if share is not None:
            share.sockets -= 1
            if share.address and self.shared is not None:
                self.shared.add(SOCKETS, share.address, -1)
            if not share.sockets:
                self._shares.pop(share.address, None)

    def share(self, socket: object) -> ReadingShare:
        """Return the share of an open socket; a new one for an uncounted socket."""
        return self._open.get(socket) or ReadingShare()

    def _is_proxy(self, address: str | None) -> bool:
        if self._every or not address:
            return True
        try:
            parsed: IPv4Address | IPv6Address = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


def _reserve(most: int) -> int:
    return 8 + most // 32


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text.strip())
    except ValueError:
        return None
