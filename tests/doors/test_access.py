"""Access to the doors: every kind of authenticator, slow bodies, and clients that leave early."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from bargein_server import AccessRequest
from door_agent import play
from live_server import Serving, serving
from sse_client import http
from waiting import until

PATHS = ("/v1/chat/completions", "/api/chat", "/v1/ag-ui", "/v1/realtime/client_secrets")
DOORS = ("chat", "ai-sdk", "ag-ui", "realtime")

SAID = [{"id": "m", "role": "user", "content": "hello", "parts": [{"type": "text", "text": "hello"}]}]
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/api/chat": {"id": "c", "messages": SAID},
    "/v1/ag-ui": {"threadId": "t", "runId": "r", "messages": [{**SAID[0], "parts": None}]},
    "/v1/realtime/client_secrets": {"session": {"type": "realtime"}},
}


@pytest.mark.parametrize("path", PATHS)
async def test_an_async_authenticator(path: str) -> None:
    """It is asked before the body is read, with a token or by anything else in the request."""

    async def check(request: AccessRequest) -> str | None:
        await asyncio.sleep(0)
        return "ann" if request.credential == "secret" or request.headers.get("x-user") == "ann" else None

    async with serving(play, doors=list(DOORS), authenticator=check) as server, http(server) as client:
        for headers, status in (
            ({"Authorization": "Bearer secret"}, 200),
            ({"X-User": "ann"}, 200),
            ({"Authorization": "Bearer wrong"}, 401),
            ({}, 401),
        ):
            response = await client.post(path, BODIES[path], headers)
            assert response.status_code == status, (headers, response.text)
        if path == "/v1/chat/completions":
            found = await client.request("GET", "/v1/models", None, {"X-User": "ann"})
            assert found.status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_stranger_sends_no_body(path: str) -> None:
    """The refusal comes while the body is still on its way."""

    async def nobody(request: AccessRequest) -> str | None:
        return None

    async with serving(play, doors=list(DOORS), authenticator=nobody) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head(server, path, 1_000_000))
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()


def head(server: Serving, path: str, length: int) -> bytes:
    """Return the head of a request."""
    lines = (
        f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Content-Type: application/json",
        f"Content-Length: {length}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves_early(path: str) -> None:
    """Whenever it leaves, in the body or while it is checked, its place is free again."""
    asked = asyncio.Event()

    async def slow(request: AccessRequest) -> str | None:
        if request.headers.get("x-slow") is not None:
            asked.set()
            await asyncio.sleep(0.02)
        return "ann"

    limits: dict[str, Any] = {"max_connections_per_address": 2, "max_connections": 2}
    async with serving(play, doors=list(DOORS), authenticator=slow, **limits) as server:
        body = json.dumps(BODIES[path]).encode()
        for slow_header in (b"", b"X-Slow: 1\r\n"):
            for cut in (0, 1, len(body) - 1):
                asked.clear()
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                start = head(server, path, len(body)).removesuffix(b"\r\n") + slow_header + b"\r\n"
                writer.write(start + body[:cut])
                if slow_header:
                    async with asyncio.timeout(10):
                        await asked.wait()
                else:
                    await asyncio.sleep(0.02)
                writer.transport.abort()
                await asyncio.sleep(0.05)
        async with http(server) as client:

            async def served() -> bool:
                return (await client.post(path, BODIES[path])).status_code == 200

            async with asyncio.timeout(10):
                while not await served():
                    await asyncio.sleep(0.05)
        await until(lambda: not any(host.core.busy for host in server.sessions), "no turn")


@pytest.mark.parametrize("path", ["/api/chat", "/v1/realtime"])
async def test_a_client_that_leaves_its_handshake(path: str) -> None:
    """Its check ends with it, as at the server's own socket."""
    checking = 0

    async def slow(request: AccessRequest) -> str | None:
        nonlocal checking
        checking += 1
        try:
            await asyncio.Event().wait()
            return None
        finally:
            checking -= 1

    async with serving(play, authenticator=slow, doors=["ai-sdk", "realtime"]) as server:
        url = f"ws://127.0.0.1:{server.port}{path}"
        entering = asyncio.ensure_future(
            connect(url, additional_headers={"Authorization": "Bearer k"}).__aenter__()
        )
        await until(lambda: checking == 1, "the check")
        entering.cancel()
        await until(lambda: checking == 0, "its end")
