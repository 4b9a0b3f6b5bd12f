"""Servers that are killed in the middle of turns and started again, with a store.

Every client resumes its own session, nothing that was answered is lost, and every turn has one honest end.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_client import Backoff, connect
from client_script import patiently, until
from processes import ServerProcess, server
from resuming_customer import AGENT, Customer
from valkey_process import valkey


async def _talk_and_be_cut_off(customer: Customer, process: ServerProcess, killed: asyncio.Event) -> str:
    """Ask something short, then something long; return the long turn, in which the server dies."""
    client = await customer.come(process.port)
    try:
        await customer.ask(client, f"short {customer.name}")
        await customer.until(client, "turn.ended")
        turn = await customer.ask(client, "long")
        with suppress(ConnectionClosed):
            await customer.until(client, "turn.ended")
            raise AssertionError("the turn ended before the server was killed")
        await killed.wait()
        return turn
    finally:
        client.socket.transport.abort()


async def _check(customer: Customer, process: ServerProcess, lost: list[str]) -> None:
    """The session is whole: the ends are honest, and the next turn knows what was heard."""
    client = await customer.come(process.port)
    try:
        for turn in lost:
            assert customer.turns[turn]["end"] == ("failed", "node_lost"), customer.turns[turn]
            # 100 ms of output at 200 words a second, and as much again for a machine that is busy
            assert customer.turns[turn].get("taken_back", 0) <= 5 * 80
        asked = await customer.ask(client, "history")
        await customer.until(client, "turn.ended", turn_id=asked)
        messages = json.loads(customer.turns[asked]["text"])
        users = [message["content"] for message in messages if message["role"] == "user"]
        assert users.count(f"short {customer.name}") >= len(lost)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        assert sum(answer == f"answer to short {customer.name}" for answer in answers) >= len(lost)
        for turn in lost:
            assert customer.turns[turn]["text"], "all of the output was lost"
            heard = customer.turns[turn]["text"].rstrip() + " [interrupted]"
            assert heard in answers, (heard[-60:], [answer[-60:] for answer in answers])
        assert customer.fresh == 1
    finally:
        client.socket.transport.abort()


async def _twice(folder: Path, count: int, store: str = "sqlite:///kept.db") -> None:
    (folder / "agents.py").write_text(AGENT)
    customers = [Customer(f"c{number}") for number in range(count)]
    lost: dict[str, list[str]] = {customer.name: [] for customer in customers}
    options = ("--store", store, "--max-client-share", "1")
    async with asyncio.timeout(60 + 3 * count):
        for kills in (1, 2):
            async with server("agents:talk", folder, *options) as process:
                killed = asyncio.Event()
                talks = [
                    asyncio.create_task(_talk_and_be_cut_off(each, process, killed)) for each in customers
                ]
                while not all(each.long_turns == kills for each in customers):
                    await asyncio.sleep(0.02)
                    for talk in talks:
                        if talk.done():
                            talk.result()
                await process.kill()
                killed.set()
                for customer, turn in zip(customers, await asyncio.gather(*talks), strict=True):
                    lost[customer.name].append(turn)
        async with server("agents:talk", folder, *options) as process:
            await asyncio.gather(*(_check(each, process, lost[each.name]) for each in customers))


async def test_every_client_resumes_after_two_kills_in_mid_turn(tmp_path: Path) -> None:
    """Ten clients; what was answered is there, and what ran has failed with `node_lost`."""
    await _twice(tmp_path, 10)


@pytest.mark.needs("valkey")
async def test_every_client_resumes_through_a_server_of_stores(tmp_path: Path) -> None:
    """The same with Valkey: nothing is on the disk of the process that takes over."""
    async with valkey(tmp_path / "valkey") as store:
        await _twice(tmp_path, 10, store.url)


async def test_the_client_goes_on_in_its_session(tmp_path: Path) -> None:
    """The library resumes by itself: the turn has failed and may be asked again, and nothing else is lost."""
    (tmp_path / "agents.py").write_text(AGENT)
    options = ("--store", "sqlite:///kept.db")
    async with server("agents:talk", tmp_path, *options) as first:
        async with connect(first.url, backoff=Backoff(base_s=0.05, cap_s=0.2)) as session:
            short = session.send("short question")
            assert (await patiently(short.ended())).status == "completed"
            turn = session.send("long")
            await until(lambda: turn.text.count("long") > 60)
            session_id = session.id
            await first.kill()
            pending = session.send("short, while nobody was there")
            async with server("agents:talk", tmp_path, *options, port=first.port):
                ended = await patiently(turn.ended())
                assert (ended.status, ended.reason, ended.retryable) == ("failed", "node_lost", True)
                assert (await patiently(pending.ended())).status == "completed"
                assert session.id == session_id
                history = session.send("history")
                await patiently(history.ended())
                contents = [message["content"] for message in json.loads(history.text)]
                assert contents[:2] == ["short question", "answer to short question"]
                assert contents[3].startswith("long long")
                assert contents[3].endswith(" [interrupted]")


@pytest.mark.nightly
async def test_a_hundred_clients_resume_after_two_kills_in_mid_turn(tmp_path: Path) -> None:
    """The same under load."""
    await _twice(tmp_path, 100)
