"""A caller: a microphone in real time, and a loudspeaker that reports."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect

from bargein_server.voice.interfaces import RATE
from bargein_server.voice.sound import Encoding, Resampler, encoded

from .clips import Samples

PIECE_S = 0.02
QUANTUM_S = 128 / 48_000
_REPORT_S = 0.1


class Format(Struct, frozen=True):
    """Format of both directions of a call.

    Args:
        rate: Samples per second.
        encoding: `pcm16` or `mulaw`.
    """

    rate: int = 16_000
    encoding: Encoding = "pcm16"


class Loudspeaker:
    """Loudspeaker whose position follows the clock.

    Attributes:
        turn_id: Turn whose sound it plays.
        silent_at: Time at which it fell silent last; None while it plays.
        first_at: Time of the first sound of the turn.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.start("")

    def start(self, turn_id: str) -> None:
        """Begin with a turn."""
        self.turn_id = turn_id
        self.given_ms = 0.0
        self.held = False
        self.first_at: float | None = None
        self.silent_at: float | None = self._clock()
        self._played_ms = 0.0
        self._at = self._clock()

    @property
    def played_ms(self) -> float:
        """Played part of the turn."""
        now = self._clock()
        if not self.held:
            self._played_ms = min(self.given_ms, self._played_ms + 1000 * (now - self._at))
        self._at = now
        return self._played_ms

    @property
    def sounds(self) -> bool:
        """Whether sound comes out."""
        return not self.held and self.played_ms < self.given_ms

    def play(self, duration_ms: float) -> None:
        """Take sound."""
        if not self.sounds and not self.held:
            self.silent_at = None
        if self.first_at is None:
            self.first_at = self._clock()
        self.given_ms = max(self.given_ms, self.played_ms) + duration_ms

    def stop(self, *, for_good: bool) -> None:
        """Fall silent within a quantum of the audio system."""
        if self.sounds:
            self.silent_at = self._clock() + QUANTUM_S
        played = self.played_ms
        if for_good:
            self.given_ms = played
        self.held = not for_good

    def go_on(self) -> None:
        """Play on from the same sample."""
        _ = self.played_ms
        self.held, self.silent_at = False, None


class Caller:
    """A caller of a server.

    Attributes:
        events: Events with the time of their arrival.
        loudspeaker: Its loudspeaker.
        played_ms: What it had played of each turn when that ended.
    """

    def __init__(self, socket: ClientConnection, audio: Format) -> None:
        self._socket = socket
        self._format = audio
        self._loop = asyncio.get_running_loop()
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.played_ms: dict[str, float] = {}
        self.loudspeaker = Loudspeaker(self._loop.time)
        self._said: list[tuple[Samples, asyncio.Future[float]]] = []
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Send, receive and report until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._receive())
            group.create_task(self._report())

    async def say(self, sound: Samples) -> float:
        """Play a clip into the microphone; return the time of its first sample."""
        began: asyncio.Future[float] = self._loop.create_future()
        self._said.append((sound, began))
        return await began

    async def ask(self, text: str) -> None:
        """Ask by text."""
        await self._put({"type": "input.text", "id": f"i{self._loop.time()}", "text": text})

    async def event(self, kind: str, after: float, within_s: float, **fields: Any) -> float | None:
        """Return the time of the next event of a kind; None without one."""

        def found() -> float | None:
            for at, event in self.events:
                if at > after and event["type"] == kind and fields.items() <= event.items():
                    return at
            return None

        deadline = self._loop.time() + within_s
        while (at := found()) is None and self._loop.time() < deadline:
            async with self._news:
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._news.wait()
                except TimeoutError:
                    return found()
        return at

    async def _put(self, event: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(event))

    async def _send(self) -> None:
        rng = np.random.default_rng(1)
        piece = int(RATE * PIECE_S)
        resampler = Resampler(RATE, self._format.rate)
        due = self._loop.time()
        while True:
            due += PIECE_S
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            sound = rng.normal(0, 10 ** (-65 / 20), piece).astype(np.float32)
            if self._said:
                said, began = self._said[0]
                if not began.done():
                    # A piece is sent when its last sample was heard.
                    began.set_result(due - PIECE_S)
                part, rest = said[:piece], said[piece:]
                sound[: len(part)] += part
                if len(rest):
                    self._said[0] = (rest, began)
                else:
                    del self._said[0]
            audio = encoded(resampler.resampled(sound), self._format.encoding)
            if audio:
                await self._put({"type": "input.audio", "audio": base64.b64encode(audio).decode()})

    async def _receive(self) -> None:
        async for message in self._socket:
            event = json.loads(message)
            now = self._loop.time()
            speaker, kind = self.loudspeaker, event["type"]
            if kind == "turn.started":
                speaker.start(event["turn_id"])
            elif kind == "audio.delta" and event["turn_id"] == speaker.turn_id:
                speaker.play(event["duration_ms"])
            elif kind == "turn.held":
                speaker.stop(for_good=False)
            elif kind == "turn.resumed":
                speaker.go_on()
            elif kind == "turn.ended" and event["turn_id"] == speaker.turn_id:
                if event["status"] != "completed":
                    speaker.stop(for_good=True)
                self.played_ms[event["turn_id"]] = speaker.played_ms
            async with self._news:
                self.events.append((now, event))
                self._news.notify_all()

    async def _report(self) -> None:
        reported = (-1.0, "")
        while True:
            await asyncio.sleep(_REPORT_S)
            speaker = self.loudspeaker
            report = (speaker.played_ms, speaker.turn_id)
            if speaker.turn_id and report != reported:
                reported = report
                played = int(speaker.played_ms)
                await self._put({"type": "playback", "turn_id": speaker.turn_id, "audio_ms": played})


@asynccontextmanager
async def calling(url: str, audio: Format) -> AsyncIterator[Caller]:
    """Call a server."""
    async with connect(url, subprotocols=["bargein.v1.json"], compression=None, max_size=2**24) as socket:  # type: ignore[list-item]
        fmt = {"encoding": audio.encoding, "rate": audio.rate}
        wanted = {"type": "session.open", "audio": {"input": fmt, "output": fmt}}
        await socket.send(json.dumps(wanted))
        opened = json.loads(await socket.recv())
        assert opened.get("audio", {}).get("input") == fmt, f"the server does not listen: {opened}"
        caller = Caller(socket, audio)
        running = asyncio.create_task(caller.run())
        try:
            yield caller
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
