"""Requests that take memory, connections or places and give nothing for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bargein_protocol.json_scan import structure_fault
from bargein_server import BearerTokens
from bargein_server.endpoints import call
from bargein_server.guard.admission import Admission
from live_server import Serving, echo, serving
from raw_websocket import Raw, raw, rest
from sse_client import http
from waiting import WAIT_S, in_virtual_time, until

MIB = 1024 * 1024
JSON_BODY = "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
SECRET = BearerTokens({"secret": "ann"})


def admission(server: Serving) -> Admission:
    found: Admission = server.app.state.admission
    return found


async def status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(WAIT_S):
        return int((await reader.readuntil(b"\r\n")).split()[1])


@pytest.mark.parametrize(
    "path",
    ["/v1/batch", "/v1/sessions/s_none/interrupt", "/v1/sessions/s_none/events"],
)
async def test_a_credential_in_the_head_is_asked_for_before_the_body(path: str) -> None:
    """Nothing of the body is needed to refuse it."""
    async with serving(echo, authenticator=SECRET) as server:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n" + JSON_BODY.format(4 * MIB)
        async with raw(server, head) as (reader, _):
            assert await status(reader) == 401
        assert admission(server).bodies.held == 0


async def test_a_body_that_is_too_large_is_refused_by_its_length() -> None:
    """Before the first byte of it."""
    async with serving(echo) as server:
        for length in (str(4 * MIB + 1), "9" * 5000):
            head = "POST /v1/batch HTTP/1.1\r\nHost: x\r\n" + JSON_BODY.format(length)
            async with raw(server, head) as (reader, _):
                assert await status(reader) in (400, 413)


async def test_clients_without_a_credential_hold_a_quarter_of_the_bytes() -> None:
    """A credential may be in the body, so some of it must be read; others are not kept from their turns."""
    async with (
        serving(echo, authenticator=SECRET, max_body_bytes=4096, max_client_share=1) as server,
        http(server) as client,
        AsyncExitStack() as stack,
    ):
        head = "POST /v1/turns HTTP/1.1\r\nHost: x\r\n" + JSON_BODY.format(2000)
        readers = [(await stack.enter_async_context(raw(server, head + " " * 500)))[0] for _ in range(3)]
        done, _ = await asyncio.wait(
            [asyncio.create_task(status(reader)) for reader in readers], return_when=asyncio.FIRST_COMPLETED
        )
        assert [task.result() for task in done] == [503]
        assert admission(server).bodies.held == 1000
        ann = {"Authorization": "Bearer secret"}
        assert (await client.post("/v1/turns", {"text": "x" * 2000}, ann)).status_code == 200
        await stack.aclose()
        await until(lambda: admission(server).bodies.held == 0, "the end of the bodies")


async def test_one_large_body_is_decoded_in_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes milliseconds; small ones do not wait for them."""
    iteration = 0
    decoded: dict[bool, list[int]] = {True: [], False: []}

    def record(body: bytes, most: int | None) -> str | None:
        decoded[len(body) > call.LARGE_BODY_BYTES].append(iteration)
        return structure_fault(body, most)

    async def count() -> None:
        nonlocal iteration
        while True:
            iteration += 1
            await asyncio.sleep(0)

    monkeypatch.setattr("bargein_server.endpoints.call.structure_fault", record)
    counting = asyncio.create_task(count())
    async with serving(echo) as server, http(server) as client:
        large, small = {"text": "x" * 20_000}, {"text": "x"}
        answers = await asyncio.gather(*(client.post("/v1/turns", body) for body in [large, small] * 4))
        assert [answer.status_code for answer in answers] == [200] * 8
    counting.cancel()
    assert len(set(decoded[True])) == len(decoded[True]) == 4
    assert len(decoded[False]) == 4


HEALTH = "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


async def test_a_connection_is_closed_after_an_answer_whose_request_body_was_not_read() -> None:
    """One byte of it does not keep the connection; the rest that comes does not reset it either."""
    async with serving(echo) as server, raw(server, HEALTH) as (reader, writer):
        assert await status(reader) == 200
        writer.write(b"x")
        ending = asyncio.create_task(rest(reader))
        ended, _ = await asyncio.wait([ending], timeout=WAIT_S / 2)
        ending.cancel()
        assert ended
        assert ending.result().endswith(b'{"status":"ok"}')
        await until(lambda: not server.server.server_state.connections, "the end")


async def test_a_body_that_comes_with_its_head_keeps_the_connection() -> None:
    """It was read, if not by the application."""
    async with serving(echo) as server, raw(server, HEALTH + "x" * 10) as (reader, writer):
        for _ in range(2):
            assert await status(reader) == 200
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b'{"status":"ok"}')
            writer.write(HEALTH.encode() + b"x" * 10)


@pytest.mark.virtual_time
async def test_an_unfinished_body_that_nobody_reads_ends_in_time() -> None:
    """An endpoint without a body streams for as long as its client is there, but not with half a request."""
    async with serving(echo, request_body_s=5) as server, http(server) as client:
        async with client.stream("/v1/sessions", {"type": "session.open"}) as stream:
            opened = await stream.until("session.opened")
            head = (
                f"GET /v1/sessions/{opened['session_id']}/events HTTP/1.1\r\nHost: x\r\n"
                f"Bargein-Session-Token: {opened['token']}\r\nContent-Length: 10\r\n\r\n"
            )
            async with raw(server, head) as (reader, _):
                assert await status(reader) == 200
                started = asyncio.get_running_loop().time()
                await rest(reader)
                assert asyncio.get_running_loop().time() - started < 10


async def test_bytes_that_are_not_http_end_a_response_that_has_begun(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no place for a 400 in it, and no exception reaches the event loop."""
    async with serving(echo) as server, http(server) as client:
        async with client.stream("/v1/sessions", {"type": "session.open"}) as stream:
            opened = await stream.until("session.opened")
            head = (
                f"GET /v1/sessions/{opened['session_id']}/events HTTP/1.1\r\nHost: x\r\n"
                f"Bargein-Session-Token: {opened['token']}\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            async with raw(server, head) as (reader, writer):
                assert await status(reader) == 200
                writer.write(b"no chunk\r\n")
                assert b"HTTP/1.1" not in await rest(reader)
    assert caplog.records == []


@pytest.mark.virtual_time
async def test_a_response_that_nobody_reads_ends_in_time() -> None:
    """On every platform; Linux has a bound of its own in TCP."""
    async with serving(echo, stalled_s=7) as server:
        async with raw(server, "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200) as (reader, _):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: server.server.server_state.connections, "the connection")
            await in_virtual_time(lambda: not server.server.server_state.connections, "the end")


@pytest.mark.parametrize("head", [HEALTH, "", "GET / HTTP/1.1\r\nHo"])
async def test_connections_are_counted_where_they_are_accepted(head: str) -> None:
    """Whatever they ask for, or do not; a few beyond the limit get an answer, all others 503 at once."""
    async with serving(echo, max_connections=4) as server, AsyncExitStack() as stack:
        sockets: Any = server.server.config.http
        lines: list[Raw] = [await stack.enter_async_context(raw(server, head)) for _ in range(40)]
        refusals = await asyncio.gather(*(rest(reader) for reader, _ in lines[12:]))
        assert {refusal.split(b"\r\n")[0] for refusal in refusals} == {b"HTTP/1.1 503 Service Unavailable"}
        await until(lambda: len(server.server.server_state.connections) == 12, "the end of the others")
        assert len(sockets.sockets) == 12
        await stack.aclose()
        await until(lambda: len(sockets.sockets) == 0, "the end of all")


async def test_a_websocket_is_one_connection_until_it_is_lost() -> None:
    """The socket is let go where it was counted, whatever protocol it has by then."""
    async with serving(echo, max_connections=4) as server:
        sockets: Any = server.server.config.http
        async with server.connect() as client:
            await client.send({"type": "session.open"})
            await client.receive()
            assert len(sockets.sockets) == 1
        await until(lambda: not server.server.server_state.connections, "the end")
        assert len(sockets.sockets) == 0
