"""A turn of which the text waits for other sessions' turn to write, on a scheduler that the test drives.

scene = DeferredTurn(monkeypatch)
scene.send("text")          # waits
scene.scheduler.write()     # is written
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from bargein_protocol import AgentOutput, Numbered, TextDelta
from bargein_server import Output, Turn
from bargein_server.hosting import host as host_module
from bargein_server.hosting import registry as registry_module
from bargein_server.hosting.pacing import Deferred, FlushScheduler
from memory_client import Line, serve


class HandScheduler(FlushScheduler):
    """Defers when the test says so, and writes when the test says so.

    Attributes:
        deferring: Whether text must wait.
        waiting: The sessions with text that waits.
    """

    deferring = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.waiting: list[Deferred] = []

    def defers(self, session: Deferred, now: float) -> bool:
        if self.deferring:
            self.waiting.append(session)
        return self.deferring

    def write(self) -> list[bool]:
        """Let those that wait write, as one of the loop's next iterations does."""
        waiting, self.waiting = self.waiting, []
        return [session.write_deferred() for session in waiting]


async def waits(turn: Turn) -> AsyncIterator[Output]:
    """Lets the test speak in its place."""
    await asyncio.Event().wait()
    yield "never"


class DeferredTurn:
    """A client that has read the first words of a turn; what the turn adds is deferred."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
        self._clock = 1000.0
        monkeypatch.setattr(host_module, "perf_counter", lambda: self._clock)
        monkeypatch.setattr(registry_module, "FlushScheduler", HandScheduler)
        self.line = Line(serve(waits, **settings))
        self.scheduler = cast(HandScheduler, self.line.sessions.flush_scheduler)
        self.turn = self.line.ask()
        [self.host] = self.line.sessions
        assert self.send("all ")
        assert self.send("of ")
        self.scheduler.deferring = True

    def send(self, output: str | AgentOutput) -> bool | None:
        """Do what the runner does with an output that trickles."""
        self._clock += 1.0
        return self.host.send_output(self.turn, output, self._clock)

    def gush(self, output: str | AgentOutput) -> bool | None:
        """Do the same with one that comes right after the one before."""
        return self.host.send_output(self.turn, output, self._clock)

    def numbers(self) -> list[int]:
        return [event.seq for event in self.line.events if isinstance(event, Numbered) and event.seq]

    def text(self) -> str:
        return "".join(self.line.texts())

    def check(self) -> None:
        """Numbers follow one another, and nothing of the turn follows its end."""
        assert self.numbers() == list(range(1, len(self.numbers()) + 1))
        for end in self.line.ends():
            assert end.last_seq < end.seq
            assert not [
                event
                for event in self.line.events
                if isinstance(event, TextDelta) and event.turn_id == end.turn_id and event.seq > end.seq
            ]
