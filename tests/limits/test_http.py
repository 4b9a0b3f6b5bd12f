"""The limits of the HTTP side: at each a request passes, one past it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_server import Output, Turn
from bargein_server.guard.admission import Admission
from bargein_server.guard.limits import AddressRates
from live_server import Serving, serving
from raw_websocket import raw, rest
from sse_client import http
from waiting import until

LITTLE = 0.01
BODY = '{"inputs": [{"text": "0"}]}'
POST = (
    "POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)


def admission(server: Serving) -> Admission:
    """Return the admission of a server."""
    found: Admission = server.app.state.admission
    return found


async def answering(turn: Turn) -> AsyncIterator[Output]:
    """Says one word, after so many seconds as it was told."""
    await asyncio.sleep(float(turn.text))
    yield "done"


def batch(*seconds: float, **fields: Any) -> dict[str, Any]:
    return {"inputs": [{"text": str(s)} for s in seconds], **fields}


def test_max_requests_per_s() -> None:
    """Twice as many at once, then so many in a second, of each address."""
    rates = AddressRates(10, 10**9)
    for address in ("one", "another"):
        assert [rates.take(address, 0.0) for _ in range(20)] == [True] * 20
        assert not rates.take(address, 0.0)
        assert [rates.take(address, 1.0) for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
async def test_max_batch_inputs(more: int, status: int) -> None:
    """One more input is refused, and nothing is begun."""
    async with serving(answering, max_batch_inputs=3) as server, http(server) as client:
        assert (await client.post("/v1/batch", batch(*[0.0] * (3 + more)))).status_code == status


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
async def test_max_batch_bytes(more: int, status: int) -> None:
    """One byte more is refused."""
    bare = len(json.dumps(batch(0.0, x="")))
    async with serving(answering, max_batch_bytes=2048) as server, http(server) as client:
        body = json.dumps(batch(0.0, x="x" * (2048 - bare + more)))
        assert len(body) == 2048 + more
        answer = await client.post("/v1/batch", body.encode())
        assert answer.status_code == status


async def test_max_batch_concurrency() -> None:
    """So many are answered at a time, whatever was asked for."""
    running = most = 0

    async def counting(turn: Turn) -> AsyncIterator[Output]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        yield "done"

    async with serving(counting, max_batch_concurrency=3) as server, http(server) as client:
        await client.post("/v1/batch", batch(*[0.0] * 10, concurrency=4))
    assert most == 3


@pytest.mark.virtual_time
async def test_batch_item_s() -> None:
    """An input that takes longer fails; the others do not."""
    async with serving(answering, batch_item_s=1) as server, http(server) as client:
        answer = await client.post("/v1/batch", batch(1 - LITTLE, 1 + LITTLE))
        assert [result["reason"] for result in answer.json()["results"]] == ["completed", "timeout"]


@pytest.mark.virtual_time
async def test_batch_s() -> None:
    """What has no result by then fails; what has one keeps it."""
    limits: dict[str, Any] = {"batch_s": 2, "max_batch_concurrency": 1}
    async with serving(answering, **limits) as server, http(server) as client:
        answer = await client.post("/v1/batch", batch(1, 0.9, 0.2))
        reasons = [result["reason"] for result in answer.json()["results"]]
        assert reasons == ["completed", "completed", "timeout"]


@pytest.mark.virtual_time
async def test_request_body_s() -> None:
    """A body that is not complete by then is answered with 408, and the connection is closed."""
    async with serving(answering, request_body_s=2) as server:
        for wait, status in ((2 - LITTLE, b"200"), (2 + LITTLE, b"408")):
            async with raw(server, POST.format(len(BODY)) + BODY[:5]) as (reader, writer):
                await asyncio.sleep(wait)
                writer.write(BODY[5:].encode())
                assert (await rest(reader)).split()[1] == status


async def test_max_body_bytes() -> None:
    """So many bytes of unfinished bodies are held; one more is refused, and room is made by their end."""
    async with serving(answering, max_body_bytes=4096, max_client_share=1) as server, http(server) as client:
        async with raw(server, POST.format(10_000) + "x" * 4000):
            await until(lambda: admission(server).bodies.held == 4000, "the unfinished body")
            assert (
                await client.post("/v1/batch", (" " * 60 + json.dumps(batch(0))).encode())
            ).status_code == 200
            await until(lambda: len(admission(server).connections) == 1, "the end of the batch")
            assert admission(server).bodies.held == 4000
            answer = await client.post("/v1/batch", b" " * 97)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        await until(lambda: admission(server).bodies.held == 0, "the end of the body")
