"""Process with many sessions that interrupt their turns at random.

    python tests/support/crowd.py URL SESSIONS TURNS SEED

Prints as JSON how many turns ended and in which way, how many ended twice, how many hung, and how many
events came after the end of their turn.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
from collections import Counter

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_S = 60.0


async def talk(url: str, turns: int, chance: random.Random, start: asyncio.Event, seen: Counter[str]) -> None:
    """Run one session: ask, then interrupt at random or wait for the end."""
    async with connect(url, compression=None, proxy=None, open_timeout=PATIENCE_S) as socket:
        await socket.send('{"type":"session.open"}')
        await socket.recv()
        seen["open"] += 1
        await start.wait()
        ended: set[str] = set()
        for number in range(turns):
            await turn(socket, number, chance, ended, seen)
        await socket.send('{"type":"session.close"}')
        async for frame in socket:
            count(json.loads(frame), ended, seen)


async def turn(
    socket: ClientConnection, number: int, chance: random.Random, ended: set[str], seen: Counter[str]
) -> None:
    """Ask for a turn, interrupt it at random, and read until its end."""
    await socket.send(json.dumps({"type": "input.text", "id": f"i{number}", "text": "go"}))
    interrupt = json.dumps({"type": "interrupt", "id": f"x{number}", "input_id": f"i{number}"})
    loop = asyncio.get_running_loop()
    at = loop.time() + chance.uniform(0, 1)
    sent, mine = False, None
    while mine not in ended or mine is None:
        left = at - loop.time()
        if not sent and left <= 0:
            await socket.send(interrupt)
            sent = True
        try:
            async with asyncio.timeout(PATIENCE_S if sent else left):
                event = json.loads(await socket.recv())
        except TimeoutError:
            if sent:
                seen["hung"] += 1
                return
            continue
        if event["type"] == "input.accepted":
            mine = event["turn_id"]
        count(event, ended, seen)


def count(event: dict[str, object], ended: set[str], seen: Counter[str]) -> None:
    """Enter an event into the books."""
    turn_id = event.get("turn_id")
    if event["type"] == "turn.ended":
        seen["ended"] += 1
        seen[str(event["status"])] += 1
        seen["twice"] += turn_id in ended
        ended.add(str(turn_id))
    elif turn_id in ended and event["type"] != "interrupt.result":
        seen["stale"] += 1
    elif event["type"] == "text.delta":
        seen["output"] += 1


async def main(url: str, sessions: int, turns: int, seed: int) -> None:
    """Open every session, start all at once, and print the counts."""
    seen: Counter[str] = Counter(hung=0, stale=0, twice=0)
    start = asyncio.Event()
    chance = random.Random(seed)
    tasks = [
        asyncio.create_task(talk(url, turns, random.Random(chance.random()), start, seen))
        for _ in range(sessions)
    ]
    while seen["open"] < sessions and not any(task.done() for task in tasks):
        await asyncio.sleep(0.01)
    start.set()
    await asyncio.gather(*tasks)
    print(json.dumps(seen))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
