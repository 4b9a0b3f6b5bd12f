"""One user: arrives, asks, interrupts, loses the connection, reads slowly.

All moments are drawn beforehand from the seed and none waits for the server: one that stalls gets the
same load as one that does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from time import perf_counter

import bargein_protocol as bp
from bargein_protocol.errors import Action, code_of_close

from .figures import Figures
from .options import Options
from .session import LoadSession, LoadTurn
from .websocket import Line, Refused, connect

REDIAL_S = 0.5
"""A lost line is opened again after half to one and a half of this, in seconds."""


class User:
    """One simulated user with a session of its own.

    Args:
        options: What the run is asked for.
        figures: Where everything is counted.
        random: Of this user alone.
    """

    def __init__(self, options: Options, figures: Figures, random: Random) -> None:
        subprotocol = f"bargein.v1.{options.codec}"
        self._options = options
        self._figures = figures
        self._random = random
        self._codec = bp.CODECS[subprotocol]
        self._session = LoadSession(self._codec, figures)
        self._session.slow = random.random() < options.slow
        self._line: Line | None = None
        self._gone = asyncio.Event()
        self._code = 0
        self._dropping = False
        self._over = False

    async def talk(self, comes: float, leaves: float) -> None:
        """Come, talk, and leave when everything has ended or patience has.

        Args:
            comes: When, in the time of `perf_counter`.
            leaves: When to say nothing new any more.
        """
        options, random = self._options, self._random
        await _until(comes)
        connection = asyncio.create_task(self._stay_connected(comes))
        tasks = [asyncio.create_task(self._read_slowly(leaves))] if self._session.slow else []
        speaks = comes + random.random() * options.turn_every_s
        while speaks < leaves:
            await _until(speaks)
            turn = self._session.ask(random.choice(options.texts), speaks, perf_counter())
            if random.random() < options.barge_in:
                cuts_in = speaks + random.random() * options.barge_in_s
                self._at(cuts_in, partial(self._cut_in, turn, cuts_in))
            if random.random() < options.drops:
                self._at(speaks + random.random() * options.turn_every_s, self._drop)
            speaks += options.turn_every_s * random.uniform(0.5, 1.5)
        await _until(leaves)
        try:
            await self._finish()
        finally:
            self._over = True
            self._session.close()
            for task in [*tasks, connection]:
                task.cancel()
            await asyncio.gather(*tasks, connection, return_exceptions=True)
            if self._line is not None:
                self._line.close()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(max(0.0, when - perf_counter()), act)

    def _cut_in(self, turn: LoadTurn, intended: float) -> None:
        if not self._over:
            self._session.interrupt(turn, intended, perf_counter())

    def _drop(self) -> None:
        if self._line is not None and self._session.open and not self._over:
            self._dropping = True
            self._figures.dropped += 1
            self._line.drop()

    async def _read_slowly(self, leaves: float) -> None:
        while perf_counter() < leaves:
            for on in (False, True):
                if self._line is not None:
                    self._line.read(on)
                await asyncio.sleep(self._options.slow_s * self._random.uniform(0.5, 1.5))

    async def _finish(self) -> None:
        """Interrupt the running turns and wait for every end."""
        now = perf_counter()
        for turn in self._session.unfinished():
            turn.dismissed = turn.interrupt_at is None
            self._session.interrupt(turn, now, now)
        patient_until = now + self._options.patience_s
        while not self._session.idle:
            if perf_counter() >= patient_until:
                self._session.give_up(perf_counter())
                return
            await asyncio.sleep(0.02)

    # --- the line --------------------------------------------------------------------------------

    async def _stay_connected(self, due: float) -> None:
        """Keep a connection open until the server asks the client to stay away."""
        options = self._options
        protocol = self._codec.subprotocol
        while not self._over:
            self._gone.clear()
            try:
                line = await connect(
                    options.url, options.headers, protocol, self._session.receive, self._lost
                )
            except Refused as refused:
                self._figures.errors[str(refused)] += 1
            else:
                self._line = line
                self._session.attach(partial(line.send, text=self._codec.text), due)
                await self._gone.wait()
                self._line = None
                if self._count_loss(line):
                    return
            due = perf_counter() + REDIAL_S * self._random.uniform(0.5, 1.5)
            await _until(due)

    def _lost(self, code: int) -> None:
        self._code = code
        self._session.detach(on_purpose=self._dropping)
        self._gone.set()

    def _count_loss(self, line: Line) -> bool:
        """Count an unintended loss; return whether to stay away."""
        on_purpose, self._dropping = self._dropping, False
        if on_purpose or self._over:
            return False
        code = code_of_close(self._code)
        if line.violation is not None:
            self._figures.errors[line.violation] += 1
        else:
            self._figures.errors[f"closed by the server: {code.number} {code.name}"] += 1
        return code.action is Action.STOP


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - perf_counter()))
