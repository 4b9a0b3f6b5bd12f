"""A server with OpenAI's Realtime protocol that does as a test says, and records what it gets.

async with realtime_upstream() as upstream:
    upstream.answers.append(Answer("Hello there.", ms=600))
"""

from __future__ import annotations

import asyncio
import base64
import json
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from time import perf_counter
from typing import Any

from msgspec import Struct
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE = 24_000


class Answer(Struct):
    """An answer of the model.

    Args:
        text: Its words.
        ms: Its sound.
        calls: Function calls: names and arguments.
        hangs: Whether it never ends.
        status: Its status.
    """

    text: str = ""
    ms: int = 0
    calls: tuple[tuple[str, str], ...] = ()
    hangs: bool = False
    status: str = "completed"


class RealtimeUpstream:
    """The server.

    Attributes:
        url: URL of its API.
        answers: Answers to come.
        received: Events of all connections, with the times at which they came.
        connections: Number of connections so far.
        open: Connections that are open.
        heard: Sound that was committed, as PCM16 at 24 kHz.
        headers: Headers of the newest handshake.
        done: Number of responses that are over.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = []
        self.received: list[tuple[float, dict[str, Any]]] = []
        self.connections = 0
        self.open: set[ServerConnection] = set()
        self.heard: list[bytes] = []
        self.headers: Any = {}
        self.done = 0
        self._ids = count(1)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a type."""
        return [event for _, event in self.received if event["type"] == kind]

    def times(self, kind: str) -> list[float]:
        """Return the times of the events of a type."""
        return [at for at, event in self.received if event["type"] == kind]

    def items(self) -> list[tuple[str, str]]:
        """Return the roles and texts of the messages that were created."""
        items = [event["item"] for event in self.of("conversation.item.create")]
        return [(item["role"], item["content"][0]["text"]) for item in items if item["type"] == "message"]

    async def serve(self, socket: ServerConnection) -> None:
        """Serve a connection."""
        self.connections += 1
        self.open.add(socket)
        assert socket.request is not None
        self.headers = socket.request.headers
        running: asyncio.Task[None] | None = None
        buffered = b""
        try:
            await self._send(socket, "session.created", session={})
            async for text in socket:
                event = json.loads(text)
                self.received.append((perf_counter(), event))
                kind = event["type"]
                if kind == "input_audio_buffer.append":
                    buffered += base64.b64decode(event["audio"])
                elif kind == "input_audio_buffer.commit":
                    self.heard.append(buffered)
                    buffered = b""
                elif kind == "response.create":
                    running = asyncio.create_task(self._answer(socket, event))
                elif kind == "response.cancel":
                    if running is None or running.done():
                        error = {"type": "invalid_request_error", "code": "response_cancel_not_active"}
                        await self._send(socket, "error", error=error)
                    elif running is not None:
                        running.cancel()
        except ConnectionClosed:
            pass
        finally:
            self.open.discard(socket)
            if running is not None:
                running.cancel()

    async def _answer(self, socket: ServerConnection, asked: dict[str, Any]) -> None:
        answer, number = self.answers.pop(0), next(self._ids)
        response: dict[str, Any] = {
            "id": f"resp_{number}", "metadata": asked.get("response", {}).get("metadata"), "output": [],
        }  # fmt: skip
        common = {"response_id": response["id"], "item_id": f"item_{number}", "output_index": 0}
        try:
            await self._send(socket, "response.created", response={**response, "status": "in_progress"})
            if "text" in (asked.get("response", {}).get("output_modalities") or ()):
                await self._send(socket, "response.output_text.delta", **common, delta=answer.text)
            else:
                await self._speak(socket, answer, common)
            if answer.hangs:
                await asyncio.sleep(60)
            for index, (name, arguments) in enumerate(answer.calls):
                call_id = f"call_{number}_{index}"
                item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
                response["output"].append(item)
            response["status"] = answer.status
            if answer.status == "failed":
                response["status_details"] = {"error": {"type": "server_error", "code": "broken"}}
            usage = {"input_tokens": 7, "output_tokens": 3}
        except asyncio.CancelledError:
            response["status"], usage = "cancelled", {}
        await self._send(socket, "response.done", response={**response, "usage": usage})
        self.done += 1

    async def _speak(self, socket: ServerConnection, answer: Answer, common: dict[str, Any]) -> None:
        """Send the words before their sound, and faster than it is played."""
        for word in answer.text.split(" "):
            piece = word if word == answer.text.split(" ")[0] else f" {word}"
            await self._send(socket, "response.output_audio_transcript.delta", **common, delta=piece)
        for start in range(0, answer.ms, 200):
            ms = min(200, answer.ms - start)
            pcm = array("h", [8000] * (RATE * ms // 1000)).tobytes()
            delta = base64.b64encode(pcm).decode()
            await self._send(socket, "response.output_audio.delta", **common, delta=delta)

    async def _send(self, socket: ServerConnection, kind: str, **fields: Any) -> None:
        await socket.send(json.dumps({"type": kind, "event_id": f"event_{next(self._ids)}", **fields}))


@asynccontextmanager
async def realtime_upstream() -> AsyncIterator[RealtimeUpstream]:
    """Run the server."""
    upstream = RealtimeUpstream()
    async with serve(upstream.serve, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        upstream.url = f"ws://127.0.0.1:{port}/v1"
        yield upstream
