"""Support desk: orders, refunds with consent, and an uncut booking.

    bargein-server bargein_server.examples.support:agent

Ask for your orders, a refund, a pickup. A refund needs the user's consent, and goes on when the user
interrupts: money is moved once or not at all. The booking of a pickup is a protected section: an interrupt
waits until it is made and reported. Orders are kept in the SQLite file `SUPPORT_DB`, otherwise in memory.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import date
from functools import cache, partial
from typing import Any

from bargein_server.agent import Turn, TurnClosed
from bargein_server.agents.tools import ToolError, tool

from .model import Model

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    number TEXT PRIMARY KEY, customer TEXT, article TEXT, cents INTEGER, state TEXT, refunded_cents INTEGER);
CREATE TABLE IF NOT EXISTS pickups (
    number TEXT PRIMARY KEY REFERENCES orders, day TEXT, id INTEGER);
INSERT OR IGNORE INTO orders VALUES
    ('A-1001', 'guest', 'Desk lamp', 4900, 'delivered', NULL),
    ('A-1002', 'guest', 'Office chair', 18900, 'delivered', NULL),
    ('A-1003', 'guest', 'Notebook, ruled', 700, 'shipped', NULL),
    ('A-2001', 'somebody else', 'Standing desk', 42900, 'delivered', NULL);
"""


class Orders:
    """Database of orders; each method is a transaction, in any thread.

    Args:
        path: The SQLite file, or `:memory:`.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def of(self, customer: str) -> list[dict[str, Any]]:
        """Return the orders of a customer."""
        with self._lock:
            rows = self._database.execute("SELECT * FROM orders WHERE customer = ?", (customer,))
            return [_shown(row) for row in rows]

    def refund(self, customer: str, number: str) -> dict[str, Any]:
        """Pay an order back, once."""
        with self._lock, self._database:
            done = self._database.execute(
                "UPDATE orders SET refunded_cents = cents WHERE number = ? AND customer = ?"
                " AND state = 'delivered' AND refunded_cents IS NULL",
                (number, customer),
            )
            order = self._find(customer, number)
            if not done.rowcount:
                why = "it was refunded before" if order["refunded_cents"] else "it is not delivered yet"
                raise ToolError(f"no refund for {number}: {why}")
            return {"number": number, "refunded": _euros(order["refunded_cents"])}

    def book_pickup(self, customer: str, number: str, day: date) -> dict[str, Any]:
        """Book the carrier for a parcel that goes back."""
        with self._lock, self._database:
            self._find(customer, number)
            (taken,) = self._database.execute("SELECT count(*) FROM pickups").fetchone()
            try:
                self._database.execute(
                    "INSERT INTO pickups VALUES (?, ?, ?)", (number, day.isoformat(), 7001 + taken)
                )
            except sqlite3.IntegrityError:
                raise ToolError(f"a pickup of {number} is booked already") from None
            return {"pickup": f"P-{7001 + taken}", "number": number, "day": day.isoformat()}

    def _find(self, customer: str, number: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._database.execute(
            "SELECT * FROM orders WHERE number = ? AND customer = ?", (number, customer)
        ).fetchone()
        if row is None:
            raise ToolError(f"this customer has no order {number}")
        return row


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    refunded = row["refunded_cents"]
    return {
        "number": row["number"],
        "article": row["article"],
        "price": _euros(row["cents"]),
        "state": row["state"] if refunded is None else "refunded",
    }


def _euros(cents: int) -> str:
    return f"{cents / 100:.2f} EUR"


@cache
def orders() -> Orders:
    """Return the orders of this server."""
    return Orders(os.environ.get("SUPPORT_DB") or ":memory:")


def _customer(turn: Turn) -> str:
    return turn.principal or "guest"  # never from the model's arguments or the client's metadata


@tool
def list_orders(turn: Turn) -> dict[str, Any]:
    """Return today's date, and the customer's orders with article and price."""
    return {"today": date.today(), "orders": orders().of(_customer(turn))}


@tool(confirm=True, on_interrupt="finish", timeout_s=20)
def refund(turn: Turn, number: str) -> dict[str, Any]:
    """Pay back a delivered order; the program asks the customer for consent.

    Args:
        turn: The turn.
        number: The order's number, such as A-1001.
    """
    return orders().refund(_customer(turn), number)


@tool(confirm=True, on_interrupt="finish", timeout_s=20)
async def book_pickup(turn: Turn, number: str, day: date) -> AsyncGenerator[Any, None]:
    """Book the carrier to fetch a parcel that goes back.

    Args:
        turn: The turn.
        number: The order's number, such as A-1001.
        day: The day, as YYYY-MM-DD.
    """
    async with turn.uninterruptible():
        work = partial(orders().book_pickup, _customer(turn), number, day)
        booked = await turn.tools.run_in_thread(work)
        with suppress(TurnClosed):  # a forced interrupt ends the turn, not the booking
            await turn.emit(turn.status(f"Pickup {booked['pickup']} is booked for {booked['day']}", "check"))
    yield booked


agent: Model = Model(
    "You are the support desk of a furniture shop. Look orders up before you talk about them. Use the tools "
    "for refunds and pickups; never claim that one happened without its result. If a call was interrupted or "
    "not allowed, say so. Answer in at most three sentences.",
    tools=[list_orders, refund, book_pickup],
)
