"""Plain client of the HTTP side, without code of the Python client.

async with posting(server, "/v1/turns", {"text": "hello"}) as stream:
    opened = await stream.until("session.opened")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx2

from live_server import Frame, Serving
from waiting import WAIT_S


@dataclass(frozen=True)
class Message:
    """One block of a stream.

    Attributes:
        kind: Its `event:`; empty for a comment.
        id: Its `id:`, None without one.
        data: Its `data:` as JSON, or the comment's text.
    """

    kind: str
    id: str | None
    data: Any


class Stream:
    """An event stream that is open.

    Attributes:
        messages: What was received, oldest first.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.messages: list[Message] = []
        self._blocks = _blocks(response)

    @property
    def frames(self) -> list[Frame]:
        """The events that were received."""
        return [message.data for message in self.messages if message.kind and message.kind != "close"]

    async def receive(self) -> Message | None:
        """Return the next block, None at the end."""
        async with asyncio.timeout(WAIT_S):
            message = await anext(self._blocks, None)
        if message is not None:
            self.messages.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> Frame:
        """Return the next event of this type with these fields."""
        while (message := await self.receive()) is not None:
            if message.kind == kind and all(
                message.data.get(name) == value for name, value in fields.items()
            ):
                frame: Frame = message.data
                return frame
        raise AssertionError(f"the stream ended without {kind}: {self.messages}")

    async def end(self) -> list[Frame]:
        """Read to the end; returns all events."""
        while await self.receive() is not None:
            pass
        return self.frames


async def _blocks(response: httpx2.Response) -> AsyncIterator[Message]:
    lines: list[str] = []
    async for line in response.aiter_lines():
        if line:
            lines.append(line)
        elif lines:
            yield _message(lines)
            lines = []
    assert not lines, "the stream ended in the middle of an event"


def _message(lines: list[str]) -> Message:
    fields = dict(line.partition(": ")[::2] for line in lines)
    if list(fields) == [""]:
        return Message("", None, fields[""])
    assert list(fields) in (["event", "data"], ["id", "event", "data"])
    return Message(fields["event"], fields.get("id"), json.loads(fields["data"]))


class Http:
    """A client of one server."""

    def __init__(self, server: Serving, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.base = f"http://127.0.0.1:{server.port}"

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Ask, and return the whole answer. Bytes go as they are."""
        async with asyncio.timeout(WAIT_S):
            return await self.client.request(
                method, self.base + path, content=_content(body), headers=_headers(body, headers)
            )

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Send a POST, and return the whole answer."""
        return await self.request("POST", path, body, headers)

    @asynccontextmanager
    async def stream(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """Open an event stream: a POST with a body, else a GET."""
        method = "GET" if body is None else "POST"
        async with self.client.stream(
            method, self.base + path, content=_content(body), headers=_headers(body, headers)
        ) as response:
            yield Stream(response)


def _content(body: Any) -> bytes | None:
    return body if isinstance(body, bytes) or body is None else json.dumps(body).encode()


def _headers(body: Any, headers: Mapping[str, str] | None) -> dict[str, str]:
    return ({} if body is None else {"Content-Type": "application/json"}) | dict(headers or {})


@asynccontextmanager
async def http(server: Serving) -> AsyncIterator[Http]:
    """Return a client of a server that serves."""
    async with httpx2.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # tests send them by hand
        yield Http(server, client)
