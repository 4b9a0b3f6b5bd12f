"""The support desk: orders, refunds that ask, and a booking that is not cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Any

import pytest

from bargein_server.agents.tools import ToolError
from bargein_server.examples import support
from bargein_server.examples.support import Orders, agent
from example_client import Talk, talking
from model_server import Upstream
from scripted_model import call, is_result, say
from waiting import until


class Gate:
    """A point of the database at which its thread waits.

    Attributes:
        reached: Whether a thread is there.
        opened: Lets it go on.
    """

    def __init__(self, work: Any) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._work = work

    def __call__(self, *arguments: Any) -> Any:
        """Wait, then do the work."""
        self.reached.set()
        assert self.opened.wait(10)
        return self._work(*arguments)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Orders]:
    """Fresh orders in memory."""
    monkeypatch.delenv("SUPPORT_DB", raising=False)
    support.orders.cache_clear()
    with closing(support.orders()) as fresh:
        yield fresh
    support.orders.cache_clear()


def state(desk: Orders, number: str = "A-1001") -> str:
    """Return the state of an order."""
    return str({order["number"]: order["state"] for order in desk.of("guest")}[number])


async def until_running(talk: Talk) -> None:
    """Ask for a refund, allow it, and wait until it runs."""
    await talk.ask("Refund the lamp")
    await talk.answer(call("refund", number="A-1001"))
    await talk.decide(True)


async def results(talk: Talk, text: str = "and?") -> list[str]:
    """Ask once more; return the results of tools that the model gets."""
    await talk.ask(text)
    messages = await talk.answer(say("So it is."))
    assert (await talk.ended())["status"] == "completed"
    return [message["content"] for message in messages if is_result(message)]


async def test_orders_are_looked_up_and_a_refund_asks(upstream: Upstream, desk: Orders) -> None:
    """The model sees the orders of this customer only; the refund is made after the consent."""
    async with talking(agent, upstream) as talk:
        await talk.ask("I want my money back for the lamp")
        await talk.answer(call("list_orders"))
        messages = await talk.answer(say("One moment. "), call("refund", number="A-1001"))
        assert "A-1003" in messages[-1]["content"]
        assert "A-2001" not in messages[-1]["content"]
        await talk.client.until("tool.confirm")
        assert state(desk) == "delivered"
        asked = talk.of("tool.confirm")[0]
        await talk.client.send({"type": "tool.decision", "call_id": asked["call_id"], "allow": True})
        messages = await talk.answer(say("Done."))
        assert "49.00 EUR" in messages[-1]["content"]
        assert (await talk.ended())["status"] == "completed"
    assert state(desk) == "refunded"


async def test_a_refund_that_is_not_allowed(upstream: Upstream, desk: Orders) -> None:
    """Nothing is paid, and the model is told."""
    async with talking(agent, upstream) as talk:
        await talk.ask("Refund the lamp")
        await talk.answer(call("refund", number="A-1001"))
        await talk.decide(False)
        messages = await talk.answer(say("As you like."))
        assert "not allowed" in messages[-1]["content"]
        await talk.ended()
    assert state(desk) == "delivered"


async def test_an_interrupt_at_the_question(upstream: Upstream, desk: Orders) -> None:
    """Nothing is paid, a late consent counts for nothing, and the next model sees a cancelled call."""
    async with talking(agent, upstream) as talk:
        await talk.ask("Refund the lamp")
        await talk.answer(call("refund", number="A-1001"))
        asked = await talk.client.until("tool.confirm")
        assert (await talk.interrupt())["outcome"] == "interrupted"
        await talk.client.send({"type": "tool.decision", "call_id": asked["call_id"], "allow": True})
        assert await results(talk) == ["cancelled"]
    assert state(desk) == "delivered"


async def test_an_interrupt_while_money_is_paid(
    upstream: Upstream, desk: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refund goes on in the background; its result is in the history once it exists."""
    gate = Gate(desk.refund)
    monkeypatch.setattr(desk, "refund", gate)
    async with talking(agent, upstream) as talk:
        await until_running(talk)
        await until(gate.reached.is_set)
        assert (await talk.interrupt())["outcome"] == "interrupted"
        assert await results(talk) == ["running"]
        gate.opened.set()
        await until(lambda: not talk.server.sessions.background)
        [result] = await results(talk)
        assert "49.00 EUR" in result
    assert state(desk) == "refunded"


async def test_an_interrupt_while_a_pickup_is_booked(
    upstream: Upstream, desk: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until the booking is made and reported; then the turn ends, and the next model knows."""
    gate = Gate(desk.book_pickup)
    monkeypatch.setattr(desk, "book_pickup", gate)
    async with talking(agent, upstream) as talk:
        await talk.ask("Fetch the chair")
        await talk.answer(call("book_pickup", number="A-1002", day="2026-12-01"))
        await talk.decide(True)
        await until(gate.reached.is_set)
        assert (await talk.interrupt())["outcome"] == "deferred"
        gate.opened.set()
        assert (await talk.ended())["status"] == "interrupted"
        assert "Pickup P-7001 is booked for 2026-12-01" in [s["message"] for s in talk.of("status")]
        [result] = await results(talk)
        assert "P-7001" in result


async def test_a_forced_interrupt_does_not_wait_for_the_booking(
    upstream: Upstream, desk: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn ends at once; the booking is made all the same, and its result is not lost."""
    gate = Gate(desk.book_pickup)
    monkeypatch.setattr(desk, "book_pickup", gate)
    async with talking(agent, upstream) as talk:
        await talk.ask("Fetch the chair")
        await talk.answer(call("book_pickup", number="A-1002", day="2026-12-01"))
        await talk.decide(True)
        await until(gate.reached.is_set)
        assert (await talk.interrupt(force=True))["outcome"] == "interrupted"
        gate.opened.set()
        await until(lambda: not talk.server.sessions.background)
        [result] = await results(talk)
        assert "P-7001" in result


def test_what_the_database_refuses(desk: Orders) -> None:
    """A second refund, a parcel on its way, the order of somebody else, a second pickup."""
    desk.refund("guest", "A-1001")
    with pytest.raises(ToolError, match="refunded before"):
        desk.refund("guest", "A-1001")
    with pytest.raises(ToolError, match="not delivered"):
        desk.refund("guest", "A-1003")
    with pytest.raises(ToolError, match="no order"):
        desk.refund("guest", "A-2001")
    desk.book_pickup("guest", "A-1002", date(2026, 12, 1))
    with pytest.raises(ToolError, match="booked already"):
        desk.book_pickup("guest", "A-1002", date(2026, 12, 2))
