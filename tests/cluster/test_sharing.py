"""Counts, tickets and metrics over all processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bargein_protocol import SessionId
from bargein_server import AccessRequest, BearerTokens, Principal, Settings
from bargein_server.cluster.metrics_merge import merged
from bargein_server.cluster.place import number_of
from bargein_server.guard.admission import Admission, Refused
from bargein_server.guard.authentication import Tickets
from bargein_server.guard.limits import AddressRates, Connections
from bargein_server.guard.shared import CONNECTIONS, SOCKETS, SharedCounts
from bargein_server.guard.sharing import share
from bargein_server.guard.ticket_files import TicketFiles
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_store import RedisStore
from live_server import Serving
from two_processes import Pair


@pytest.fixture
def counts(tmp_path: Path) -> tuple[SharedCounts, SharedCounts]:
    """Return the counts of two workers."""
    SharedCounts.create(tmp_path / "counts", 2)
    now = [0.0]
    first, second = (SharedCounts(tmp_path / "counts", column, lambda: now[0]) for column in range(2))
    return first, second


def test_connections_of_an_address_count_at_every_worker(counts: tuple[SharedCounts, SharedCounts]) -> None:
    """The limit is the server's, and leaving frees a place anywhere."""
    first, second = (Connections(100, 2) for _ in range(2))
    first.shared, second.shared = counts
    first.enter("192.0.2.1")
    second.enter("192.0.2.1")
    assert first.has_enough("192.0.2.1")
    assert second.has_enough("192.0.2.1")
    assert not first.has_enough("192.0.2.2")
    second.leave("192.0.2.1")
    assert not first.has_enough("192.0.2.1")


def test_a_dead_worker_counts_no_more(counts: tuple[SharedCounts, SharedCounts]) -> None:
    """Its column is cleared; those of the others stay."""
    first, second = counts
    for each in counts:
        each.add(SOCKETS, "192.0.2.1", 3)
    second.clear()
    assert first.total(SOCKETS, "192.0.2.1") == 3
    assert first.total(CONNECTIONS, "192.0.2.1") == 0


def test_a_count_never_falls_below_zero(counts: tuple[SharedCounts, SharedCounts]) -> None:
    """A connection that was counted before its column was cleared leaves afterwards."""
    first, second = counts
    first.add(SOCKETS, "192.0.2.1", -1)
    second.add(SOCKETS, "192.0.2.1", 1)
    assert first.total(SOCKETS, "192.0.2.1") == 1


def test_requests_of_an_address_count_at_every_worker(tmp_path: Path) -> None:
    """An address that spreads its requests gets no more than the burst of one worker, per window."""
    SharedCounts.create(tmp_path / "counts", 2)
    now = [100.0]
    rates = [AddressRates(10, 1000) for _ in range(2)]
    for column, each in enumerate(rates):
        each.shared = SharedCounts(tmp_path / "counts", column, lambda: now[0])
    taken = [rates[n % 2].take("192.0.2.1", now[0]) for n in range(40)]
    assert taken == [True] * 20 + [False] * 20
    assert rates[0].take("192.0.2.2", now[0])
    now[0] += 2.0
    assert rates[0].take("192.0.2.1", now[0])


def test_a_ticket_is_valid_once_at_any_process(tmp_path: Path) -> None:
    """The process that issued it may be another one, or dead."""
    first, second = (TicketFiles(tmp_path, 30.0, 1.0, lambda: 0.0) for _ in range(2))
    ticket = first.issue("ann", 0.0)
    assert second.redeem(ticket, 0.0) == "ann"
    assert first.redeem(ticket, 0.0) is None
    assert second.redeem("../../etc/passwd", 0.0) is None


def test_a_ticket_ends_with_its_lifetime(tmp_path: Path) -> None:
    """By the clock that all processes share; its file goes with the next tickets."""
    now = [0.0]
    first, second = (TicketFiles(tmp_path, 30.0, 1.0, lambda: now[0]) for _ in range(2))
    old, left = first.issue("ann", 0.0), first.issue("bob", 0.0)
    now[0] = 31.0
    assert second.redeem(old, 31.0) is None
    first.issue("cid", 31.0)
    assert len(list(tmp_path.iterdir())) == 1
    assert second.redeem(left, 31.0) is None


def test_tickets_of_one_process_are_bounded_as_without_files(tmp_path: Path) -> None:
    """The oldest of a principal makes room, also in the folder."""
    files, plain = TicketFiles(tmp_path, 30.0, 0.0, lambda: 0.0), Tickets(30.0, share=0.0)
    first = files.issue("ann", 0.0)
    files.issue("ann", 0.0)
    assert files.redeem(first, 0.0) is None
    assert len(list(tmp_path.iterdir())) == 1
    assert plain.issue("ann", 0.0)


def _share(folder: Path, *servers: Serving) -> None:
    SharedCounts.create(folder / "counts", len(servers))
    for column, server in enumerate(servers):
        share(server.app.state.admission, SharedCounts(folder / "counts", column), folder / "tickets")


async def test_a_ticket_of_one_process_opens_a_session_at_another(pair: Pair, folder: Path) -> None:
    """In the subprotocol list, as a browser sends it, once."""
    async with pair(authenticator=BearerTokens({"secret-of-ann": "ann"})) as (asked, owner):
        _share(folder, asked, owner)
        status, _, body = await owner.request("/v1/tickets", "POST", Authorization="Bearer secret-of-ann")
        assert status == 201
        item = f"bargein.ticket.{json.loads(body)['ticket']}"
        async with asked.connect(subprotocols=["bargein.v1.json", item]) as client:
            await client.send({"type": "session.open"})
            assert (await client.until("session.opened"))["session_id"]


async def test_a_ticket_of_an_outage_is_valid_at_every_process(tmp_path: Path) -> None:
    """With its note: the folder takes the place of the store that many machines share."""
    SharedCounts.create(tmp_path / "counts", 2)
    users = BearerTokens({"secret-of-ann": "ann"})
    first, second = (Admission(Settings(), users, (), lambda: 0.0) for _ in range(2))
    store = RedisStore(RedisAddress((("nowhere", 1),)), 1000.0)
    for column, each in enumerate((first, second)):
        each.share_tickets(store, lambda: False)
        share(each, SharedCounts(tmp_path / "counts", column), tmp_path / "tickets")
    key = await first.issue_key(Principal("ann"), b"note")
    caller = second.enter({}, "ws", [f"bargein.ticket.{key}"], "192.0.2.1", "192.0.2.9")
    assert second.asks(caller)
    await second.identify(caller, AccessRequest(path="/"))
    assert (caller.principal, caller.known) == ("ann", True)
    assert await second.note_of(caller, key) == b"note"
    again = first.enter({}, "ws", [f"bargein.ticket.{key}"], "192.0.2.1", "192.0.2.9")
    with pytest.raises(Refused) as refused:
        await first.identify(again, AccessRequest(path="/"))
    assert (refused.value.status, again.known) == (503, False)
    assert not list((tmp_path / "tickets").iterdir())


ONE = """# HELP a_total Things.
# TYPE a_total counter
a_total{code="x}"} 1.0
a_total{code="y"} 2.0
# HELP b Size.
# TYPE b gauge
b 3.0
"""
TWO = """# HELP b Size.
# TYPE b gauge
b 4.0
# HELP a_total Things.
# TYPE a_total counter
a_total{code="x}"} 5.0
"""
BOTH = """# HELP a_total Things.
# TYPE a_total counter
a_total{worker="1",code="x}"} 1.0
a_total{worker="1",code="y"} 2.0
a_total{worker="2",code="x}"} 5.0
# HELP b Size.
# TYPE b gauge
b{worker="1"} 3.0
b{worker="2"} 4.0
"""


def test_samples_of_all_workers_stand_below_their_metric() -> None:
    """Each with its worker, in the text format of Prometheus."""
    assert merged([("1", ONE), ("2", TWO)]) == BOTH


async def test_a_scrape_anywhere_has_the_metrics_of_all(pair: Pair) -> None:
    """A dead process is missing, and disturbs nobody."""
    async with pair(metrics=True) as (asked, owner):
        async with owner.connect() as client:
            await client.send({"type": "session.open"})
            await client.until("session.opened")
            _, _, text = await asked.request("/metrics")
            assert b'bargein_sessions{worker="2",state="attached"} 1.0' in text
            assert b'bargein_sessions{worker="1",state="attached"} 0.0' in text
            await owner.node.stop()
            status, _, text = await asked.request("/metrics")
            assert status == 200
            assert b'worker="1"' in text
            assert b'worker="2"' not in text


def test_a_session_by_its_clients_own_id_has_one_worker() -> None:
    """Every process finds the same one, without asking."""
    ids = [SessionId(f"c_{n:040x}") for n in range(200)]
    numbers = [number_of(each, 4) for each in ids]
    assert set(numbers) == {0, 1, 2, 3}
    assert number_of(SessionId("s_0123abcd0123456789abcdef"), 4) is None
