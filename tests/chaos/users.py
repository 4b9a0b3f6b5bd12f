"""Users who talk, interrupt, leave and come back at any node, and check everything that they see."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from time import perf_counter
from typing import Any

from msgspec import Struct, field
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bargein_server.hosting.restoring import PATIENCE_S
from live_server import RawClient
from resuming_customer import Customer

HUNG_S = PATIENCE_S + 5.0
"""Time without anything after which a user counts as hung; heartbeats count as something. Servers answer a
resume within `PATIENCE_S`, also when their store is away again and again."""


class Hung(AssertionError):
    """A user waited for too long."""


KEPT_TURNS = 100
"""Turns of a user that the history of the server must still have."""

AWAY = (ConnectionClosed, InvalidHandshake, OSError, EOFError)


class Report(Struct):
    """What all users have seen.

    Args:
        events: Number of numbered events.
        ends: Turns by status and reason.
        resumed: Number of resumes.
        snapshots: Number of those with a snapshot.
        lost: Sessions that could not be resumed, by reason.
        wrong: Descriptions of broken rules.
        waits: Seconds from the loss of a line to the resume.
        silences: Longest time without an event while a turn ran, for each turn.
        interrupts: Seconds from an interrupt to the end of its turn.
        taken_back: Characters that snapshots took back.
        own_ends: Turns that the user saw interrupted and the store did not.
        say: Prints a line when a session is lost.
    """

    events: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    snapshots: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    interrupts: list[float] = field(default_factory=list)
    taken_back: int = 0
    own_ends: int = 0
    say: Callable[[str], None] | None = None


class User(Customer):
    """One user.

    Args:
        name: Its name.
        urls: Where the nodes serve sessions.
        random: Source of its decisions.
        report: Where it reports.
        silence_s: Time without anything after which it goes to another node, without the end of its line.
    """

    def __init__(
        self, name: str, urls: list[str], random: Random, report: Report, silence_s: float = 2 * HUNG_S
    ) -> None:
        super().__init__(name)
        self._urls, self._random, self._report, self._silence_s = urls, random, report, silence_s
        self._gone_at: float | None = None
        self._asked = 0
        self._answered: list[str] = []  # texts whose answers it has
        self._interrupted: set[str] = set()
        self._unsent: dict[str, str] = {}  # inputs of which it does not know whether they arrived

    async def live(self, over: asyncio.Event) -> None:
        """Talk until it is over, then check the history."""
        while not over.is_set():
            try:
                await self._visit(over)
            except AWAY:
                if self._gone_at is None:
                    self._gone_at = perf_counter()
                await asyncio.sleep(self._random.uniform(0.02, 0.2))
            except AssertionError as error:
                self._wrong(error)
                return
        await self._check()

    def _wrong(self, error: BaseException) -> None:
        self._report.wrong.append(f"{self.name}: {type(error).__name__} {str(error)[:400]}")

    async def _check(self) -> None:
        for _ in range(100):
            try:
                client = await self._come()
                await self._settle(client)
                turn = await self.ask(client, "history")
                await self.until(client, "turn.ended", turn_id=turn)
                messages = json.loads(self.turns[turn]["text"])
                answers = {each["content"] for each in messages if each["role"] == "assistant"}
                for text in self._answered[-KEPT_TURNS:]:
                    assert f"answer to {text}" in answers, f"the answer to {text} is not in the history"
                await client.socket.close()
                return None
            except AWAY:
                await asyncio.sleep(0.1)
            except (AssertionError, ValueError) as error:
                return self._wrong(error)
        return self._wrong(AssertionError("no server let it in at the end"))

    # --- coming and going ------------------------------------------------------------------------

    async def _come(self) -> RawClient:
        url = self._random.choice(self._urls)
        socket = await dial(url, subprotocols=["bargein.v1.json"], proxy=None, open_timeout=2)  # type: ignore[list-item]
        client = RawClient(socket)
        try:
            await self._open(client)
        except BaseException:
            client.socket.transport.abort()
            raise
        if self._gone_at is not None:
            self._report.waits.append(perf_counter() - self._gone_at)
            self._gone_at = None
        return client

    async def _open(self, client: RawClient) -> None:
        opening: dict[str, Any] = {"type": "session.open"}
        if self.opened:
            cursor = {"epoch": self.opened["epoch"], "seq": self.seq}
            opening["resume"] = {
                "session_id": self.opened["session_id"], "token": self.opened["token"], "cursor": cursor,
            }  # fmt: skip
        await client.send(opening)
        opened = await self._receive(client, "session.opened")
        assert opened["type"] == "session.opened", opened
        if self.opened and not opened["resumed"]:
            self._report.lost[opened.get("reason", "?")] += 1
            if self._report.say is not None:
                self._report.say(f"{self.name} lost {self.opened['session_id']}: {opened.get('reason')}")
            self.seq, self.turns, self._answered = 0, {}, []
            self._unsent.clear()
        elif self.opened:
            self._report.resumed += 1
            before, self.opened = self.snapshots, opened
            await self.until(client, "replay.done")
            self._report.snapshots += self.snapshots - before
            return
        self.opened = opened

    async def _visit(self, over: asyncio.Event) -> None:
        client = await self._come()
        try:
            await self._settle(client)
            for _ in range(self._random.randrange(1, 8)):
                if over.is_set():
                    break
                if self._random.random() < 0.5:
                    await self._ask_shortly(client)
                else:
                    await self._ask_at_length(client)
                await asyncio.sleep(self._random.expovariate(1 / 0.2))
        finally:
            client.socket.transport.abort()  # without a word, as lines break

    async def _settle(self, client: RawClient) -> None:
        """Send what may not have arrived, and wait for the ends of all turns."""
        known = {turn["input"] for turn in self.turns.values()}
        for input_id, text in list(self._unsent.items()):
            if input_id not in known:
                await client.send({"type": "input.text", "id": input_id, "text": text, "on_busy": "queue"})
                await self.until(client, "input.accepted", input_id=input_id)
            del self._unsent[input_id]
        for turn_id in [turn_id for turn_id, turn in self.turns.items() if "end" not in turn]:
            turn = self.turns[turn_id]
            await client.send({"type": "interrupt", "id": f"x{turn_id}", "turn_id": turn_id})
            self._interrupted.add(turn_id)
            while "end" not in turn:
                await self.until(client, "turn.ended")

    # --- talking ---------------------------------------------------------------------------------

    async def ask(self, client: RawClient, text: str) -> str:
        """Send an input; return the id of its turn once it was accepted."""
        self._asked += 1
        input_id = f"i{self._asked}"
        self._unsent[input_id] = text
        await client.send({"type": "input.text", "id": input_id, "text": text})
        accepted = await self.until(client, "input.accepted", input_id=input_id)
        del self._unsent[input_id]
        return str(accepted["turn_id"])

    async def _ask_shortly(self, client: RawClient) -> None:
        text = f"short {self.name} {self._asked}"
        turn = await self.ask(client, text)
        await self.until(client, "turn.ended", turn_id=turn)
        if self.turns[turn]["end"][0] == "completed":
            assert self.turns[turn]["text"] == f"answer to {text}", self.turns[turn]
            self._answered.append(text)

    async def _ask_at_length(self, client: RawClient) -> None:
        turn = await self.ask(client, "long")
        words = self._random.randrange(5, 150)
        while "end" not in self.turns[turn] and self.turns[turn]["text"].count("long") < words:
            await self.until(client, "text.delta")
        if self._random.random() < 0.2:
            return  # it leaves in the middle
        began = perf_counter()
        self._interrupted.add(turn)
        await client.send({"type": "interrupt", "id": f"x{turn}", "turn_id": turn})
        await self.until(client, "turn.ended", turn_id=turn)
        self._report.interrupts.append(perf_counter() - began)

    async def _receive(self, client: RawClient, kind: str) -> dict[str, Any]:
        try:
            return await client.receive(min(self._silence_s, HUNG_S))
        except TimeoutError:
            if self._silence_s < HUNG_S:
                raise ConnectionAbortedError from None
            raise Hung(f"heard nothing for {HUNG_S:g} s while it waited for {kind}") from None

    async def until(self, client: RawClient, kind: str, **fields: Any) -> dict[str, Any]:
        """Take events until one of a kind."""
        began = perf_counter()
        while True:
            asked = perf_counter()
            event = await self._receive(client, kind)
            if asked - began > 2 * HUNG_S:
                raise Hung(f"waited for {kind} {fields}")
            if event["type"] == "input.rejected":  # by a server that drains
                self._unsent.pop(event["input_id"], None)
                raise ConnectionAbortedError
            if any("end" not in turn for turn in self.turns.values()):
                self._report.silences.append(perf_counter() - asked)
            self._take(event)
            if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
                return event

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "snapshot":
            for state in event["turns"]:
                turn = self.turns.get(state["turn_id"])
                saw = turn.get("end", ("",))[0] if turn is not None else ""
                told = state.get("status", "interrupted")
                if saw == "interrupted" != told and state["turn_id"] in self._interrupted:
                    # It saw the answer to its interrupt, and the store did not: both keep their ends.
                    self._report.own_ends += 1
                    self.turns[state["turn_id"]]["end"] = (told, state["reason"])
        super()._take(event)
        if event["type"] == "snapshot":
            taken_back = [turn.pop("taken_back", 0) for turn in self.turns.values()]
            self._report.taken_back += sum(max(0, size) for size in taken_back)
        if event.get("seq"):
            self._report.events += 1
            if event["type"] == "turn.ended":
                self._report.ends[f"{event['status']} {event['reason']}"] += 1
