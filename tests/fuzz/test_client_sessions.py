"""A session of the Python client whose servers send any event in any order, connection after connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from itertools import count
from typing import Any

import pytest

import bargein_protocol as bp
from bargein_client import BargeinError, ClientSession, Environment
from bargein_client.backoff import Backoff
from bargein_client.core import ClientCore
from bargein_client.errors import ChannelClosed, ServerViolation
from hostile_conversation import BOUNDS, Conversation
from seeded_fuzzing import Target, day_and_night
from virtual_time import JumpingSelector

STEPS = 60
PATIENCE_S = 3600


class Script:
    """Channel that receives the events of a script and then is closed."""

    last_received_at = 0.0

    def __init__(self, frames: list[str]) -> None:
        self._frames = frames

    async def send(self, event: bp.ClientEvent) -> None:
        bp.JSON.encode(event)

    async def receive(self) -> bp.ServerEvent | bp.UnknownEvent:
        self.last_received_at = asyncio.get_running_loop().time()
        await asyncio.sleep(0)
        if not self._frames:
            raise ChannelClosed(bp.errors.ABNORMAL, "the script is over")
        try:
            return bp.JSON.decode_server(self._frames.pop(0).encode())
        except bp.DecodeError as error:
            raise ServerViolation(str(error)) from None

    def abort(self) -> None: ...

    async def wait_closed(self) -> None: ...


class Scripts:
    """Connections of a session, one script each; after the last one the server denies access."""

    def __init__(self, steps: list[Any]) -> None:
        self._scripts: list[list[str]] = []
        for name, *arguments in steps:
            if name == "attach":
                self._scripts.append([])
            elif name == "event" and self._scripts:
                self._scripts[-1] += arguments

    async def connect(self) -> Script:
        if not self._scripts:
            raise ChannelClosed(bp.errors.FORBIDDEN, "no script is left")
        return Script(self._scripts.pop(0))


async def read(turn: Any) -> None:
    async for _ in turn:
        await asyncio.sleep(0)


async def converse(data: bytes) -> None:
    """Ask and interrupt while the scripts run; everything that waits has an end."""
    steps = [json.loads(step) for step in data.splitlines()]
    loop = asyncio.get_running_loop()
    inputs, interrupts = count(1), count(1)
    asks = True
    environment = Environment(
        new_id=lambda: f"in_{next(inputs)}" if asks else f"x_{next(interrupts)}",
        random=lambda: 0.5,
        clock=loop.time,
    )
    session = ClientSession(
        "ws://localhost/v1/session", Scripts(steps).connect, ClientCore(bounds=BOUNDS), environment,
        backoff=Backoff(), give_up_after_s=600,
    )  # fmt: skip
    waiting: list[Awaitable[Any]] = []
    try:
        await session._open()
        for step, _ in zip(range(4), steps, strict=False):
            asks = True
            turn = session.send("x", on_busy=("queue", None, "interrupt", "reject")[step])
            waiting += map(asyncio.ensure_future, (turn.accepted(), turn.ended(), read(turn)))
            await asyncio.sleep(step)
            asks = False
            waiting.append(asyncio.ensure_future(turn.interrupt()))
            await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(session.closed()))
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE_S)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, BargeinError):
                raise result
    except BargeinError:
        await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        await asyncio.wait_for(session.close(), PATIENCE_S)
    runner = session._runner
    assert runner is not None
    assert runner.cancelled() or runner.exception() is None


@day_and_night
@pytest.mark.virtual_time
async def test_a_session(night: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results or errors of the client for all that waits, and no other exception."""
    monkeypatch.setattr(JumpingSelector, "real_wait_s", 0)
    target = Target("core", night)
    inputs = [*target.inputs(0)]
    inputs += (Conversation(target.chance).encoded(STEPS) for _ in range(1500 if night else 150))
    for data in inputs:
        try:
            await converse(data)
        except Exception as error:
            target.fail(data, error)
