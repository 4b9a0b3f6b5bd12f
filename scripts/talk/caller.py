"""A caller: a microphone in real time, and a loudspeaker that reports."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bargein_server.voice.interfaces import RATE
from bargein_server.voice.sound import Encoding, Resampler, encoded

from .clips import Samples

PIECE_S = 0.02
QUANTUM_S = 128 / 48_000
REPORT_S = 0.1
_LATE_S = 1.0


class Format(Struct, frozen=True):
    """Format of both directions of a call.

    Args:
        rate: Samples per second.
        encoding: `pcm16` or `mulaw`.
    """

    rate: int = 16_000
    encoding: Encoding = "pcm16"

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample."""
        return 1 if self.encoding == "mulaw" else 2


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


class LineLost(Exception):
    """The server closed the connection, or refused to resume the session."""


class Caller:
    """A caller of a server: one session, over one connection after the other.

    Args:
        url: Where sessions are.
        audio: Format of both directions.
        seed: Seed of the noise of its microphone.

    Attributes:
        events: Events with the time of their arrival; all but numbers that were delivered before.
        format: Format of both directions.
        loudspeaker: Its loudspeaker.
        played_ms: What it had played of each turn when that ended.
        sent: Samples that its microphone sent over the session's life, in its own rate.
        on_event: Called with each event, in order.
    """

    def __init__(self, url: str, audio: Format, seed: int = 1) -> None:
        self.format = audio
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.played_ms: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self.loudspeaker = Loudspeaker(self._loop.time)
        self.sent = 0
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None
        self._url = url
        self._seed = seed
        self._line: ClientConnection | None = None
        self._muted = False
        self._session: dict[str, Any] = {}
        self._cursor = 0
        self._reported = ("", 0)
        self._asked = 0
        self._said: list[tuple[Samples, asyncio.Future[float]]] = []
        self._news = asyncio.Condition()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._line is not None

    async def run(self) -> None:
        """Send, receive and report until cancelled.

        Raises:
            LineLost: The server ended the session.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._receive())
            group.create_task(self._report())

    async def open(self) -> None:
        """Connect, and resume the session if there is one.

        Raises:
            LineLost: The server does not listen, or does not resume the session.
        """
        line = await connect(self._url, subprotocols=["bargein.v1.json"], compression=None, max_size=2**24)  # type: ignore[list-item]
        audio = {"encoding": self.format.encoding, "rate": self.format.rate}
        wanted: dict[str, Any] = {"type": "session.open", "audio": {"input": audio, "output": audio}}
        if known := self._session:
            cursor = {"epoch": known["epoch"], "seq": self._cursor}
            wanted["resume"] = {"session_id": known["session_id"], "token": known["token"], "cursor": cursor}
        await line.send(json.dumps(wanted))
        opened = json.loads(await line.recv())
        if opened.get("audio", {}).get("input") != audio:
            raise LineLost("the server does not listen")
        if known and not opened["resumed"]:
            raise LineLost(f"the session was not resumed: {opened.get('reason')}")
        self._session, self._line = opened, line

    async def drop(self, away_s: float) -> None:
        """Lose the connection, and resume the session after a while.

        Both sides agree on the sound that was sent before: the connection is cut when a `pong` has come,
        and the microphone says nothing in between.
        """
        line, self._muted = self._line, True
        assert line is not None
        try:
            mark = f"p{self._loop.time()}"
            at = self._loop.time()
            await self._put({"type": "ping", "id": mark})
            await self.event("pong", at - 1, 5, id=mark)
            self._line = None
            line.transport.abort()
            await asyncio.sleep(away_s)
            await self.open()
        finally:
            self._muted = False

    async def close(self) -> None:
        """End the session."""
        line, self._muted = self._line, True
        if line is not None:
            with suppress(LineLost):
                await self._put({"type": "session.close"})
            self._line = None
            await line.close()

    async def say(self, sound: Samples) -> float:
        """Play a clip into the microphone; return the time of its first sample."""
        began: asyncio.Future[float] = self._loop.create_future()
        self._said.append((sound, began))
        return await began

    async def ask(self, text: str) -> str:
        """Ask by text; return the id of the input."""
        self._asked += 1
        await self._put({"type": "input.text", "id": f"i{self._asked}", "text": text})
        return f"i{self._asked}"

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
        line = self._line
        if line is not None:
            try:
                await line.send(json.dumps(event))
            except ConnectionClosed as error:
                if line is self._line:
                    raise LineLost(f"the server closed the connection: {error}") from error

    async def _send(self) -> None:
        rng = np.random.default_rng(self._seed)
        piece = int(RATE * PIECE_S)
        resampler = Resampler(RATE, self.format.rate)
        due = self._loop.time()
        while True:
            due += PIECE_S
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if self._loop.time() - due > _LATE_S:
                due = self._loop.time()  # a microphone whose program stalls loses sound
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
            audio = encoded(resampler.resampled(sound), self.format.encoding)
            if audio and self._line is not None and not self._muted:
                self.sent += len(audio) // self.format.sample_bytes
                await self._put({"type": "input.audio", "audio": base64.b64encode(audio).decode()})

    async def _receive(self) -> None:
        while True:
            line = self._line
            if line is None:
                await asyncio.sleep(0.005)
                continue
            try:
                async for message in line:
                    await self._take(json.loads(message))
            except ConnectionClosed:
                pass
            if line is self._line:
                raise LineLost(f"the server closed the connection: {line.close_code} {line.close_reason}")

    async def _take(self, event: dict[str, Any]) -> None:
        now, speaker, kind = self._loop.time(), self.loudspeaker, event["type"]
        self._cursor = event.get("seq", self._cursor)
        if kind == "turn.started":
            speaker.start(event["turn_id"])
        elif kind == "audio.delta" and event["turn_id"] == speaker.turn_id:
            speaker.play(event["duration_ms"])
        elif kind == "turn.held":
            speaker.stop(for_good=False)
            await self._report_played()
        elif kind == "turn.resumed":
            speaker.go_on()
        elif kind == "turn.ended" and event["turn_id"] == speaker.turn_id:
            if event["status"] != "completed":
                speaker.stop(for_good=True)
            self.played_ms[event["turn_id"]] = speaker.played_ms
        self.on_event(event)
        async with self._news:
            self.events.append((now, event))
            self._news.notify_all()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            await self._report_played()

    async def _report_played(self) -> None:
        speaker = self.loudspeaker
        report = (speaker.turn_id, int(speaker.played_ms))
        if speaker.turn_id and report != self._reported and self._line is not None:
            self._reported = report
            await self._put({"type": "playback", "turn_id": report[0], "audio_ms": report[1]})


@asynccontextmanager
async def calling(url: str, audio: Format, seed: int = 1) -> AsyncIterator[Caller]:
    """Call a server."""
    caller = Caller(url, audio, seed)
    await caller.open()
    running = asyncio.create_task(caller.run())
    using = asyncio.current_task()
    assert using is not None
    # A line that the server ends must not leave its user waiting for events.
    running.add_done_callback(lambda task: None if task.cancelled() else using.cancel())
    try:
        yield caller
    except asyncio.CancelledError:
        if running.done() and not running.cancelled() and (error := running.exception()) is not None:
            using.uncancel()
            raise LineLost(str(_first(error))) from error
        raise
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await caller.close()


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
