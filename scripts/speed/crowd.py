"""Many clients of either server on one event loop, so cheap that the server is what is timed.

Nothing is decoded: a frame is told by its first bytes. Checking is for the load test.
"""

from __future__ import annotations

import asyncio
import json
from random import Random
from time import perf_counter

from loadgen.histogram import Histogram
from loadgen.websocket import Line, dial

from .servers import FLOOR, Served

TURN_S = 2.0
"""A client cuts its turn off so often on average, and asks for the next at once."""
PATIENCE_S = 60.0
_TOKEN, _END = b'{"type":"text.delta"', b'{"type":"turn.ended"'


class Client:
    """One client: starts turns and stops them.

    Attributes:
        tokens: How many came.
        first_token_at: When the first one of the last turn came.
        ended_at: When the last end came.
    """

    def __init__(self, server: Served) -> None:
        self.tokens = 0
        self.ended_at = 0.0
        self.first_token_at = 0.0
        self._floor = server.name == FLOOR
        self._url = server.url
        self._turn = 0
        self._first: asyncio.Future[None] | None = None
        self._end: asyncio.Future[None] | None = None
        self._line: Line | None = None

    async def connect(self) -> None:
        """Open the line."""
        self._line = await dial(
            self._url, {}, "bargein.v1.json" if not self._floor else "", self._take, _ignore
        )
        if not self._floor:
            self._send({"type": "session.open"})

    def close(self) -> None:
        """End the session, or its turn would go on without us, and the line."""
        if self._line is not None:
            if not self._floor:
                self._send({"type": "session.close"})
            self._line.close()

    def _take(self, frame: bytes, now: float) -> None:
        if frame.startswith(_TOKEN):
            self.tokens += 1
            if self._first is not None:
                self.first_token_at = now
                self._first.set_result(None)
                self._first = None
        elif frame.startswith(_END) and self._end is not None:
            self.ended_at = now
            self._end.set_result(None)
            self._end = None

    async def turn(self, text: str) -> None:
        """Ask for a turn and wait for its end."""
        ended = self._await_end()
        self._ask(text)
        await ended

    async def first_token(self, text: str) -> float:
        """Ask for a turn; returns the seconds to its first token."""
        self._first = first = asyncio.get_running_loop().create_future()
        asked = perf_counter()
        self._ask(text)
        await first
        return self.first_token_at - asked

    async def stop(self) -> float:
        """Interrupt the turn; returns the seconds to its end."""
        ended = self._await_end()
        asked = perf_counter()
        if self._floor:
            self._send("stop")
        else:
            self._send({"type": "interrupt", "id": f"x{self._turn}", "input_id": f"i{self._turn}"})
        await ended
        return self.ended_at - asked

    def _await_end(self) -> asyncio.Future[None]:
        self._end = ended = asyncio.get_running_loop().create_future()
        return ended

    def _ask(self, text: str) -> None:
        self._turn += 1
        if self._floor:
            self._send(text)
        else:
            self._send({"type": "input.text", "id": f"i{self._turn}", "text": text})

    def _send(self, event: dict[str, str] | str) -> None:
        assert self._line is not None
        self._line.send((event if isinstance(event, str) else json.dumps(event)).encode(), text=True)


def _ignore(code: int) -> None:
    pass


class Crowd:
    """Clients of one server.

    Attributes:
        ended: Interrupt → end.
        again: Interrupt → first token of the next turn.
        first: Input → first token.
    """

    def __init__(self, server: Served, size: int) -> None:
        self.clients = [Client(server) for _ in range(size)]
        self.ended, self.again, self.first = Histogram(), Histogram(), Histogram()

    async def __aenter__(self) -> Crowd:
        async with asyncio.timeout(PATIENCE_S):
            for client in self.clients:
                await client.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self.clients:
            client.close()

    @property
    def tokens(self) -> int:
        """How many tokens came to all of them."""
        return sum(client.tokens for client in self.clients)

    async def start(self, text: str) -> None:
        """Let everyone begin a turn, at random phases."""
        random = Random(1)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(_begin(client, text, random.random()))

    async def barge_in(self, text: str, seconds: float) -> None:
        """Let everyone cut turns off at random moments and begin the next."""
        until = perf_counter() + seconds
        async with asyncio.timeout(seconds + PATIENCE_S), asyncio.TaskGroup() as tasks:
            for n, client in enumerate(self.clients):
                tasks.create_task(self._interrupt(client, text, until, Random(n)))

    async def _interrupt(self, client: Client, text: str, until: float, random: Random) -> None:
        pause = min(TURN_S, max(0.05, TURN_S * len(self.clients) / 100))  # a few clients cut in more often
        while True:
            wait = pause * random.uniform(0.5, 1.5)
            if perf_counter() + wait > until:
                return
            await asyncio.sleep(wait)
            began = perf_counter()
            self.ended.record(await client.stop())
            self.first.record(await client.first_token(text))
            self.again.record(client.first_token_at - began)

    async def all_say(self, text: str) -> None:
        """Let everyone have one turn to its end."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(client.turn(text))


async def _begin(client: Client, text: str, after: float) -> None:
    await asyncio.sleep(after)
    await client.first_token(text)
