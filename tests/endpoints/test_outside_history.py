"""An application's own history: it seeds a session, and gets every turn that has ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_server import EndedTurn, Output, SessionContext, Turn
from live_server import ask, echo, serving
from waiting import until

BEFORE = [
    {"role": "user", "content": "my name is Ann"},
    {"role": "assistant", "content": "Hello Ann"},
]


class Database:
    """What an application has.

    Attributes:
        saved: The turns that were saved.
    """

    def __init__(self, before: list[dict[str, Any]] | None = None) -> None:
        self.before = BEFORE if before is None else before
        self.loads = 0
        self.saved: list[EndedTurn] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False

    async def load(self, session: SessionContext) -> list[dict[str, Any]]:
        """Return what was said before."""
        self.loads += 1
        await self.go_on.wait()
        if self.fails:
            raise ConnectionError("the database is away")
        return self.before

    async def save(self, session: SessionContext, turn: EndedTurn) -> None:
        """Remember a turn; the first takes longer than the others."""
        if not self.saved:
            await asyncio.sleep(0.02)
        if self.fails:
            raise ConnectionError("the database is away")
        self.saved.append(turn)


async def test_a_session_begins_with_what_was_said_before() -> None:
    """Once; later turns come after it."""
    database = Database()
    async with serving(echo, history=database) as server, server.connect() as client:
        await ask(client, "who am I?")
        ended = await client.until("turn.ended")
        assert json.loads(ended["heard"]["text"].partition("|")[2]) == BEFORE
        await ask(client, "and now?", "i2")
        ended = await client.until("turn.ended")
        seen = json.loads(ended["heard"]["text"].partition("|")[2])
        assert seen[:3] == [*BEFORE, {"role": "user", "content": "who am I?"}]
        assert database.loads == 1


async def test_every_turn_is_saved_in_order_with_what_was_heard() -> None:
    """Completed and interrupted ones."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield f"answer to {turn.text}"
        if turn.text == "long":
            await asyncio.Event().wait()

    database = Database([])
    async with serving(agent, history=database) as server, server.connect() as client:
        await ask(client, "short")
        await client.until("turn.ended")
        turn = await ask(client, "long", "i2")
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        await until(lambda: len(database.saved) == 2, "both turns")
    one, two = database.saved
    assert (one.input.text, one.status, one.heard) == ("short", "completed", "answer to short")
    assert (two.turn_id, two.status, two.reason) == (turn, "interrupted", "client")
    assert two.messages == [
        {"role": "user", "content": "long"},
        {"role": "assistant", "content": "answer to long"},
    ]


async def test_a_slow_database_can_be_interrupted_and_is_asked_again() -> None:
    """The agent has not run."""
    database = Database()
    database.go_on.clear()
    async with serving(echo, history=database) as server, server.connect() as client:
        turn = await ask(client, "hello")
        await until(lambda: database.loads == 1, "the load")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        ended = await client.until("turn.ended")
        assert ended["status"] == "interrupted"
        database.go_on.set()
        await ask(client, "again", "i2")
        ended = await client.until("turn.ended")
        assert "Hello Ann" in ended["heard"]["text"]


async def test_a_failing_database_fails_the_turn_and_not_the_session() -> None:
    """The next turn asks it again; what cannot be saved is logged."""
    database = Database()
    database.fails = True
    async with serving(echo, history=database) as server, server.connect() as client:
        await ask(client, "hello")
        ended = await client.until("turn.ended")
        assert (ended["status"], ended["reason"]) == ("failed", "agent_error")
        database.fails = False
        await ask(client, "again", "i2")
        ended = await client.until("turn.ended")
        assert ended["status"] == "completed"
        assert database.loads == 2


async def test_the_front_of_it_is_dropped_first() -> None:
    """A bounded history keeps whole exchanges from the end."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield json.dumps(turn.history.messages(max_tokens=40, count_tokens=lambda text: len(text.split())))

    before = [{"role": role, "content": f"{n} " * 8} for n in range(3) for role in ("user", "assistant")]
    async with serving(agent, history=Database(before)) as server, server.connect() as client:
        await ask(client, "now")
        ended = await client.until("turn.ended")
        contents = [message["content"] for message in json.loads(ended["heard"]["text"])]
        assert contents == ["2 " * 8, "2 " * 8, "now"]


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        ([{"content": "no role"}], "to return messages with a role"),
        ([1, None], "to return messages with a role"),
        (None, "to return a list of messages, got NoneType"),
        ({"role": "user"}, "to return a list of messages, got dict"),
        ("hello", "to return a list of messages, got str"),
    ],
)
async def test_something_else_than_messages_fails_the_turn(
    loaded: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what was expected."""
    database = Database()
    database.before = loaded
    async with serving(echo, history=database) as server, server.connect() as client:
        await ask(client, "hello")
        ended = await client.until("turn.ended")
    assert (ended["status"], ended["reason"]) == ("failed", "agent_error")
    assert f"expected load() {said}" in caplog.text


@pytest.mark.parametrize("leaving", [SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_a_save_that_wants_to_leave_is_an_error_of_one_turn(
    leaving: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends no server and no conversation, and the log names the turn."""

    class Leaving(Database):
        async def save(self, session: SessionContext, turn: EndedTurn) -> None:
            raise leaving

    async with serving(echo, history=Leaving()) as server, server.connect() as client:
        await ask(client, "hello")
        ended = await client.until("turn.ended")
        await ask(client, "again", "i2")
        assert (await client.until("turn.ended"))["status"] == "completed"
        await until(lambda: f"turn {ended['turn_id']} was not saved" in caplog.text)
