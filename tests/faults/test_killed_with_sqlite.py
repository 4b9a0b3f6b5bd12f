"""Servers with a SQLite file that are killed at random, hundreds of times, while clients talk and edit.

Clients are those of the library, so that requests which nobody answered are sent again as in applications.
Nothing that was answered is lost, nothing happens twice, and a message that was edited never comes back.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from pathlib import Path

import pytest

import bargein_protocol as bp
from bargein_client import Backoff, ClientSession, ClientTurn, SessionRestarted, connect
from forking_server import Servers, forking

Message = dict[str, object]

TURN_S = 100.0
"""Time for a turn to end over any number of servers; only a failure takes so long."""


class Talker:
    """One client with a conversation: what it was told, held against the history in the end.

    Args:
        name: Its name, which is in each of its inputs.
        session: Its session.
        chance: What it does next.

    Attributes:
        rewinds: Number of its rewinds.
        heard: Number of events that it got.
    """

    def __init__(self, name: str, session: ClientSession, chance: random.Random) -> None:
        self.name = name
        self.rewinds = self.heard = 0
        self._session = session
        self._id = session.id
        self._chance = chance
        self._said: list[tuple[str, ClientTurn]] = []
        self._dropped: list[str] = []
        self._ends: dict[bp.TurnId, int] = {}
        self._restarted: str | None = None
        self._count = 0

    async def listen(self) -> None:
        """Count the ends of turns."""
        async for event in self._session.events():
            self.heard += 1
            if isinstance(event, bp.TurnEnded):
                self._ends[event.turn_id] = self._ends.get(event.turn_id, 0) + 1
            elif isinstance(event, SessionRestarted):
                self._restarted = event.reason

    async def talk(self) -> None:
        """Say something, and let it end, or interrupt it, or edit what was said before."""
        kind = self._chance.choice(["short", "short", "long", "tool"])
        self._count += 1
        text = f"{kind} {self.name} {self._count}."
        if len(self._said) > 1 and self._chance.random() < 0.25:
            place = self._chance.randrange(max(0, len(self._said) - 4), len(self._said))
            turn_id = self._said[place][1].id
            assert turn_id is not None
            rewinding = self._session.rewind(turn_id)
            self._dropped += [said for said, _ in self._said[place:]]
            del self._said[place:]
            turn = self._session.send(text)
            assert turn_id in (await rewinding).turns
            self.rewinds += 1
        else:
            turn = self._session.send(text, on_busy=self._chance.choice(["interrupt", "queue"]))
        self._said.append((text, turn))
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.random() * 0.05)
            await turn.interrupt()
        await turn.accepted()
        if self._chance.random() < 0.9:
            await turn.ended()

    async def history(self) -> list[Message]:
        """Return the history as the agent has it, from a turn that no server's end cut."""
        while True:
            asked = self._session.send("history", on_busy="queue")
            async with asyncio.timeout(TURN_S):
                ended = await asked.ended()
            if ended.status == "completed":
                messages: list[Message] = json.loads(asked.text)
                assert asked.id is not None
                await self._session.rewind(asked.id)
                return messages

    async def check(self, effects: list[str]) -> None:
        """Compare everything that it was told with the history."""
        for _, turn in self._said:
            async with asyncio.timeout(TURN_S):
                await turn.ended()
        messages = await self.history()
        users = [str(message["content"]) for message in messages if message["role"] == "user"]
        answers = "\n".join(str(message["content"]) for message in messages if message["role"] == "assistant")
        calls = [json.dumps(message["tool_calls"]) for message in messages if "tool_calls" in message]
        assert self._restarted is None
        assert self._session.id == self._id
        assert not [turn_id for turn_id, count in self._ends.items() if count > 1]
        assert [text for text in users if text in self._dropped] == []
        assert len(users) == len(set(users))
        for text, turn in self._said:
            end = turn.end
            assert end is not None
            if end.status == "completed":
                assert text in users, f"{text!r} was answered, and is lost"
                assert turn.text in answers, f"the answer to {text!r} is lost: {turn.text!r}"
            count = sum(f'"{text}"' in call.replace('\\\\"', '"').replace('\\"', '"') for call in calls)
            assert effects.count(text) <= 1, f"the tool of {text!r} ran twice"
            assert count == effects.count(text) or (count == 1 and end.status != "completed"), (
                f"the tool of {text!r} took effect {effects.count(text)} times, and the history has {count}"
            )


async def _kill_at_random(servers: Servers, talkers: list[Talker], kills: int, chance: random.Random) -> None:
    """Kill each server while it starts, restores its sessions or serves turns."""
    for _ in range(kills):
        before = sum(talker.heard for talker in talkers)
        serves = chance.random() < 0.8
        while serves and sum(talker.heard for talker in talkers) == before:
            await asyncio.sleep(0.001)
        await asyncio.sleep(chance.choice([0.01, 0.05, 0.2]) * chance.random())
        await servers.kill()
        await servers.start()


async def _killed_at_random(folder: Path, seed: int, kills: int, clients: int) -> None:
    chance = random.Random(seed)
    hasty = Backoff(base_s=0.01, cap_s=0.05)
    async with forking("sqlite:///kept.db", folder) as servers:
        await servers.start()
        sessions = [connect(servers.url, backoff=hasty) for _ in range(clients)]
        opened = [await session.__aenter__() for session in sessions]
        talkers = [Talker(f"c{n}", each, random.Random(f"{seed} {n}")) for n, each in enumerate(opened)]
        listening = [asyncio.create_task(talker.listen()) for talker in talkers]
        await _talk(servers, talkers, kills, chance)
        path = folder / "effects"
        effects = path.read_text().splitlines() if path.exists() else []
        for talker in talkers:
            await talker.check(effects)
        before = [await talker.history() for talker in talkers]
        await servers.kill()
        with sqlite3.connect(folder / "kept.db") as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        await servers.start()
        assert [await talker.history() for talker in talkers] == before
        assert servers.killed == kills + 1
        assert sum(talker.rewinds for talker in talkers)
        for task in listening:
            task.cancel()
        for session in sessions:
            await session.__aexit__(None, None, None)


async def _talk(servers: Servers, talkers: list[Talker], kills: int, chance: random.Random) -> None:
    """Let all talk until the last server was killed."""
    async with asyncio.TaskGroup() as group:
        killing = group.create_task(_kill_at_random(servers, talkers, kills, chance))

        async def go_on(talker: Talker) -> None:
            while not killing.done():
                async with asyncio.timeout(TURN_S):
                    await talker.talk()

        for talker in talkers:
            group.create_task(go_on(talker))


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_that_was_answered_is_lost_or_doubled(tmp_path: Path, seed: int) -> None:
    """Twenty servers, three clients."""
    await _killed_at_random(tmp_path, seed, 20, 3)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2, *(pytest.param(seed, marks=pytest.mark.weekly) for seed in range(3, 7))])
async def test_nothing_is_lost_over_hundreds_of_servers(tmp_path: Path, seed: int) -> None:
    """The same with two hundred servers each, and more clients."""
    await _killed_at_random(tmp_path, seed, 200, 5)
