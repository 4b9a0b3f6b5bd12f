"""Open sockets are counted, and each address is read for a slice of an iteration."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from bargein_server.transport import sockets as module
from bargein_server.transport.sockets import (
    CHEAP_S,
    DEAR_S,
    LEAST_BYTES,
    MAX_UNREAD_BYTES,
    MOST_BYTES,
    READ_BYTES,
    SLICE_S,
    Sockets,
    Unread,
)

PARTS = 4
"""Parts that fit into a slice."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each part that is read take a quarter of a slice."""
    ticks = itertools.count()
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks) * 1.01 * SLICE_S / PARTS)


class Connection:
    """Records what it reads."""

    def __init__(self, sockets: Sockets, address: str) -> None:
        sockets.enter(self, address)
        self.unread = Unread(sockets.share(self))
        self.sizes: list[int] = []
        self.may_read = True

    def receive(self, parts: int) -> None:
        """Receive so many parts."""
        assert self.unread.add(bytes(parts * READ_BYTES))
        self.read_on()

    def read(self, data: bytes) -> bool:
        """Record a part."""
        self.sizes.append(len(data))
        return True

    def read_on(self) -> None:
        """Read what waits."""
        self.unread.read(self)


def _sockets() -> Sockets:
    return Sockets(32, 4, ["192.0.2.9"])


async def test_an_address_is_read_for_a_slice_of_an_iteration() -> None:
    """The rest follows in the next ones, and the others are not delayed."""
    sockets = _sockets()
    greedy, other = Connection(sockets, "192.0.2.1"), Connection(sockets, "192.0.2.2")
    greedy.receive(3 * PARTS)
    assert greedy.sizes == [READ_BYTES] * PARTS
    other.receive(1)
    assert len(other.sizes) == 1
    for iterations in (2, 3):
        await asyncio.sleep(0)
        assert len(greedy.sizes) == iterations * PARTS
    assert greedy.unread.data is None
    assert greedy.unread.share.unread == 0


async def test_the_connections_of_an_address_share_its_slice_in_turn() -> None:
    """One with much to read does not keep the others waiting."""
    sockets = _sockets()
    first, second, third = (Connection(sockets, "192.0.2.1") for _ in range(3))
    first.receive(3 * PARTS)
    second.receive(2)
    third.receive(2)
    assert [len(one.sizes) for one in (first, second, third)] == [PARTS, 0, 0]
    await asyncio.sleep(0)
    assert [len(one.sizes) for one in (first, second, third)] == [2 * PARTS, 0, 0]
    await asyncio.sleep(0)
    assert [len(one.sizes) for one in (first, second, third)] == [2 * PARTS, 2, 2]


async def test_the_clients_of_a_proxy_have_slices_of_their_own() -> None:
    """Its address says nothing about them."""
    sockets = _sockets()
    first, second = Connection(sockets, "192.0.2.9"), Connection(sockets, "192.0.2.9")
    first.receive(2 * PARTS)
    second.receive(1)
    assert len(second.sizes) == 1


async def test_a_closed_connection_leaves_no_bytes_behind() -> None:
    """Nor does it read any more."""
    sockets = _sockets()
    gone = Connection(sockets, "192.0.2.1")
    gone.receive(2 * PARTS)
    gone.unread.drop(gone)
    await asyncio.sleep(0)
    assert len(gone.sizes) == PARTS
    assert gone.unread.share.unread == 0


async def test_the_bytes_of_an_address_that_wait_are_bounded() -> None:
    """However many connections it has."""
    sockets = _sockets()
    connections = [Connection(sockets, "192.0.2.1") for _ in range(2)]
    half = bytes(MAX_UNREAD_BYTES // 2)
    assert all(one.unread.add(half) for one in connections)
    assert not connections[0].unread.add(b"x")
    assert Connection(sockets, "192.0.2.2").unread.add(b"x")


async def test_what_may_not_be_read_yet_waits() -> None:
    """Until the connection asks."""
    one = Connection(_sockets(), "192.0.2.1")
    one.may_read = False
    one.receive(1)
    assert (one.sizes, one.unread.data is None) == ([], False)
    one.may_read = True
    one.read_on()
    assert (one.sizes, one.unread.data is None) == ([READ_BYTES], True)


def test_sockets_are_counted_in_total_and_by_address() -> None:
    """A few more than the limit are let in, for refusals with their reason."""
    sockets = Sockets(32, 2, ["192.0.2.9", "198.51.100.0/24"])
    assert [sockets.enter(f"a{n}", "192.0.2.1") for n in range(11)] == [True] * 10 + [False]
    assert sockets.enter("b", "192.0.2.2")
    assert all(sockets.enter(f"p{n}", f"198.51.100.{n}") for n in range(12))
    assert all(sockets.enter(f"q{n}", "192.0.2.9") for n in range(17))
    assert len(sockets) == 41
    assert not sockets.enter("c", "192.0.2.3")
    for name in ("a10", "c", "b", "b"):
        sockets.leave(name)
    assert sockets.enter("d", "192.0.2.4")


@pytest.mark.parametrize(
    ("took_s", "sizes"),
    [
        (0.5 * CHEAP_S, [READ_BYTES, 2 * READ_BYTES, 4 * READ_BYTES]),
        (2 * DEAR_S, [READ_BYTES, READ_BYTES // 2]),
    ],
)
async def test_parts_are_as_large_as_their_time_allows(
    took_s: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a large frame longer parts are cheaper; many small chunks take long."""
    ticks = itertools.count()
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks) * took_s)
    one = Connection(_sockets(), "192.0.2.1")
    one.receive(32)
    assert one.sizes[: len(sizes)] == sizes
    for _ in range(200):
        await asyncio.sleep(0)
    assert one.unread.data is None
    assert min(one.sizes) >= LEAST_BYTES
    assert max(one.sizes) <= MOST_BYTES
