"""A phone at Twilio Media Streams, as Twilio's documentation describes it.

Its buffer plays when the test lets it: `play` takes a duration. A mark comes back when all sound before it
was played, or when a `clear` has emptied the buffer.

async with ringing(serving) as phone:
    await phone.say(silence(200), spoken("hello", 500), silence(700))
    await phone.listen(lambda: phone.played_ms > 500)
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bargein_server.voice.sound import decoded, encoded
from live_server import Serving

FRAME = 160
"""Bytes of 20 ms."""
STREAM, CALL, ACCOUNT = "MZ" + "0" * 32, "CA" + "1" * 32, "AC" + "2" * 32


class Phone:
    """A call that was answered.

    Attributes:
        heard: Sound that was played, as μ-law.
        clears: Number of `clear` messages.
        marks: Names of the marks that were sent.
        closed: Set when the server has hung up.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.heard = b""
        self.clears = 0
        self.marks: list[str] = []
        self.closed = asyncio.Event()
        self._socket = socket
        self._buffer: deque[bytes | str] = deque()
        self._chunk = self._sequence = 0

    @property
    def played_ms(self) -> int:
        """Duration of the sound that was played."""
        return len(self.heard) // 8

    @property
    def waiting_ms(self) -> int:
        """Duration of the sound in the buffer."""
        return sum(len(each) for each in self._buffer if isinstance(each, bytes)) // 8

    async def send(self, event: str, **body: Any) -> None:
        """Send a message with its number."""
        self._sequence += 1
        message = {"event": event, "sequenceNumber": str(self._sequence), "streamSid": STREAM, **body}
        await self._socket.send(json.dumps(message))

    async def start(self, **parameters: str) -> None:
        """Send `connected` and `start`."""
        await self._socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {
            "streamSid": STREAM, "accountSid": ACCOUNT, "callSid": CALL, "tracks": ["inbound"],
            "mediaFormat": form, "customParameters": parameters,
        }  # fmt: skip
        await self.send("start", start=start)

    async def say(self, *sounds: bytes) -> None:
        """Send PCM16 at 16 kHz as μ-law, in frames of 20 ms.

        Every second sample is taken, so the sound must have no fine structure.
        """
        sound = encoded(decoded(b"".join(sounds), "pcm16")[::2], "mulaw")
        for at in range(0, len(sound), FRAME):
            self._chunk += 1
            payload = base64.b64encode(sound[at : at + FRAME]).decode()
            stamp = str(20 * (self._chunk - 1))
            media = {"track": "inbound", "chunk": str(self._chunk), "timestamp": stamp, "payload": payload}
            await self.send("media", media=media)

    async def press(self, digit: str) -> None:
        """Press a key."""
        await self.send("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    async def hang_up(self) -> None:
        """End the call."""
        await self.send("stop", stop={"accountSid": ACCOUNT, "callSid": CALL})

    async def play(self, ms: int) -> None:
        """Let the loudspeaker play; return the marks that it reaches."""
        left = 8 * ms
        while self._buffer and (left > 0 or isinstance(self._buffer[0], str)):
            first = self._buffer.popleft()
            if isinstance(first, str):
                await self.send("mark", mark={"name": first})
                continue
            self.heard += first[:left]
            if len(first) > left:
                self._buffer.appendleft(first[left:])
            left -= min(left, len(first))

    async def listen(self, until: Callable[[], bool], seconds: float = 10.0) -> None:
        """Play as fast as sound comes, until a condition holds."""
        async with asyncio.timeout(seconds):
            while not until():
                await self.play(20)
                await asyncio.sleep(0.002)

    async def wait(self, until: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for a condition without playing."""
        async with asyncio.timeout(seconds):
            while not until():
                await asyncio.sleep(0.002)

    def levels(self) -> list[int]:
        """Return the values of the sound that was heard, runs of the same as one."""
        values = np.rint(decoded(self.heard, "mulaw") * 32768).astype(int)
        return [int(value) for n, value in enumerate(values) if n == 0 or values[n - 1] != value]

    async def read(self) -> None:
        """Read messages until the server hangs up."""
        try:
            async for text in self._socket:
                message = json.loads(text)
                assert message["streamSid"] == STREAM
                if message["event"] == "media":
                    assert list(message["media"]) == ["payload"]
                    self._buffer.append(base64.b64decode(message["media"]["payload"], validate=True))
                elif message["event"] == "mark":
                    self.marks.append(message["mark"]["name"])
                    self._buffer.append(message["mark"]["name"])
                else:
                    assert message["event"] == "clear"
                    self.clears += 1
                    names = [each for each in self._buffer if isinstance(each, str)]
                    self._buffer.clear()
                    for name in names:
                        await self.send("mark", mark={"name": name})
        except ConnectionClosed:
            pass
        finally:
            self.closed.set()

    @property
    def close_code(self) -> int | None:
        """Code with which the server has hung up."""
        return self._socket.close_code


@asynccontextmanager
async def ringing(
    served: Serving, headers: Mapping[str, str] | None = None, **parameters: str
) -> AsyncIterator[Phone]:
    """Call a server; `parameters` are those of the TwiML."""
    url = f"ws://127.0.0.1:{served.port}/v1/twilio"
    async with connect(url, additional_headers=headers, compression=None) as socket:
        phone = Phone(socket)
        reading = asyncio.create_task(phone.read())
        await phone.start(**parameters)
        try:
            yield phone
        finally:
            await socket.close()
            await reading
