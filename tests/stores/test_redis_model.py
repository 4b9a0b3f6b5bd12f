"""The model of a Redis server passes the suite of the interface, and answers as a real Valkey does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bargein_protocol import SessionId
from bargein_server.stores import redis_scripts as scripts
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_link import Command, RedisLink, call_of
from bargein_server.stores.redis_rows import arguments, keys_of
from bargein_server.stores.redis_store import SCRIPTS, RedisStore
from modelled_store import ModelledLink, modelled
from redis_model import RedisModel
from store_suite import *  # noqa: F403  # the tests
from store_suite import T1, T2, MakeStore, first, later, piece, turn
from ticket_suite import *  # noqa: F403  # the tests
from ticket_suite import ONE
from valkey_process import valkey

IDS = [SessionId(f"s_{number}") for number in range(3)]
FENCES = ["1.a", "2.b", "3.a"]


@pytest.fixture
def make_store() -> MakeStore:
    """Return stores of one model."""
    model = RedisModel(lambda: 0.0)
    return lambda: modelled(RedisStore(RedisAddress((("model", 1),)), 1000.0), model)


def _write(random: Random, session_id: SessionId) -> Command:
    fields: dict[str, Any] = {"seq": random.randrange(20)}
    if random.random() < 0.5:
        fields["turns"] = [(each, random.randrange(9), turn(each)) for each in (T1, T2)][
            : random.randint(1, 2)
        ]
    if random.random() < 0.3:
        fields["dropped"] = [random.choice([T1, T2])]
    if random.random() < 0.3:
        fields["ended"] = [random.choice([T1, T2])]
    if random.random() < 0.3:
        fields["replies"] = [(f"r{random.randrange(5)}", b"{}")]
    if random.random() < 0.6:
        fields["pieces"] = [piece(random.randrange(20), "word", random.choice([T1, T2]))]
    if random.random() < 0.3:
        write = first(session_id, random.choice([None, "ann"]), float(random.randrange(50)), **fields)
    else:
        follows, fence = random.randrange(4), random.choice(FENCES)
        write = later(follows, session_id, fence, random.random() < 0.2, **fields)
    return call_of(scripts.WRITE, keys_of("m:", session_id), *arguments(write, 60_000))


def _command(random: Random) -> Command:
    session_id = random.choice(IDS)
    keys = keys_of("m:", session_id)
    nodes = [f"m:{kind}" for kind in ("lease", "mark", "rollback", "asked", "address")]
    score = random.choice(["-inf", "+inf", "10", "(10", "20", "(20"])
    drawn: list[Command] = [
        call_of(scripts.READ, keys),
        call_of(scripts.CLAIM, keys, random.choice(FENCES), random.randrange(4), random.choice(FENCES)),
        call_of(scripts.DELETE, keys, random.choice([0, 60_000]), random.choice(["", "15.0"])),
        call_of(scripts.TOUCH, keys, repr(float(random.randrange(50))), 60_000),
        call_of(scripts.SUMMARY, keys),
        call_of(scripts.USE, ("m:all", "m:ann"), repr(float(random.randrange(30))), session_id, 60_000),
        call_of(
            scripts.BEAT, nodes, random.randrange(3), random.randrange(4), "there", 60_000, 60_000, 60_000
        ),
        call_of(scripts.ASK, ("m:asked",), f"request {random.randrange(9)}", 60_000),
        ("ZREM", "m:all", session_id),
        ("ZRANGEBYSCORE", "m:all", "-inf", score, "LIMIT", random.randrange(2), 2),
        ("ZREVRANGEBYSCORE", "m:all", score, "-inf", "LIMIT", 0, 2),
        ("SET", "m:answer", "yes", "PX", 60_000),
        ("GET", "m:answer"),
        ("DEL", "m:answer", "m:lease"),
    ]
    return random.choice([*drawn, *(_write(random, session_id) for _ in range(12))])


def _timeless(answer: Any) -> Any:
    """Return an answer without times of its server, and the fields of a hash in any order."""
    if isinstance(answer, list):
        if len(answer) == 4 and isinstance(answer[0], int):  # of a beat
            return [answer[0], bool(answer[1]), [row.partition(b" ")[2] for row in answer[3]]]
        if len(answer) == 4 and isinstance(answer[0], list):  # of a session
            return [answer[0][:6], sorted(answer[1]), answer[2], answer[3]]
    return answer


@pytest.mark.needs("valkey")
@pytest.mark.parametrize("seed", range(4))
async def test_the_model_answers_as_a_server_does(tmp_path: Path, seed: int) -> None:
    """Whatever commands the store makes, in any order."""
    random, now = Random(seed), [1000.0]
    model = RedisModel(lambda: now[0])
    async with valkey(tmp_path / "valkey") as server:
        address = RedisAddress((("127.0.0.1", server.port),))
        connector = address.connector()
        link = RedisLink(connector.make, SCRIPTS, str(address))
        for _ in range(1500):
            command = _command(random)
            now[0] += 1e-3
            [answer] = await link.call([command])
            assert _timeless(model.call(command)) == _timeless(answer), command
        await link.close()
        await connector.close()
        keys = {key.decode() for key in await server.do("KEYS", "*")}
        assert set(model.keys()) == keys
        assert set(model.expiries) >= keys


class _SlowLink(ModelledLink):
    """Connection on which others come between the commands of a pipeline."""

    def __init__(self, model: RedisModel) -> None:
        super().__init__(model)
        self._model = model

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers."""
        answers = []
        for command in commands:
            answers.append(self._model.call(command))
            await asyncio.sleep(0)
        return answers


async def test_a_ticket_that_two_servers_read_is_for_one() -> None:
    """For the one that deletes it."""
    model = RedisModel(lambda: 0.0)
    stores = [RedisStore(RedisAddress((("model", 1),)), 1000.0) for _ in range(3)]
    for store in stores:
        store._writer = store._reader = _SlowLink(model)  # type: ignore[assignment]
    await stores[0].keep_ticket(ONE, b"content", 30.0)
    taken = await asyncio.gather(*(store.take_ticket(ONE) for store in stores))
    assert sorted(taken, key=lambda each: each is None) == [b"content", None, None]
